"""Dropout with the mask as an input, so that every backend drops the same elements.

    y = x * mask / (1 - rate);   g_x = g_y * mask / (1 - rate)

The mask holds 0 and 1; with one step it is shared over time. Attributes: rate, in [0, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [T N *F]."""
    return {"y": inputs["x"] * inputs["mask"] / (1.0 - attrs["rate"])}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of x."""
    return {"x": cotangents["y"] * inputs["mask"] / (1.0 - attrs["rate"])}


def samples() -> Iterator[Sample]:
    """Yield masks per step and shared over time."""
    rng = generator(109)
    for name, steps, mask_steps, rate in [
        ("per-step", 3, 3, 0.1),
        ("shared", 4, 1, 0.3),
        ("none", 1, 1, 0.0),
    ]:
        rest = (2, 3, 1, 5)
        inputs = {
            "x": rng.standard_normal((steps, *rest)),
            "mask": bits(rng, (mask_steps, *rest), 1.0 - rate),
        }
        yield Sample(f"{name}-normal", inputs, {"rate": rate})
        exact = {"x": dyadic(rng, (steps, *rest)), "mask": bits(rng, (mask_steps, *rest), 0.5)}
        g = {"y": dyadic(rng, (steps, *rest))}
        yield Sample(f"{name}-dyadic", exact, {"rate": 0.5}, "exact", cotangents=g)


DROPOUT = Op(
    name="dropout",
    signature="x[T N *F], mask[Tm N *F] -> y[T N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x",),
    source="Srivastava et al. 2014, in the inverted form",
)
