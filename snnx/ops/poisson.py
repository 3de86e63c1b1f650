"""Poisson (Bernoulli) encoder with the noise as an input.

    y[t] = 1 where noise[t] < x[t], else 0          noise uniform in [0, 1), x a probability

A spike does not occur at noise = x, so that x = 0 never fires and x = 1 always does. x with one
step is static. There is no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [T N *F], zeros and ones in the dtype of x."""
    x = inputs["x"]
    return {"y": xp.astype(inputs["noise"] < x, x.dtype)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return nothing: the encoder passes no gradient."""
    return {}


def samples() -> Iterator[Sample]:
    """Yield static and moving inputs, and noise that equals x."""
    rng = generator(110)
    fine = 2.0**-7  # so that bfloat16 holds every value below 1
    for name, steps, x_steps in [("static", 5, 1), ("moving", 3, 3), ("one", 1, 1)]:
        x = rng.integers(0, 129, (x_steps, 3, 2, 3, 1)) * fine
        noise = rng.integers(0, 128, (steps, 3, 2, 3, 1)) * fine
        yield Sample(f"{name}-dyadic", {"x": x, "noise": noise}, kind="exact")
    x = np.array([0.0, 0.25, 0.5, 1.0]).reshape(1, 1, 4)
    noise = np.array([[0.0, 0.25, 0.5, 0.0], [0.0, 0.125, 0.75, 0.9921875]]).reshape(2, 1, 4)
    yield Sample("edges", {"x": x, "noise": noise}, kind="tie")


POISSON = Op(
    name="poisson",
    signature="x[Tx N *F], noise[T N *F] -> y[T N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(0.0, 0.0, 0.0, 0.0),
    differentiable=(),
    source="rate coding by independent Bernoulli draws per step",
    smooth=False,
)
