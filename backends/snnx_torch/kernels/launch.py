"""Launches of Triton kernels on tensors: outputs, blocks and grids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Source, Unit, Variant
from snnx.emit.layout import Layout, finished, kinds, partials, shapes, sizes, widest
from snnx_torch.kernels.loading import function, interpreting, on

WARPS = 4
PROGRAMS = 1056  # of a kernel that sums: eight for each of 132 multiprocessors
LIVE = 32  # values that a thread holds over a chunk: about 100 registers
BYTES = 16  # of one load of a thread
INTERPRETED = 64  # neurons of a block where Triton interprets
_WORDS = {"word8": torch.uint8, "word16": torch.int16, "word32": torch.int32, "vote": torch.int32}


def block(unit: Unit, variant: Variant, itemsize: int) -> int:
    """Return how many neurons a program owns: a power of two per thread, as registers allow."""
    if interpreting():
        return INTERPRETED
    held = variant.chunk * max(len(unit.states), 1) if variant.keep == "input" else 1
    if variant.keep:
        held += len(unit.learned)  # sums that live over all rows
    each = BYTES // itemsize
    while each * itemsize > 4 and each * held > LIVE:
        each //= 2
    return 32 * WARPS * each


def summing(unit: Unit, layout: Layout, size: int) -> Layout:
    """Return the lanes of a backward that sums: whole blocks where that is not too long."""
    share = widest(unit)
    if share == "layer":
        programs = min(-(-layout.total // size), PROGRAMS)
        return layout.lanes(share, size * programs, 1)
    period = layout.period(share)
    even = math.lcm(period, size)
    width = even if even <= layout.total else size
    blocks = -(-max(width, period) // size)
    return layout.lanes(share, width, max(PROGRAMS // blocks, 1))


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel with all that the shapes of its arrays decide; called with arrays, it runs.

    outputs: name, flat shape and dtype of each array that it writes; numbers: the whole numbers
    that it takes.
    """

    source: Source
    outputs: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    numbers: Mapping[str, int]
    grid: tuple[int, ...]
    size: int

    def __call__(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the kernel on arrays by name; return what it wrote, in flat shapes."""
        device = (arrays["x"] if "x" in arrays else arrays["g_y"]).device
        outputs = {n: torch.empty(s, dtype=d, device=device) for n, s, d in self.outputs}
        given = {n: arrays[n].contiguous() for n in self.source.names("in")}
        every: dict[str, Any] = {**given, **outputs, **self.numbers}
        votes = [a.name for a in self.source.arguments if a.kind == "vote"]
        every |= {n: every[n].view(torch.uint8) for n in votes}
        ordered = [every[a.name] for a in self.source.arguments]
        options = {"BLOCK": self.size, "num_warps": WARPS, "enable_fp_fusion": False}
        with on(device):
            function(self.source)[self.grid](*ordered, **options)
        return outputs


def launch(
    source: Source,
    unit: Unit,
    variant: Variant,
    layout: Layout,
    data: torch.dtype,
    size: int,
    samples: int = 0,
    key: int = 0,
) -> Launch:
    """Return the launch of a kernel on arrays of a layout, with `size` neurons to a program."""
    kind = kinds(source, unit, variant)
    outputs = []
    for name, shape in shapes(source, unit, variant, layout).items():
        dtype = {"data": data, "float": torch.float32, "byte": torch.uint8}.get(kind[name])
        if name.startswith("partial_"):
            shape = _partial_shape(name, shape, unit, layout, size)
        outputs.append((name, shape, dtype or _WORDS[kind[name]]))
    numbers = sizes(source, unit, layout, samples, key)
    columns = -(-(layout.lane if "lane" in numbers else layout.total) // size)
    grid = (columns, layout.groups) if "lane" in numbers else (columns,)
    return Launch(source, tuple(outputs), numbers, grid, size)


def _partial_shape(
    name: str, shape: tuple[int, ...], unit: Unit, layout: Layout, size: int
) -> tuple[int, ...]:
    share = dict(partials(unit).values()).get(name, "layer")
    return (layout.groups, -(-layout.lane // size)) if share == "layer" else shape


def summed(unit: Unit, got: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return the gradients of the learned numbers, flat."""
    return {
        name: finished(got[partial], share, layout)
        for name, (partial, share) in partials(unit).items()
    }
