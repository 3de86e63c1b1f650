"""Projection of a parameter on its interval, at build, at load and after each update.

    parameter' = min(max(parameter, low), high)

Attributes: low, high (float, or None where that side is open).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return parameter inside [low, high]."""
    low, high = attrs.get("low"), attrs.get("high")
    if low is None and high is None:
        return {"parameter": inputs["parameter"]}
    return {"parameter": xp.clip(inputs["parameter"], low, high)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return nothing: a projection is not differentiated."""
    return {}


def samples() -> Iterator[Sample]:
    """Yield intervals open on either side, and values on the ends; every sample is exact."""
    rng = generator(305)
    for name, low, high in [
        ("low", 0.25, None),
        ("high", None, 0.5),
        ("both", -0.5, 0.5),
        ("open", None, None),
    ]:
        inputs = {"parameter": dyadic(rng, (3, 5), 0.25, 1.0)}
        yield Sample(name, inputs, {"low": low, "high": high}, "exact")
    yield Sample("scalar", {"parameter": np.array(-1.0)}, {"low": 0.0078125, "high": None}, "exact")


PROJECT = Op(
    name="project",
    signature="parameter[*S] -> parameter[*S]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(0.0, 0.0, 0.0, 0.0),
    differentiable=(),
    source="projected gradient descent; DSR (Meng et al. 2022), lower bound of the threshold",
    smooth=False,
)
