"""Pooling over height and width.

Maximum pooling has its own gradient: MLX shares it among equal values, the spec gives it to the
first, and with spikes as input ties are the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx_mlx.arrays import custom_op

Arrays = Mapping[str, mx.array]
Attributes = Mapping[str, Any]


def _places(height: int, width: int, kernel: int, stride: int) -> list[tuple[slice, slice]]:
    """Return where each element of the window lies in the padded image, over all windows."""
    down = ((height - kernel) // stride) * stride + 1
    across = ((width - kernel) // stride) * stride + 1
    return [
        (slice(i, i + down, stride), slice(j, j + across, stride))
        for i in range(kernel)
        for j in range(kernel)
    ]


def avg_pool2d(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the means of the windows; what does not fill a window is left out."""
    x, kernel = inputs["x"], attributes["kernel"]
    stride = attributes.get("stride", kernel)
    b, h, w, c = (-1, *x.shape[-3:])
    image = x.reshape(b, h, w, c)
    if stride == kernel:
        image = image[:, : h // kernel * kernel, : w // kernel * kernel]
        image = image.reshape(-1, h // kernel, kernel, w // kernel, kernel, c)
        y = mx.sum(image.astype(mx.float32), axis=(2, 4))
    else:
        seen = [image[:, rows, columns] for rows, columns in _places(h, w, kernel, stride)]
        y = sum((a.astype(mx.float32) for a in seen[1:]), start=seen[0].astype(mx.float32))
    y = (y / (kernel * kernel)).astype(x.dtype)
    return {"y": y.reshape(*x.shape[:-3], *y.shape[1:])}


def global_avg_pool2d(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the mean over height and width."""
    x = inputs["x"]
    total = mx.sum(mx.sum(x, axis=-2), axis=-2)
    return {"y": total / (x.shape[-3] * x.shape[-2])}


@lru_cache(maxsize=64)
def _max_pool(kernel: int, stride: int, padding: int) -> Any:
    def windows(x: mx.array) -> tuple[mx.array, list[tuple[slice, slice]]]:
        border = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
        padded = mx.pad(x, border, constant_values=-float("inf")) if padding else x
        places = _places(padded.shape[1], padded.shape[2], kernel, stride)
        return mx.stack([padded[:, rows, columns] for rows, columns in places], axis=3), places

    def forward(x: mx.array) -> tuple[mx.array, ...]:
        return (mx.max(windows(x)[0], axis=3),)

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        (x,), (g,) = inputs, cotangents
        seen, places = windows(x)
        first = mx.argmax(seen, axis=3)  # the first of equal maxima
        b, h, w, c = x.shape
        total = mx.zeros((b, h + 2 * padding, w + 2 * padding, c), g.dtype)
        for k, (rows, columns) in enumerate(places):
            chosen = mx.where(first == k, g, mx.zeros_like(g))
            total[:, rows, columns] = total[:, rows, columns] + chosen
        return (total[:, padding : padding + h, padding : padding + w],)

    return custom_op(forward, backward)


def max_pool2d(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the maxima of the windows; the first of equal ones has the gradient."""
    x, kernel = inputs["x"], attributes["kernel"]
    stride, padding = attributes.get("stride", kernel), attributes.get("padding", 0)
    if 2 * padding > kernel:
        raise ValueError(f"max_pool2d: padding {padding} is more than half the kernel {kernel}")
    (y,) = _max_pool(kernel, stride, padding)(x.reshape(-1, *x.shape[-3:]))
    return {"y": y.reshape(*x.shape[:-3], *y.shape[1:])}
