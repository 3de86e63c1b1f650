"""Bits of a binary sequence as operators of torch: one pass over memory each (`snnx.emit.bits`).

snnx::pack(x [T, *S], language) -> words [T, ceil(prod(S) / 32)] of int32
snnx::unpack(words, scale or None, [T, *S], dtype, language) -> 0 or the scale, [T, *S]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from snnx.emit import Source, packing, unpacking
from snnx.emit.bits import Language, Scaled
from snnx.emit.layout import words
from snnx_torch.kernels import host
from snnx_torch.kernels.launch import BYTES, WARPS
from snnx_torch.kernels.loading import function, on
from snnx_torch.kernels.operator import fake, operator


def _launch(
    source: Source, language: str, arrays: Mapping[str, Tensor], data: Tensor, total: int
) -> None:
    """Run a kernel on contiguous arrays; `data` is the sequence of values among them."""
    steps, row = data.shape[0], words(total)
    known = {"total": total, "period": data.shape[-1] if data.dim() > 1 else 1}
    if language == "cpp":
        numbers = {name: known[name] for name in source.names("size")}
        host.call(source, data.dtype, 32, arrays, numbers, total)
        return
    block = WARPS * BYTES // data.element_size()  # words of a program, 32 values each
    blocks = -(-row // block)
    every = {**arrays, **known, "blocks": blocks}
    ordered = [every[a.name] for a in source.arguments]
    run = function(source)
    with on(data.device):
        run[(steps * blocks,)](*ordered, WORDS=block, num_warps=WARPS, enable_fp_fusion=False)


def _fixed(language: str, steps: int) -> tuple[Language, int]:
    """Return the language of a text and the steps that it fixes."""
    return ("c", steps) if language == "cpp" else ("triton", 0)


@operator("pack")
def pack(x: Tensor, language: str) -> Tensor:
    """Return the words of a sequence."""
    x, total = x.contiguous(), math.prod(x.shape[1:])
    found = torch.empty((x.shape[0], words(total)), dtype=torch.int32, device=x.device)
    source = packing(*_fixed(language, x.shape[0]))
    _launch(source, language, {"x": x, "words": found}, x, total)
    return found


@fake(pack)
def _(x: Tensor, language: str) -> Tensor:
    return x.new_empty((x.shape[0], words(x.shape[1:].numel())), dtype=torch.int32)


@operator("unpack")
def unpack(
    bits: Tensor, scale: Tensor | None, shape: Sequence[int], dtype: torch.dtype, language: str
) -> Tensor:
    """Return the values of a shape."""
    found = torch.empty(shape, dtype=dtype, device=bits.device)
    share: Scaled = "unit" if scale is None else "channel" if scale.dim() else "layer"
    arrays = {"words": bits.contiguous(), "y": found}
    if scale is not None:
        arrays["scale"] = scale.to(dtype).contiguous()
    text, steps = _fixed(language, found.shape[0])
    source = unpacking(text, share, steps)
    _launch(source, language, arrays, found, math.prod(shape[1:]))
    return found


@fake(unpack)
def _(
    bits: Tensor, scale: Tensor | None, shape: Sequence[int], dtype: torch.dtype, language: str
) -> Tensor:
    return bits.new_empty(shape, dtype=dtype)
