"""Average pooling over height and width, without padding; what does not fill a window is left out.

    y[..., i, j, c] = mean over a, b < kernel of x[..., i*stride + a, j*stride + b, c]

    g_x: each element receives g_y / kernel^2 from every window that holds it.

Attributes: kernel (int), stride (int, kernel).
Shapes: H' = floor((H - kernel) / stride) + 1, W' likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._windows import add_windows, output_size, windows


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [... H' W' C]."""
    x, kernel = inputs["x"], attrs["kernel"]
    image = xp.reshape(x, (-1, *x.shape[-3:]))
    seen = windows(xp, image, (kernel, kernel), attrs.get("stride", kernel), 0)
    y = xp.sum(seen, axis=3) / (kernel * kernel)
    return {"y": xp.reshape(y, (*x.shape[:-3], *y.shape[1:]))}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of x."""
    x, g, kernel = inputs["x"], cotangents["y"], attrs["kernel"]
    area = kernel * kernel
    g = xp.reshape(g / area, (-1, *g.shape[-3:-1], 1, g.shape[-1]))
    g = xp.broadcast_to(g, (*g.shape[:3], area, g.shape[4]))
    size = (x.shape[-3], x.shape[-2])
    g_x = add_windows(xp, g, size, (kernel, kernel), attrs.get("stride", kernel), 0)
    return {"x": xp.reshape(g_x, tuple(x.shape))}


def samples() -> Iterator[Sample]:
    """Yield even and odd images, overlapping and disjoint windows."""
    rng = generator(104)
    cases: list[tuple[str, tuple[int, ...], dict[str, int]]] = [
        ("even", (2, 1, 6, 4, 3), {"kernel": 2}),
        ("odd", (1, 3, 7, 5, 2), {"kernel": 2}),
        ("overlap", (2, 2, 7, 7, 1), {"kernel": 4, "stride": 1}),
        ("gap", (1, 1, 8, 7, 3), {"kernel": 2, "stride": 3}),
        ("three", (1, 1, 9, 7, 3), {"kernel": 3}),
    ]
    for name, shape, attributes in cases:
        kernel, stride = attributes["kernel"], attributes.get("stride", attributes["kernel"])
        yield Sample(f"{name}-normal", {"x": rng.standard_normal(shape)}, attributes)
        if kernel == 3:
            continue  # a ninth is not dyadic
        height, width = (output_size(size, kernel, stride, 0) for size in shape[2:4])
        g = dyadic(rng, (*shape[:2], height, width, shape[4]))
        x = bits(rng, shape)
        yield Sample(f"{name}-dyadic", {"x": x}, attributes, "exact", cotangents={"y": g})


AVG_POOL2D = Op(
    name="avg_pool2d",
    signature="x[... H W C] -> y[... H' W' C]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x",),
    source="torch.nn.functional.avg_pool2d with ceil_mode=False",
)
