"""A static input at every step.

    y[t] = x  for t = 1 .. steps;   g_x = sum over t of g_y[t]

Attributes: steps (int). A backend may keep one copy and remember the number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [T N *F]."""
    x = inputs["x"]
    return {"y": xp.broadcast_to(x[None, ...], (attrs["steps"], *x.shape))}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of x."""
    return {"x": xp.sum(cotangents["y"], axis=0)}


def samples() -> Iterator[Sample]:
    """Yield one step and several."""
    rng = generator(111)
    for steps in (1, 5):
        attributes = {"steps": steps}
        yield Sample(f"{steps}-normal", {"x": rng.standard_normal((3, 5, 1, 2))}, attributes)
        g = {"y": dyadic(rng, (steps, 1, 7))}
        yield Sample(
            f"{steps}-dyadic", {"x": dyadic(rng, (1, 7))}, attributes, "exact", cotangents=g
        )


REPEAT = Op(
    name="repeat",
    signature="x[N *F] -> y[T N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x",),
    source="direct encoding: the same real-valued image at every step (TET, Dspike, ASGL, DSR)",
)
