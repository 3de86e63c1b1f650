"""Bits of a binary sequence by kernels on Metal and CUDA, one pass each (`snnx.emit.bits`)."""

from __future__ import annotations

import math

import mlx.core as mx

from snnx.emit import packing, unpacking
from snnx.emit.bits import Scaled
from snnx.emit.layout import words
from snnx_mlx.kernels import launch


def pack(x: mx.array) -> mx.array:
    """Return the words [T, W] of a sequence [T, *S]."""
    total = math.prod(x.shape[1:])
    arrays = [x.reshape(-1), mx.array([total], mx.uint32)]
    shape = (x.shape[0], words(total))
    source = packing("c", x.shape[0])
    return launch.execute(source, arrays, x.dtype, total, [(shape, mx.uint32)])[0]


def unpack(
    bits: mx.array, shape: tuple[int, ...], scale: mx.array | None, dtype: mx.Dtype
) -> mx.array:
    """Return the sequence of a shape [T, *S], 0 or the scale: one number, one per channel, or 1."""
    total = math.prod(shape[1:])
    share: Scaled = "unit" if scale is None else "channel" if scale.ndim else "layer"
    sizes, arrays = [total], [bits.reshape(-1)]
    if scale is not None:
        sizes += [shape[-1]] if scale.ndim else []
        arrays.append(scale.astype(dtype).reshape(-1))
    arrays.append(mx.array(sizes, mx.uint32))
    source = unpacking("c", share, shape[0])
    return launch.execute(source, arrays, dtype, total, [(shape, dtype)])[0]
