"""A binary sequence as bits, by kernels of one pass: packed where no neuron did it, and unpacked.

Bit i of word [t, j] tells whether value 32 j + i of step t is not 0; a step has whole words, the
last filled with 0. What is unpacked is 0 or the scale: 1 (share "unit"), one number ("layer") or
one per channel, the last axis ("channel"), multiplied in float32 and rounded to the data's type.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from snnx.emit.variant import Argument, Source, named_source

Scaled = Literal["unit", "layer", "channel"]
Language = Literal["triton", "c"]

_TRITON_PLACE = """\
    block = tl.program_id(0)
    t = (block // blocks).to(tl.int64)
    w = (block % blocks) * WORDS + tl.arange(0, WORDS)
    lane = tl.arange(0, 32)[None, :]
    e = w[:, None] * 32 + lane
    row = (total + 31) // 32
    lane = lane.to(tl.uint32)
"""
_TRITON_PACK = """\
    value = tl.load(x + (t * total + e), mask=e < total, other=0.0).to(tl.float32)
    bit = tl.where(value != 0.0, 1, 0).to(tl.uint32) << lane
    word = tl.sum(bit, axis=1).to(tl.int32, bitcast=True)
    tl.store(words + (t * row + w), word, mask=w < row)
"""
_TRITON_UNPACK = """\
    word = tl.load(words + (t * row + w), mask=w < row, other=0).to(tl.uint32, bitcast=True)
    value = ((word[:, None] >> lane) & 1).to(tl.float32)SCALED
    tl.store(y + (t * total + e), value.to(y.dtype.element_ty), mask=e < total)
"""
_TRITON_SCALES = {
    "unit": "",
    "layer": " * tl.load(scale).to(tl.float32)",
    "channel": " * tl.load(scale + (e % period), mask=e < total, other=0.0).to(tl.float32)",
}
_C_PACK = """\
    const uint total = sizes[0];
    SNN_GUARD(SNN_GID < total);
    const size_t e = SNN_GID, stride = total, row = (stride + 31) / 32;
    for (uint t = 0; t < STEPSu; ++t) {
        SNN_VOTE(words, t, (float)x[t * stride + e] != 0.0f);
    }
"""
_C_UNPACK = """\
    const uint total = sizes[0];
    SNN_GUARD(SNN_GID < total);
    const size_t e = SNN_GID, stride = total, row = (stride + 31) / 32;
    SCALED
    for (uint t = 0; t < STEPSu; ++t) {
        const uint on = (words[t * row + e / 32] >> (e % 32)) & 1u;
        y[t * stride + e] = (DATA)SNN_MUL((float)on, held);
    }
"""
_C_SCALES = {
    "unit": "const float held = 1.0f;",
    "layer": "const float held = (float)scale[0];",
    "channel": "const float held = (float)scale[e % sizes[1]];",
}


@cache
def packing(language: Language, steps: int) -> Source:
    """Return the kernel x -> words; Triton's serves any number of steps."""
    arguments = (Argument("x", "data", "in"), Argument("words", "vote", "out"))
    arguments = (*arguments, Argument("total", "uint", "size"))
    if language == "triton":
        return _triton("pack", arguments, _TRITON_PACK)
    return named_source("pack", _C_PACK.replace("STEPS", str(steps)), arguments, steps)


@cache
def unpacking(language: Language, share: Scaled, steps: int) -> Source:
    """Return the kernel words, scale (where it is not 1) -> y; see `packing`."""
    scale = () if share == "unit" else (Argument("scale", "data", "in"),)
    arguments = (Argument("words", "vote", "in"), *scale, Argument("y", "data", "out"))
    arguments = (*arguments, Argument("total", "uint", "size"))
    if share == "channel":
        arguments = (*arguments, Argument("period", "uint", "size"))
    if language == "triton":
        return _triton("unpack", arguments, _TRITON_UNPACK.replace("SCALED", _TRITON_SCALES[share]))
    text = _C_UNPACK.replace("STEPS", str(steps)).replace("SCALED", _C_SCALES[share])
    return named_source("unpack", text, arguments)


def _triton(name: str, arguments: tuple[Argument, ...], body: str) -> Source:
    """Return a Triton kernel in which a program owns WORDS words of a step of `blocks` blocks."""
    arguments = (*arguments, Argument("blocks", "uint", "size"))
    names = ", ".join(a.name for a in arguments)
    head = f"@triton.jit\ndef NAME({names}, WORDS: tl.constexpr):\n"
    return named_source(name, head + _TRITON_PLACE + body, arguments)
