"""Bilinear resizing of frames: each channel by itself, or as Pillow resizes two 8-bit channels."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Array

PRECISION = 22  # fraction bits of Pillow's weights for 8-bit images


@cache
def weights(length: int, wanted: int) -> NDArray[np.float64]:
    """The triangle filter from `length` to `wanted` pixels, float64 [wanted, length].

    centre(i) = (i + 1/2) * scale,  scale = length / wanted
    w(i, j)   = max(0, 1 - |j + 1/2 - centre(i)| / max(scale, 1)), divided by its sum over j
    """
    scale = length / wanted
    centre = (np.arange(wanted)[:, None] + 0.5) * scale
    away = np.abs(np.arange(length)[None] + 0.5 - centre) / max(scale, 1.0)
    w = np.maximum(0.0, 1.0 - away)
    w /= w.sum(axis=1, keepdims=True)
    w.flags.writeable = False
    return w


def resize(x: Array, side: int) -> NDArray[np.float32]:
    """x [T, H, W, C] as float32 [T, side, side, C], every channel by itself.

    y = A_h x A_w^T with the filter of `weights`, columns first.
    """
    across = np.einsum("jw,thwc->thjc", weights(x.shape[2], side), x, optimize=True)
    return np.einsum("ih,thjc->tijc", weights(x.shape[1], side), across).astype(np.float32)


def resize_two_channel_bytes(x: Array, side: int) -> NDArray[np.float32]:
    """x [T, H, W, 2] in [0, 1] as float32 [T, side, side, 2], through 8-bit grey-and-alpha images.

    This is what the released TET and ASGL loaders compute: channel 1 is taken for transparency, so
    that channel 0 becomes sum(w c0 c1) / sum(w c1). All values are bytes in between:

        c = floor(255 x);  c0 is multiplied by c1 / 255;  both are resized;  c0 is divided again
    """
    byte = np.floor(x * np.float32(255)).astype(np.int64)
    alpha = byte[..., 1]
    product = byte[..., 0] * alpha + 128
    premultiplied = (product + (product >> 8)) >> 8  # product / 255, rounded
    small = _resize_bytes(np.stack([premultiplied, alpha], axis=-1), side)
    grey, alpha = small[..., 0], small[..., 1]
    # Pillow leaves a pixel that is opaque or fully transparent as it is.
    divided = np.minimum(255, 255 * grey // np.maximum(alpha, 1))
    grey = np.where((alpha == 0) | (alpha == 255), grey, divided)
    return (np.stack([grey, alpha], axis=-1) / np.float32(255)).astype(np.float32)


def _resize_bytes(x: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Columns, then rows, in fixed point with a rounding to bytes after each."""
    half = 1 << (PRECISION - 1)
    for axis in (2, 1):
        w = np.floor(weights(x.shape[axis], side) * (1 << PRECISION) + 0.5).astype(np.int64)
        moved = np.tensordot(x, w, axes=([axis], [1]))  # the new axis comes last
        x = np.clip((np.moveaxis(moved, -1, axis) + half) >> PRECISION, 0, 255)
    return x
