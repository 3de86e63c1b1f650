"""Convolution over height and width (cross-correlation, as in every framework).

    y[..., i, j, o] = bias[o] + sum over a, b, c of
                      weight[o, a, b, c] * x[..., i*stride + a - padding, j*stride + b - padding, c]

The leading axes, usually T and N, are a batch. With `groups` > 1 the input and output channels are
cut into that many equal runs, and run k of the output sees only run k of the input. Elements
outside x are 0.

    g_x      the transposed convolution of g_y with weight
    g_weight the correlation of x with g_y, summed over batch and positions
    g_bias   sum of g_y over batch and positions

Attributes: stride (int, 1), padding (int, 0), groups (int, 1); bits (int, absent): the weight is
that of `quantize_weight`, forward and in g_x.
Shapes: H' = floor((H + 2 padding - kH) / stride) + 1, W' likewise; O and I divisible by groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._windows import add_windows, windows
from snnx.ops.quantize_weight import on_grid, quantized


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [... H' W' O]."""
    x, weight = inputs["x"], quantized(xp, inputs["weight"], attrs.get("bits"))
    columns, (height, width) = _columns(xp, x, weight, attrs)
    matrix = _matrix(xp, weight, attrs)
    y = xp.matmul(columns, xp.permute_dims(matrix, (0, 2, 1)))  # [G M O/G]
    y = xp.reshape(xp.permute_dims(y, (1, 0, 2)), (*x.shape[:-3], height, width, weight.shape[0]))
    return {"y": y + inputs["bias"] if "bias" in inputs else y}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of x, weight and, where given, bias."""
    x, g = inputs["x"], cotangents["y"]
    weight = quantized(xp, inputs["weight"], attrs.get("bits"))
    groups = attrs.get("groups", 1)
    columns, (height, width) = _columns(xp, x, weight, attrs)
    matrix = _matrix(xp, weight, attrs)
    features, *kernel, depth = weight.shape
    positions = columns.shape[1]
    g_flat = xp.reshape(g, (positions, features))
    g_groups = xp.reshape(g_flat, (positions, groups, features // groups))
    g_groups = xp.permute_dims(g_groups, (1, 0, 2))  # [G M O/G]
    g_weight = xp.matmul(xp.permute_dims(g_groups, (0, 2, 1)), columns)
    g_columns = xp.matmul(g_groups, matrix)  # [G M k*I/G]
    area = kernel[0] * kernel[1]
    g_columns = xp.reshape(g_columns, (groups, positions, area, depth))
    g_columns = xp.permute_dims(g_columns, (1, 2, 0, 3))  # [M k G I/G]
    g_columns = xp.reshape(g_columns, (-1, height, width, area, groups * depth))
    g_x = add_windows(
        xp,
        g_columns,
        (x.shape[-3], x.shape[-2]),
        (kernel[0], kernel[1]),
        attrs.get("stride", 1),
        attrs.get("padding", 0),
    )
    gradients = {
        "x": xp.reshape(g_x, tuple(x.shape)),
        "weight": xp.reshape(g_weight, tuple(weight.shape)),
    }
    if "bias" in inputs:
        gradients["bias"] = xp.sum(g_flat, axis=0)
    return gradients


def _columns(xp: Any, x: Array, weight: Array, attrs: Attributes) -> tuple[Array, tuple[int, int]]:
    """Return the windows as [G, positions, kH*kW*I/G], and (H', W')."""
    groups = attrs.get("groups", 1)
    kernel = (weight.shape[1], weight.shape[2])
    image = xp.reshape(x, (-1, *x.shape[-3:]))
    seen = windows(xp, image, kernel, attrs.get("stride", 1), attrs.get("padding", 0))
    _, height, width, area, channels = seen.shape
    seen = xp.reshape(seen, (-1, area, groups, channels // groups))
    seen = xp.permute_dims(seen, (2, 0, 1, 3))
    return xp.reshape(seen, (groups, seen.shape[1], -1)), (height, width)


def _matrix(xp: Any, weight: Array, attrs: Attributes) -> Array:
    """Return weight as [G, O/G, kH*kW*I/G]."""
    groups = attrs.get("groups", 1)
    return xp.reshape(weight, (groups, weight.shape[0] // groups, -1))


def samples() -> Iterator[Sample]:
    """Yield strides, paddings and groups, with and without bias, at odd sizes."""
    rng = generator(101)
    cases: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, int], bool]] = [
        ("same", (2, 3, 5, 7, 3), (4, 3, 3, 3), {"stride": 1, "padding": 1, "groups": 1}, True),
        ("stride", (1, 2, 7, 6, 2), (3, 3, 3, 2), {"stride": 2, "padding": 1, "groups": 1}, False),
        ("groups", (2, 1, 5, 5, 4), (6, 3, 3, 2), {"stride": 1, "padding": 1, "groups": 2}, True),
        (
            "depthwise",
            (1, 1, 6, 5, 3),
            (3, 3, 3, 1),
            {"stride": 2, "padding": 0, "groups": 3},
            True,
        ),
        (
            "one-by-one",
            (3, 1, 3, 3, 5),
            (2, 1, 1, 5),
            {"stride": 2, "padding": 0, "groups": 1},
            False,
        ),
        ("five", (1, 2, 9, 5, 1), (2, 5, 5, 1), {"stride": 3, "padding": 2, "groups": 1}, True),
    ]
    for name, image, kernel, attributes, bias in cases:
        fan_in = kernel[1] * kernel[2] * kernel[3]
        inputs = {
            "x": rng.standard_normal(image),
            "weight": rng.standard_normal(kernel) / fan_in**0.5,
        }
        if bias:
            inputs["bias"] = rng.standard_normal(kernel[0])
        yield Sample(f"{name}-normal", inputs, attributes)
        exact = {"x": bits(rng, image), "weight": dyadic(rng, kernel)}
        if bias:
            exact["bias"] = dyadic(rng, kernel[:1])
        height = (image[2] + 2 * attributes["padding"] - kernel[1]) // attributes["stride"] + 1
        width = (image[3] + 2 * attributes["padding"] - kernel[2]) // attributes["stride"] + 1
        g = dyadic(rng, (*image[:2], height, width, kernel[0]))
        yield Sample(f"{name}-dyadic", exact, attributes, "exact", cotangents={"y": g})
    attributes = {"stride": 1, "padding": 1, "groups": 1, "bits": 3}
    exact = {"x": bits(rng, (2, 1, 3, 5, 2)), "weight": on_grid(rng, (4, 3, 3, 2), 3, 0.25)}
    g = dyadic(rng, (2, 1, 3, 5, 4))
    yield Sample("bits-dyadic", exact, attributes, "exact", cotangents={"y": g})


CONV2D = Op(
    name="conv2d",
    signature="x[... H W I], weight[O kH kW I/groups], bias[O]? -> y[... H' W' O]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x", "weight", "bias"),
    source="torch.nn.functional.conv2d and mlx.core.conv2d, whose definitions agree",
)
