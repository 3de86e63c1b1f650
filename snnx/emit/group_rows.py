"""Writers of a recurrent layer's kernels for Metal and CUDA: a thread group owns a row.

What is fed back lies in memory that the group shares, written and read between two barriers a
step; all else a thread reads is its own. The product has the order of `rows.CRows`, so the bits are
the same: added in the order of k, each product rounded, products with 0 left out. All threads of a
group leave out the same ones, so a silent unit costs no load of its row of the matrix.

Header macros: SNN_GROUP and SNN_LANE number the group and the thread in it, SNN_WIDTH is how many
threads a group has, SNN_SHARED declares shared memory, SNN_BARRIER waits for the group.
"""

from __future__ import annotations

from typing import ClassVar

from snnx.emit.c_text import CWriter
from snnx.emit.rows import RowWriter


class GroupRows(RowWriter, CWriter):
    """A group owns one row, of up to `capacity` units; a thread its columns, one after another."""

    gathers = False
    capacity: ClassVar[int] = 4096  # 16 KiB of the 32 that Metal shares in a group

    def begin(self, name: str) -> None:
        self.name = name
        self._sizes()
        self.row(f"SNN_SHARED(float, fed_back, {self.capacity});")
        self.row("const size_t row = (size_t)SNN_GROUP * units;")
        self.row("SNN_GUARD(row < total);")  # of all threads of a group, or of none
        if self.resident:
            self._column("SNN_LANE")

    def _column(self, number: str) -> None:
        self.row(f"const uint h = {number};")
        self.row("const size_t e = row + h;")

    def open_columns(self) -> None:
        if not self.resident:
            self.row("for (uint column = SNN_LANE; column < units; column += SNN_WIDTH) {")
            self.depth += 1
            self._column("column")

    def barrier(self) -> None:
        self.row("SNN_BARRIER;")

    def gather(self, matrix: str, array: str, slot: str) -> None:
        self._matrix = matrix
        self.open_columns()
        self.row(f"fed_back[h] = (float){array}[{slot} * stride + e];")
        self.close_columns()
        self.barrier()

    def fed(self, tag: str) -> str:
        self.row(f"float fed{tag} = 0.0f;")
        self.loop("k", "units")
        self.row("const float a = fed_back[k];")
        self.row(f"if (a != 0.0f) fed{tag} = fed{tag} + SNN_MUL(a, {self._matrix}[k * units + h]);")
        self.end()
        return f"fed{tag}"

    def number(self, name: str, array: str, shared: bool) -> None:
        self.let(name, f"{array}[{'0' if shared else 'h'}]")


class GroupResident(GroupRows):
    """The writer where a group has as many threads as there are units: each owns one column."""

    resident = True
    capacity = 512
