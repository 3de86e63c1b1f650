"""The axes after T and N as one, in the order H, W, C (a free view of channels-last memory).

y[t, n, (h * W + w) * C + c] = x[t, n, h, w, c];   g_x is g_y in the shape of x
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [T N D], D = prod(F)."""
    x = inputs["x"]
    size = 1
    for length in x.shape[2:]:
        size *= length
    return {"y": xp.reshape(x, (x.shape[0], x.shape[1], size))}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of x."""
    return {"x": xp.reshape(cotangents["y"], tuple(inputs["x"].shape))}


def samples() -> Iterator[Sample]:
    """Yield an image, ordinary and dyadic, a vector and a single pixel."""
    rng = generator(107)
    yield Sample("image-normal", {"x": rng.standard_normal((2, 3, 3, 5, 2))})
    for name, shape in [
        ("image", (2, 3, 3, 5, 2)),
        ("vector", (1, 2, 7)),
        ("pixel", (3, 1, 1, 1, 1)),
    ]:
        size = int(np.prod(shape[2:]))
        g = {"y": dyadic(rng, (*shape[:2], size))}
        yield Sample(name, {"x": dyadic(rng, shape, 0.25, 4.0)}, kind="exact", cotangents=g)


FLATTEN = Op(
    name="flatten",
    signature="x[T N *F] -> y[T N D]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x",),
    source="the activation layout of this library",
)
