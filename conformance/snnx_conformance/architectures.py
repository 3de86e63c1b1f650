"""Every architecture of `snnx.models`, small: is it wired alike on every backend?

Width, input and batch are about the smallest at which every spiking layer fires and every norm
has values enough that its variance is a number and not noise: at least two features in a layer,
since the gradient of a single weight before a norm is exactly 0, and 1 x 1 maps only where batch
and time make up for it.

In smooth mode a norm hands on rounding errors relative to the spread of its input, and a steep
step enlarges them again: with the papers' neurons gradients of float32 are off by 3e-4 in the 13
layers of VGG-16 and by 4e-2 in the 33 of Spiking-ResNet-34, NumPy's like the other backends'.
So all but the shallow nets fire with a wider step, at which these errors add up and do not
multiply. What is compared here is the wiring; neurons and surrogates have their samples at the
level ops. Thresholds lie within reach of what a norm, or a layer without one, gives.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from snnx.models import MODELS
from snnx.neurons import LIF
from snnx.program import Shape
from snnx.spiking import DSR
from snnx.surrogate import Triangular
from snnx_conformance.zoo import ZooNet

CLASSES = 4
QUICK = ("digits", "preact_resnet")
"""Those of a quick run: a plain net, and one of every kind of sum, with biases before norms."""


def _lif(width: float, threshold: float = 0.5) -> LIF:
    return LIF(threshold=threshold, reset="subtract", surrogate=Triangular(width))


def _net(
    name: str,
    input: Shape,
    width: float,
    samples: int = 2,
    steps: int = 2,
    *,
    static: bool = False,
    **options: Any,
) -> ZooNet:
    model = MODELS[name](CLASSES, input=input, width=width, **options)
    return ZooNet(name, model, None, steps=steps, samples=samples, static=static)


@cache
def architectures() -> tuple[ZooNet, ...]:
    """Return a small net of every architecture, in the order of `MODELS`."""
    wide, wider, weak = _lif(2.0), _lif(3.0), _lif(2.0, threshold=0.2)
    dsr = DSR.leaky(1.0, dt=0.25)
    return (
        _net("digits", (8, 8, 1), 1 / 8, static=True),
        _net("mnist_toy", (8, 8, 1), 1 / 2, static=True),
        _net("snn5", (16, 16, 2), 1 / 8, neuron=wide),
        _net("cifarnet", (8, 8, 2), 1 / 64, 4, neuron=weak),
        _net("vggsnn", (16, 16, 2), 1 / 32, neuron=wide),
        _net("vgg11_dsr", (32, 32, 2), 1 / 32, 4, 3, neuron=dsr),
        _net("vgg13_asgl", (16, 16, 2), 1 / 32, 8, neuron=wide),
        _net("vgg16", (32, 32, 2), 1 / 32, 8, neuron=wider),
        _net("vgg16_asgl", (32, 32, 2), 1 / 32, neuron=wide),
        _net("vgg16_imagenet", (32, 32, 2), 1 / 32, 4, neuron=weak),
        _net("resnet18", (16, 16, 2), 1 / 16, neuron=wider),
        _net("resnet18_dspike", (16, 16, 2), 1 / 16, 8, neuron=wide),
        _net("resnet19", (8, 8, 2), 1 / 32, 4, neuron=wide),
        _net("spiking_resnet34", (64, 64, 2), 1 / 32, neuron=wider),
        _net("sew_resnet34", (64, 64, 2), 1 / 32, neuron=wider),
        _net("preact_resnet18", (8, 8, 2), 1 / 16, 4, 3, neuron=dsr),
        _net("preact_resnet18_imagenet", (32, 32, 2), 1 / 16, 4, 3, neuron=dsr),
        _net("preact_resnet", (8, 8, 2), 1 / 4, 4, 3, neuron=dsr, depth=8),
        _net("shd", (12,), 1 / 16),
        _net("medlydb", (12,), 1 / 64, 4, 16),
        _net("autoencoder", (12,), 1 / 8, 4, neuron=weak),
    )
