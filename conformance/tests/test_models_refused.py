"""What the zoo refuses: inputs that do not fit, widths and variants that do not exist."""

from __future__ import annotations

import math

import pytest

from snnx import CLIF, DSR, BatchNorm, ShapeError, flatten
from snnx.models import MODELS


def test_a_recurrent_layer_needs_a_neuron():
    with pytest.raises(TypeError, match="shd: a recurrent layer needs a Neuron, not DSR"):
        MODELS["shd"](neuron=DSR.leaky())
    with pytest.raises(TypeError, match="for 240 features it gives None"):
        MODELS["shd"](neuron=lambda features: None)
    assert isinstance(flatten(MODELS["medlydb"]()).spiking[0].attributes["neuron"], CLIF)


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("vgg11_dsr", {"input": (8, 8, 2)}, r"layer \d+ AvgPool2d: kernel 2 does not fit into 1"),
        ("resnet19", {"input": (700,)}, r"layer 1 Conv2d: expects H, W, C"),
        (
            "resnet18_dspike",
            {"input": (20, 20, 3)},
            r"layer \d+ Residual: body gives .* skip gives",
        ),
        ("cifarnet", {"head": "code", "input": (3,)}, r"layer 1 Conv2d: expects H, W, C"),
        ("mnist_toy", {"input": (2, 2, 1), "padding": False}, r"layer 1 Conv2d: kernel 3"),
    ],
)
def test_an_input_that_does_not_fit_is_named_with_its_layer(name, variant, message):
    with pytest.raises(ShapeError, match=message):
        flatten(MODELS[name](**variant))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MODELS["resnet19"](width=0.0), r"width must be in \(0, 64\]"),
        (lambda: MODELS["preact_resnet"](depth=18), r"depth is 6 n \+ 2"),
        (lambda: MODELS["cifarnet"](head="vote"), r'head is "wu" or "code"'),
        (lambda: MODELS["vgg13_asgl"](plan="paper"), r'plan is "code" or "standard"'),
        (lambda: MODELS["spiking_resnet34"](stem="max"), r'stem is "wide" or "deep"'),
        (lambda: BatchNorm(init=math.inf), r"init must be finite"),
    ],
)
def test_a_wrong_choice_is_refused_when_the_model_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()
