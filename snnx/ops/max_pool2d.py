"""Max pooling over height and width.

    y[..., i, j, c] = max over a, b < kernel of
                      x[..., i*stride + a - padding, j*stride + b - padding, c]

Elements outside x count as -inf. Ties: the FIRST maximum in row-major order of the window receives
the whole gradient of the window; an element that is chosen by several windows receives their sum.

Attributes: kernel (int), stride (int, kernel), padding (int, 0; at most half the kernel).
Shapes: H' = floor((H + 2 padding - kernel) / stride) + 1, W' likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._windows import add_windows, output_size, windows
from snnx.ops._xp import counting


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [... H' W' C]."""
    x = inputs["x"]
    y = xp.max(_seen(xp, x, attrs), axis=3)
    return {"y": xp.reshape(y, (*x.shape[:-3], *y.shape[1:]))}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of x."""
    x, g, kernel = inputs["x"], cotangents["y"], attrs["kernel"]
    # argmax returns the first of equal maxima, by the array API standard.
    place = counting(xp, kernel * kernel, x)
    first = xp.astype(xp.argmax(_seen(xp, x, attrs), axis=3), place.dtype)[:, :, :, None, :]
    chosen = xp.astype(first == place[None, None, None, :, None], x.dtype)
    g = chosen * xp.reshape(g, (-1, *g.shape[-3:-1], 1, g.shape[-1]))
    size = (x.shape[-3], x.shape[-2])
    stride, padding = attrs.get("stride", kernel), attrs.get("padding", 0)
    g_x = add_windows(xp, g, size, (kernel, kernel), stride, padding)
    return {"x": xp.reshape(g_x, tuple(x.shape))}


def _seen(xp: Any, x: Array, attrs: Attributes) -> Array:
    kernel, padding = attrs["kernel"], attrs.get("padding", 0)
    if 2 * padding > kernel:
        raise ValueError(f"max_pool2d: padding {padding} is more than half the kernel {kernel}")
    image = xp.reshape(x, (-1, *x.shape[-3:]))
    stride = attrs.get("stride", kernel)
    return windows(xp, image, (kernel, kernel), stride, padding, fill=-float("inf"))


def samples() -> Iterator[Sample]:
    """Yield overlapping, padded and odd cases; the ties are spikes and small dyadic numbers."""
    rng = generator(105)
    cases: list[tuple[str, tuple[int, ...], dict[str, int]]] = [
        ("even", (2, 1, 6, 4, 3), {"kernel": 2}),
        ("odd", (1, 3, 7, 5, 2), {"kernel": 2}),
        ("stem", (1, 2, 7, 7, 2), {"kernel": 3, "stride": 2, "padding": 1}),
        ("overlap", (1, 1, 5, 6, 1), {"kernel": 3, "stride": 1}),
    ]
    for name, shape, attributes in cases:
        kernel, stride = attributes["kernel"], attributes.get("stride", attributes["kernel"])
        padding = attributes.get("padding", 0)
        yield Sample(f"{name}-normal", {"x": rng.standard_normal(shape)}, attributes)
        height, width = (output_size(size, kernel, stride, padding) for size in shape[2:4])
        for kind, x in (("spikes", bits(rng, shape)), ("negative", dyadic(rng, shape) - 2.0)):
            g = dyadic(rng, (*shape[:2], height, width, shape[4]))
            yield Sample(f"{name}-{kind}", {"x": x}, attributes, "tie", cotangents={"y": g})


MAX_POOL2D = Op(
    name="max_pool2d",
    signature="x[... H W C] -> y[... H' W' C]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x",),
    source="torch.nn.functional.max_pool2d with ceil_mode=False, its tie rule included",
)
