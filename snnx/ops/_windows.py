"""The windows that convolution and pooling look through, and the sum that takes them back."""

from __future__ import annotations

from typing import Any

from snnx.ops._op import Array
from snnx.ops._xp import zeros


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many windows fit into `size`: floor((size + 2 padding - kernel) / stride) + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def windows(
    xp: Any,
    x: Array,
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    fill: float = 0.0,
) -> Array:
    """Return [B H' W' kH*kW C], the windows of `x` [B H W C] in row-major order.

    A border of `padding` elements holds `fill`.
    """
    batch, height, width, channels = x.shape
    if padding:
        padded = (batch, height + 2 * padding, width + 2 * padding, channels)
        border = zeros(xp, padded, x) + fill
        border[:, padding : padding + height, padding : padding + width, :] = x
        x = border
    places = _places((height, width), kernel, stride, padding)
    return xp.stack([x[:, rows, columns, :] for rows, columns in places], axis=3)


def add_windows(
    xp: Any,
    g: Array,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: int,
) -> Array:
    """Return [B H W C], each element the sum over the windows it was seen in.

    The transpose of `windows`: `g` is [B H' W' kH*kW C], `size` is (H, W).
    """
    height, width = size
    total = zeros(xp, (g.shape[0], height + 2 * padding, width + 2 * padding, g.shape[4]), g)
    for k, (rows, columns) in enumerate(_places(size, kernel, stride, padding)):
        total[:, rows, columns, :] = total[:, rows, columns, :] + g[:, :, :, k, :]
    return total[:, padding : padding + height, padding : padding + width, :]


def _places(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: int
) -> list[tuple[slice, slice]]:
    """Return, per kernel element, where it lies in the padded image, over all windows at once."""
    spans = [
        (output_size(length, k, stride, padding) - 1) * stride + 1
        for length, k in zip(size, kernel, strict=True)
    ]
    return [
        (slice(i, i + spans[0], stride), slice(j, j + spans[1], stride))
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
