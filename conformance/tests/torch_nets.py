"""Tiny nets, layers, batches and sessions for the tests of the PyTorch backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx.backend import load_backend
from snnx.building import initial_parameters
from snnx.mode import Mode
from snnx.program import Init

rng = np.random.default_rng(3)
STEPS = 3
SMOOTH = Mode("smooth", "batch", True, "train")
COMPILER = pytest.mark.filterwarnings(  # torch's own, while it traces an autograd.Function
    "ignore:.*should not be instantiated:DeprecationWarning"
)
LR = snnx.Optim(snnx.SGD(momentum=0.9))


def small() -> snnx.Chain:
    """Every kind of step once, 4 x 4 pixels."""
    wide = snnx.Learned(0.5, transform="log")
    return snnx.Chain(
        snnx.Input(4, 4, 2),
        snnx.Conv2d(4, 3),
        snnx.BatchNorm(scale=0.7),
        snnx.LIF(threshold=0.5, surrogate=snnx.Sigmoid(wide), analog=snnx.Dial("noise", 0.3)),
        snnx.Dropout(0.2),
        snnx.Residual(snnx.Chain(snnx.Conv2d(4, 3, groups=2), snnx.BatchNorm())),
        snnx.LIF(threshold=0.5, reset="subtract", surrogate=snnx.Dspike()),
        snnx.MaxPool2d(2),
        snnx.Flatten(),
        snnx.Linear(6),
        snnx.Recurrent(snnx.LIF(threshold=0.3), synapse_decay=0.5),
        snnx.Linear(3),
    )


def tiny(neuron: snnx.Layer | None = None) -> snnx.Chain:
    return snnx.Chain(
        snnx.Input(4, 4, 1),
        snnx.Conv2d(3, 3),
        snnx.BatchNorm(),
        neuron or snnx.LIF(threshold=0.5, surrogate=snnx.Dspike()),
        snnx.AvgPool2d(2),
        snnx.Flatten(),
        snnx.Linear(3),
    )


def batch(shape: tuple[int, ...], n: int = 4, steps: int = 0, length: bool = False) -> Any:
    lead = (steps, n) if steps else (n,)
    found = {
        "x": rng.random((*lead, *shape)).astype(np.float32),
        "y": rng.integers(0, 3, n),
        "index": np.arange(n) + 5,
    }
    return {**found, "length": rng.integers(1, steps + 1, n)} if length else found


def net(model: Any, name: str = "torch", precision: str = "fp32") -> Any:
    program = snnx.flatten(model)
    values = initial_parameters(program, 1)
    return load_backend(name).build(program, values, device="cpu", precision=precision)


def session(
    model: Any, name: str = "torch", precision: str = "fp64", optim: Any = LR, **options: Any
) -> Any:
    chosen = load_backend(name)
    made = net(model, name, precision)
    return chosen.session(made, snnx.TET(), optim, steps=STEPS, **options)


def both(model: Any, optim: Any = LR) -> tuple[Any, Any]:
    return session(model, "numpy", optim=optim), session(model, optim=optim)


def assert_close(found: Any, wanted: Any, limit: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        scale = max(float(np.max(np.abs(array))), 1e-3)
        assert float(np.max(np.abs(found[name] - array))) <= limit * scale, name


class Scaled(snnx.ArrayLayer):
    """y = scale x^2, without a rule of its own for the gradient."""

    def parameters(self, shape: Any) -> Any:
        return {"scale": (shape[-1:], Init("constant", 0.5))}

    def forward(self, xp: Any, x: Any, parameters: Any) -> Any:
        return parameters["scale"] * xp.square(x)


class Ruled(Scaled):
    """The same with a rule."""

    def vjp(self, xp: Any, x: Any, parameters: Any, y: Any, g: Any) -> Any:  # type: ignore[override]
        axes = tuple(range(x.ndim - 1))
        return 2 * parameters["scale"] * x * g, {"scale": xp.sum(g * xp.square(x), axis=axes)}
