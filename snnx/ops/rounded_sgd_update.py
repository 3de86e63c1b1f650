"""Gradient descent on a dyadic grid: the update of exact mode, equal bit for bit on every backend.

    parameter' = clip(grid * round((parameter - lr * gradient) / grid), -limit, limit)

round goes to the nearest integer, halves to the even one. With lr and grid powers of two and a
gradient whose sum is exact, every operation is exact, so that no framework can differ.
Attributes: grid (a power of two), limit (a multiple of grid).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return parameter after the update."""
    grid, limit = attrs["grid"], attrs["limit"]
    if math.frexp(grid)[0] != 0.5:
        raise ValueError(f"rounded_sgd_update: grid {grid} is not a power of two")
    moved = inputs["parameter"] - inputs["lr"] * inputs["gradient"]
    return {"parameter": xp.clip(grid * xp.round(moved / grid), -limit, limit)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return nothing: an update is not differentiated."""
    return {}


def samples() -> Iterator[Sample]:
    """Yield dyadic updates, and halves that separate the rounding rules."""
    rng = generator(304)
    attributes = {"grid": 0.0625, "limit": 1.0}
    inputs = {
        "parameter": dyadic(rng, (3, 5, 3), 0.0625, 1.0),
        "gradient": dyadic(rng, (3, 5, 3), 0.25, 16.0),
        "lr": np.array(2.0**-7),
    }
    yield Sample("dyadic", inputs, attributes, "exact", ("float32",))
    inputs = {
        "parameter": np.array([0.0, 0.0625, 0.125, 0.0, -0.0625, 1.0, -1.0]),
        "gradient": np.array([-0.5, -0.5, -0.5, 0.5, 0.5, -4.0, 4.0]),
        "lr": np.array(0.0625),
    }
    yield Sample("halves", inputs, attributes, "tie", ("float32",))


ROUNDED_SGD_UPDATE = Op(
    name="rounded_sgd_update",
    signature="parameter[*S], gradient[*S], lr[] -> parameter[*S]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(0.0, 0.0, 0.0, 0.0),
    differentiable=(),
    source="the exact mode of this library's conformance suite",
    smooth=False,
)
