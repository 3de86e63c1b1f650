"""Mean over height and width.

y[..., c] = mean over i, j of x[..., i, j, c];   g_x = g_y / (H * W) at every position
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [... C]."""
    return {"y": xp.mean(inputs["x"], axis=(-3, -2))}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of x."""
    x = inputs["x"]
    g = cotangents["y"][..., None, None, :] / (x.shape[-3] * x.shape[-2])
    return {"x": xp.broadcast_to(g, tuple(x.shape))}


def samples() -> Iterator[Sample]:
    """Yield odd sizes, a single position, and dyadic means."""
    rng = generator(106)
    yield Sample("odd-normal", {"x": rng.standard_normal((3, 2, 3, 5, 7))})
    yield Sample("one-position", {"x": rng.standard_normal((1, 1, 1, 1, 3))})
    inputs, g = {"x": bits(rng, (2, 1, 4, 2, 3))}, {"y": dyadic(rng, (2, 1, 3))}
    yield Sample("eight-dyadic", inputs, kind="exact", cotangents=g)


GLOBAL_AVG_POOL2D = Op(
    name="global_avg_pool2d",
    signature="x[... H W C] -> y[... C]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x",),
    source="torch.nn.functional.adaptive_avg_pool2d with output size 1",
)
