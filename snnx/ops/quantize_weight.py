"""Quantisation of a weight to `bits` bits, straight through: one step size for the whole tensor.

    q = 2^(bits - 1) - 1,   step = max |w| / q,   y = step clip(round(w / step), -q, q)
    g_w = g_y

Halves round to the even number. The largest weight stays what it is; of a weight of zeros nothing
is rounded. The gradient is the identity, also of the largest weight, whose movement of the step it
leaves out: it is no derivative, so golden values check it. conv2d and linear with attribute `bits`
compute with y, and their gradient of the weight is that of y.

Attributes: bits (whole number from 2 to 16).
Shapes: any. Raises: ValueError for other bits.
Source: DSR App. E, which names 8 and 4 bits; granularity, range and rounding it leaves open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import Random, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def levels(bits: int) -> int:
    """Return the largest level; ValueError for bits that no weight can have."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= 16:
        raise ValueError(f"bits of a weight is a whole number from 2 to 16, not {bits!r}")
    return 2 ** (bits - 1) - 1


def quantized(xp: Any, weight: Array, bits: int | None) -> Array:
    """Return the weight on its grid, or as it is where `bits` is None."""
    if bits is None:
        return weight
    q = levels(bits)
    step = xp.max(xp.abs(weight)) / q
    step = xp.where(step > 0.0, step, xp.ones_like(step))
    return step * xp.clip(xp.round(weight / step), -float(q), float(q))


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y, of the weight's shape."""
    return {"y": quantized(xp, inputs["weight"], attrs["bits"])}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of y as that of the weight."""
    return {"weight": cotangents["y"]}


def on_grid(rng: Random, shape: tuple[int, ...], bits: int, step: float) -> np.ndarray:
    """Return weights whose step size is exactly `step`, each within a quarter of a level.

    No rounding error of a product can move such a weight to another level.
    """
    q = levels(bits)
    weight = step * (rng.integers(-q + 1, q, shape) + dyadic(rng, shape, 0.125, 0.25))
    weight.reshape(-1)[0] = step * q
    return weight


def samples() -> Iterator[Sample]:
    """Yield 8, 4 and 2 bits, halves between two levels, one weight, and zeros."""
    rng = generator(306)
    for bits, shape in [(8, (3, 3, 3, 2)), (4, (5, 7)), (2, (4, 3))]:
        weight = on_grid(rng, shape, bits, 0.1)
        yield Sample(f"{bits}-bits", {"weight": weight}, {"bits": bits}, dtypes=("float32",))
    for bits, shape in [(4, (3, 5, 5, 2)), (3, (4, 3))]:
        inputs = {"weight": on_grid(rng, shape, bits, 2.0**-4)}
        g = {"y": dyadic(rng, shape)}
        yield Sample(f"{bits}-bits-dyadic", inputs, {"bits": bits}, "exact", cotangents=g)
    halves = np.array([-7.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 6.5]) / 8
    g = {"y": np.ones(8)}
    yield Sample("halves", {"weight": halves}, {"bits": 4}, "tie", cotangents=g)
    for name, weight in (("zeros", np.zeros((2, 3))), ("one", np.array([[-0.75]]))):
        g = {"y": np.ones(weight.shape)}
        yield Sample(name, {"weight": weight}, {"bits": 8}, "exact", ("float32",), g)


QUANTIZE_WEIGHT = Op(
    name="quantize_weight",
    signature="weight[*S] -> y[*S]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("weight",),
    source="DSR (Meng et al. 2022) App. E; straight-through estimator: Bengio et al. 2013",
    smooth=False,
)
