"""Sum of two sequences; a side with one step is static and counts at every step.

y[t] = a[t] + b[t]         (a[0] or b[0] where that side has T = 1)

g_a = g_y and g_b = g_y, summed over T for a static side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import sum_to_shape


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [T N *F], T the longer of the two."""
    return {"y": inputs["a"] + inputs["b"]}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of a and b."""
    g = cotangents["y"]
    return {name: sum_to_shape(xp, g, tuple(inputs[name].shape)) for name in ("a", "b")}


def samples() -> Iterator[Sample]:
    """Yield equal lengths and a static side, left and right."""
    rng = generator(108)
    for name, steps_a, steps_b in [
        ("equal", 3, 3),
        ("static-a", 1, 4),
        ("static-b", 5, 1),
        ("one", 1, 1),
    ]:
        rest = (2, 3, 1, 5)
        inputs = {
            "a": rng.standard_normal((steps_a, *rest)),
            "b": rng.standard_normal((steps_b, *rest)),
        }
        yield Sample(f"{name}-normal", inputs)
        exact = {"a": bits(rng, (steps_a, *rest)), "b": dyadic(rng, (steps_b, *rest))}
        g = {"y": dyadic(rng, (max(steps_a, steps_b), *rest))}
        yield Sample(f"{name}-dyadic", exact, kind="exact", cotangents=g)


ADD = Op(
    name="add",
    signature="a[Ta N *F], b[Tb N *F] -> y[T N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("a", "b"),
    source="residual connection: He et al. 2016; spikes: Fang et al. 2021 (SEW, ADD)",
)
