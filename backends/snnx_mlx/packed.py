"""Binary edges kept as bits: a convolution or linear map that keeps one bit of an input per value.

An edge that holds 0 or one scale only (`snnx.passes.mark_packed`) is kept for the gradient of the
weight as bits, 32 values to a word, and unpacked there. MLX keeps what a gradient reads and nothing
else, so that the input itself is freed once its layer has run.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx_mlx.arrays import custom_op

WORD = 32


def pack(x: mx.array) -> mx.array:
    """Return [ceil(size / 32)] words: bit i of word j tells whether value 32 j + i is not 0."""
    fired = (x.reshape(-1) != 0).astype(mx.uint32)
    lacking = -fired.size % WORD
    if lacking:
        fired = mx.concatenate([fired, mx.zeros(lacking, mx.uint32)])
    places = mx.arange(WORD, dtype=mx.uint32)
    return mx.sum(mx.left_shift(fired.reshape(-1, WORD), places), axis=1)


def unpack(words: mx.array, shape: tuple[int, ...], scale: mx.array) -> mx.array:
    """Return the values of `pack`ed words in the dtype of `scale`, 0 or `scale`."""
    places = mx.arange(WORD, dtype=mx.uint32)
    bits = mx.bitwise_and(mx.right_shift(words[:, None], places), mx.array(1, mx.uint32))
    return bits.reshape(-1)[: math.prod(shape)].reshape(shape).astype(scale.dtype) * scale


def scale_of(x: mx.array, share: str) -> mx.array:
    """Return the scale of a binary sequence [..., C]: "unit" 1, else found in its values.

    It is the value farthest from 0: of shape [] for "layer" and [C] for "channel".
    """
    if share == "unit":
        return mx.ones((), x.dtype)
    axes = tuple(range(x.ndim - (share == "channel")))
    low, high = mx.min(x, axis=axes), mx.max(x, axis=axes)
    return mx.where(high > 0, high, low)


@lru_cache(maxsize=256)
def packed_product(share: str, kind: str, *how: int) -> Any:
    """Return the op (x, weight) -> (y, words, scale); `how` is stride, padding, groups of "conv2d".

    x is [B, H, W, C] and weight [O, kH, kW, C / groups], or [..., I] and [O, I] for "linear".
    """

    def product(x: mx.array, weight: mx.array) -> mx.array:
        if kind == "linear":
            return mx.matmul(x, weight.T)
        stride, padding, groups = how
        return mx.conv2d(x, weight, stride, padding, groups=groups)

    def forward(x: mx.array, weight: mx.array) -> tuple[mx.array, ...]:
        return product(x, weight), pack(x), scale_of(x, share)

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, weight = inputs
        again = unpack(outputs[1], x.shape, outputs[2])
        _, found = mx.vjp(lambda a, b: [product(a, b)], [again, weight], [cotangents[0]])
        return found[0], found[1]

    return custom_op(forward, backward)
