"""A binary sequence as bits, 32 values to a word, packed and unpacked by array operations."""

from __future__ import annotations

import math

import mlx.core as mx

WORD = 32


def pack(x: mx.array) -> mx.array:
    """Return words [T, W] of a sequence [T, *S]: bit i of word [t, j] is x[t, 32 j + i] != 0."""
    fired = (x.reshape(x.shape[0], -1) != 0).astype(mx.uint32)
    lacking = -fired.shape[1] % WORD
    if lacking:
        fired = mx.pad(fired, [(0, 0), (0, lacking)])
    places = mx.arange(WORD, dtype=mx.uint32)
    return mx.sum(mx.left_shift(fired.reshape(x.shape[0], -1, WORD), places), axis=2)


def unpack(
    words: mx.array, shape: tuple[int, ...], scale: mx.array | None, dtype: mx.Dtype
) -> mx.array:
    """Return the sequence of a shape [T, *S], 0 or the scale: one number, one per channel, or 1."""
    places = mx.arange(WORD, dtype=mx.uint32)
    bits = mx.bitwise_and(mx.right_shift(words[:, :, None], places), mx.array(1, mx.uint32))
    values = bits.reshape(shape[0], -1)[:, : math.prod(shape[1:])].reshape(shape).astype(dtype)
    return values if scale is None else values * scale.astype(dtype)
