"""Memory of a training step whose neurons are kernels: the prediction against a run by g++."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import snnx  # noqa: E402
from snnx import (  # noqa: E402  # noqa: E402
    DSR,
    LIF,
    BatchNorm,
    Chain,
    Conv2d,
    Flatten,
    Input,
    Linear,
    Recurrent,
    Triangular,
    flatten,
)
from snnx.backend import Footprint, load_backend  # noqa: E402
from snnx_torch.footprint import footprint  # noqa: E402
from snnx_torch.kernels import host  # noqa: E402

NEEDS = pytest.mark.skipif(host.compiler() is None, reason="g++ is not on PATH")
STEPS, SAMPLES = 7, 8


def layer(last: Any) -> Any:
    """Return a net of two convolutions and a layer."""
    conv = (Conv2d(4, 3, bias=False), BatchNorm())
    return Chain(Input(6, 6, 2), *conv, LIF(), *conv, last, Flatten(), Linear(3))


MODELS = {
    "bits": lambda: layer(LIF(detach_reset=True)),
    "input": lambda: layer(LIF(surrogate=Triangular(1.0))),
    "rate": lambda: layer(DSR.leaky()),
    "recurrent": lambda: Chain(Input(5), Linear(12), Recurrent(LIF()), Linear(3)),
}


def of(name: str, device: str, kernels: Any, lean: bool = False) -> Footprint:
    """Return the footprint of a model."""
    form: dict[str, Any] = {"dtype": torch.float32, "low": None, "lean": lean}
    form |= {"steps": STEPS, "samples": SAMPLES, "device": device, "kernels": kernels}
    optim = snnx.Optim(snnx.SGD(lr=0.1, momentum=0.9))
    return footprint(flatten(MODELS[name]()), snnx.TET(), optim, **form)


@NEEDS
@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_prediction_with_kernels_is_within_a_tenth_of_the_run(name: str, lean: bool) -> None:
    predicted, measured = of(name, "meta", "cpp", lean), of(name, "cpu", "cpp", lean)
    assert predicted.peak == pytest.approx(measured.peak, rel=0.1)
    assert sum(predicted.kept.values()) == pytest.approx(sum(measured.kept.values()), rel=0.1)


def test_a_rate_layer_keeps_two_bits_per_neuron() -> None:
    found, generic = (of("rate", "meta", how).kept for how in ("auto", "generic"))
    (path,) = [p for p, step in paths("rate").items() if step == "rate_neuron"]
    neurons = SAMPLES * 6 * 6 * 4
    output = 4 * STEPS * neurons
    assert found[path] - output <= neurons / 4 + 64 + 4 * STEPS  # and the weights of the steps
    assert found[path] - output >= neurons / 4
    assert generic[path] - output >= 2 * neurons


def test_a_plan_is_that_of_cuda() -> None:
    program = flatten(MODELS["rate"]())
    optim = snnx.Optim(snnx.SGD(lr=0.1, momentum=0.9))
    backend: Any = load_backend("torch")
    found = backend.footprint(program, snnx.TET(), optim, steps=STEPS, samples=SAMPLES, lean=False)
    assert found.kept == of("rate", "meta", "auto").kept


def paths(name: str) -> dict[str, str]:
    """Return the op of every step by its path."""
    return {step.path: step.op for step in flatten(MODELS[name]()).steps}
