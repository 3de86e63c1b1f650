"""The passes of batch norm beside a neuron's kernels, in Triton: what it measures and what is left.

moments     [rows, C] -> mean and sum of squared deviations of each program's rows, per channel
joined      those of all programs -> mean and biased variance
settled     g - (x slope + level), slope and level per channel: what the batch's statistics take

Sums have three levels, so that float32 keeps its digits over any number of rows: a thread adds the
deviations from the mean of the block that its program meets first, threads are added as a tree, and
programs are joined by

    mean = mean_1 + sum n_p (mean_p - mean_1) / n,    M2 = sum M2_p + sum n_p (mean_p - mean)^2

Memory is [rows, C] as it lies, channels last. A program owns a slab
of channels, so that a row of many channels is not added up across its warps.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from snnx.emit.variant import Argument, Kind, Role, Source, named_source

Pass = Literal["moments", "joined", "settled"]

_TEXTS: dict[Pass, tuple[tuple[tuple[str, Kind, Role], ...], str]] = {
    "moments": (
        (
            ("x", "data", "in"),
            ("means", "float", "out"),
            ("squares", "float", "out"),
            ("counts", "float", "out"),
            ("rows", "uint", "size"),
            ("channels", "uint", "size"),
            ("programs", "uint", "size"),
            ("turns", "uint", "size"),
        ),
        """\
    own = tl.program_id(0)
    c = tl.program_id(1) * SLAB + tl.arange(0, SLAB)[None, :]
    inside = c < channels
    wide = tl.full((), channels, tl.int64)
    row = own * ROWS + tl.arange(0, ROWS)[:, None]
    begun = tl.load(x + (row * wide + c), mask=(row < rows) & inside, other=0.0).to(tl.float32)
    first = tl.sum(begun, axis=0)[None, :] / tl.sum((row < rows).to(tl.float32))
    total = tl.full((ROWS, SLAB), 0.0, tl.float32)
    square = tl.full((ROWS, SLAB), 0.0, tl.float32)
    met = tl.full((ROWS, 1), 0.0, tl.float32)
    for turn in range(0, snn_count(turns)):
        row = (turn * programs + own) * ROWS + tl.arange(0, ROWS)[:, None]
        held = row < rows
        value = tl.load(x + (row * wide + c), mask=held & inside, other=0.0).to(tl.float32)
        apart = tl.where(held, value - first, 0.0)
        total = total + apart
        square = square + apart * apart
        met = met + held.to(tl.float32)
    count = tl.sum(met)
    away = tl.sum(total, axis=0)[None, :] / count
    spread = tl.sum(square, axis=0)[None, :] - away * away * count
    tl.store(means + (own * channels + c), first + away, mask=inside)
    tl.store(squares + (own * channels + c), tl.maximum(spread, 0.0), mask=inside)
    tl.store(counts + own, count)
""",
    ),
    "joined": (
        (
            ("means", "float", "in"),
            ("squares", "float", "in"),
            ("counts", "float", "in"),
            ("mean", "float", "out"),
            ("var", "float", "out"),
            ("channels", "uint", "size"),
            ("programs", "uint", "size"),
        ),
        """\
    p = tl.arange(0, ROWS)[:, None]
    c = tl.program_id(0) * SLAB + tl.arange(0, SLAB)[None, :]
    held = (p < programs) & (c < channels)
    weight = tl.load(counts + p, mask=p < programs, other=0.0)
    count = tl.sum(weight)
    each = tl.load(means + (p * channels + c), mask=held, other=0.0)
    first = tl.load(means + c, mask=c < channels, other=0.0)
    beyond = tl.where(held, weight * (each - first), 0.0)
    middle = first + tl.sum(beyond, axis=0)[None, :] / count
    apart = tl.where(held, each - middle, 0.0)
    spread = tl.load(squares + (p * channels + c), mask=held, other=0.0)
    found = tl.sum(spread + weight * (apart * apart), axis=0)[None, :] / count
    tl.store(mean + c, middle, mask=c < channels)
    tl.store(var + c, found, mask=c < channels)
""",
    ),
    "settled": (
        (
            ("g", "data", "in"),
            ("x", "data", "in"),
            ("slope", "float", "in"),
            ("level", "float", "in"),
            ("g_x", "data", "out"),
            ("rows", "uint", "size"),
            ("channels", "uint", "size"),
        ),
        """\
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    c = tl.program_id(1) * SLAB + tl.arange(0, SLAB)[None, :]
    wide = tl.full((), channels, tl.int64)
    held = (row < rows) & (c < channels)
    a = tl.load(slope + c, mask=c < channels, other=0.0)
    b = tl.load(level + c, mask=c < channels, other=0.0)
    place = row * wide + c
    taken = tl.load(x + place, mask=held, other=0.0).to(tl.float32) * a + b
    left = tl.load(g + place, mask=held, other=0.0).to(tl.float32) - taken
    tl.store(g_x + place, left.to(g_x.dtype.element_ty), mask=held)
""",
    ),
}


@cache
def norm_pass(which: Pass) -> Source:
    """Return the kernel of a pass; ROWS and SLAB are the block that a program owns."""
    arguments, body = _TEXTS[which]
    names = ", ".join(name for name, _, _ in arguments)
    head = f"@triton.jit\ndef NAME({names}, ROWS: tl.constexpr, SLAB: tl.constexpr):\n"
    return named_source(which, head + body, tuple(Argument(*each) for each in arguments))
