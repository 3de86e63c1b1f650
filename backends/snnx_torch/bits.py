"""A binary sequence as bits: packed, and unpacked by the operators of kernels or of torch.

An edge that holds 0 or one scale only (`snnx.passes.mark_packed`) is kept for backward passes as
bits, 32 values to a word. The step that makes the edge makes them, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Byte i of a word times this has bit i of the highest byte; no two products meet.
_GATHER = 0x0102040810204080


def pack(x: Tensor, language: str = "") -> Tensor:
    """Return [T, ceil(values / 32)] words of [T, *S]: bit i of word [t, j] is x[t, 32 j + i] != 0.

    `language` is that of the kernels (`snnx_torch.kernels.bits`), "" for torch's operations.
    """
    if language:
        return torch.ops.snnx.pack(x, language)
    fired = (x != 0).reshape(x.shape[0], -1).to(torch.uint8)
    fired = F.pad(fired, (0, -fired.shape[1] % 32))
    return ((fired.view(torch.int64) * _GATHER) >> 56).to(torch.uint8).view(torch.int32)


def _table(dtype: torch.dtype, device: torch.device) -> Tensor:
    values = torch.arange(256, device=device)[:, None]
    return ((values >> torch.arange(8, device=device)) & 1).to(dtype)


_kept_table = cache(_table)  # made before a step is recorded, and never given back


def ready(dtype: torch.dtype, device: torch.device, language: str = "") -> None:
    """Make what `unpack` reads: in the backward a second stream would make it."""
    if not language and not torch.compiler.is_compiling():
        _kept_table(dtype, device)


def unpack(
    bits: Tensor,
    scale: Tensor | None,
    shape: Sequence[int],
    dtype: torch.dtype,
    language: str = "",
) -> Tensor:
    """Return the sequence of a shape [T, *S], 0 or the scale: one number, one per channel, or 1."""
    if language:
        return torch.ops.snnx.unpack(bits, scale, list(shape), dtype, language)
    table = _table if torch.compiler.is_compiling() else _kept_table
    rows = F.embedding(bits.view(torch.uint8).to(torch.int32), table(dtype, bits.device))
    found = rows.reshape(shape[0], -1)[:, : math.prod(shape[1:])].reshape(shape)
    return found if scale is None else found * scale.to(dtype)


def bits_of(inputs: Mapping[str, Any], name: str) -> tuple[Tensor | None, Tensor | None]:
    """Return the bits of an input and its scale, each None where there is none."""
    return inputs.get(f"{name}_bits"), inputs.get(f"{name}_scale")
