"""Writers of a recurrent layer's kernels: whoever runs one owns rows of the batch, all units.

`gather` and `fed` are the product with the feedback: fed[row, h] = sum over k of a[row, k] M[k, h].
Triton multiplies and adds in one rounding, DEPTH partial sums over k modulo DEPTH, added as a tree;
the shared body adds in the order of k, each product rounded, and leaves out products with 0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from snnx.emit.c_text import CWriter
from snnx.emit.triton_text import TritonWriter
from snnx.emit.writer import Writer


class RowWriter(Writer):
    """A writer whose neurons are the columns of the rows that one program or thread owns.

    `resident` tells that all columns are one block: then what runs through time are variables,
    else it lies in memory and every step goes over the columns.
    """

    gathers: ClassVar[bool]  # whether `gather` writes sums into an array "fed"
    sizes: ClassVar[tuple[str, ...]] = ("total", "units")
    resident = False

    @abstractmethod
    def begin(self, name: str) -> None:
        """Begin a kernel."""

    @abstractmethod
    def open_columns(self) -> None:
        """Begin the loop over the columns, where one block does not hold them."""

    def close_columns(self) -> None:
        """End the loop over the columns."""
        if not self.resident:
            self.end()

    @abstractmethod
    def barrier(self) -> None:
        """Wait until what was stored can be loaded by all who own the rows."""

    @abstractmethod
    def gather(self, matrix: str, array: str, slot: str) -> None:
        """Prepare the product of an array's slot with the matrix, outside the columns."""

    @abstractmethod
    def fed(self, tag: str) -> str:
        """Return the product of the column, as `gather` had it."""

    @abstractmethod
    def number(self, name: str, array: str, shared: bool) -> None:
        """Give a number, one for all columns or one for each, a name."""


class TritonRows(RowWriter, TritonWriter):
    """A program owns ROWS rows; TILE columns are one block."""

    gathers = False
    sizes = ("total", "units", "tiles")
    shape = "(ROWS, TILE)"
    blocks: ClassVar = ("ROWS", "TILE", "DEPTH")

    def begin(self, name: str) -> None:
        self.name = name
        self.row("row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]")
        self.row("lines = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None, None]")
        self.row("stride = tl.full((), total, tl.int64)")
        self.row("zero = tl.full((ROWS, TILE), 0.0, tl.float32)")
        if self.resident:
            self.row("base = 0")
            self._columns()

    def open_columns(self) -> None:
        if not self.resident:
            self.row("for tile in range(0, snn_count(tiles)):")
            self.depth += 1
            self.row("base = tile * TILE")
            self._columns()

    def _columns(self) -> None:
        self.row("h = base + tl.arange(0, TILE)[None, :]")
        self.row("owned = h < units")
        self.row("m = (row * units < total) & owned")
        self.row("e = row * units + h")

    def barrier(self) -> None:
        self.row("tl.debug_barrier()")

    def gather(self, matrix: str, array: str, slot: str) -> None:
        self._product = (matrix, array, slot)

    def fed(self, tag: str) -> str:
        matrix, array, slot = self._product
        self.row(f"terms{tag} = tl.full((ROWS, DEPTH, TILE), 0.0, tl.float32)")
        self.row("for deep in range(0, snn_count((units + DEPTH - 1) // DEPTH)):")
        self.depth += 1
        self.row("inner = deep * DEPTH + tl.arange(0, DEPTH)[None, :, None]")
        self.row("outer = base + tl.arange(0, TILE)[None, None, :]")
        self.row("held = (inner < units) & (lines * units < total)")
        self.row(f"from_a = {array} + ({slot} * stride + lines * units + inner)")
        self.row("a = tl.load(from_a, mask=held, other=0.0).to(tl.float32)")
        self.row(f"from_b = {matrix} + (inner * units + outer)")
        self.row("b = tl.load(from_b, mask=(inner < units) & (outer < units), other=0.0)")
        self.row(f"terms{tag} = tl.fma(a, b, terms{tag})")
        self.depth -= 1
        self.row(f"fed{tag} = tl.sum(terms{tag}, axis=1)")
        self.mark(f"fed{tag}")
        return f"fed{tag}"

    def number(self, name: str, array: str, shared: bool) -> None:
        if shared:
            self.let(name, self.load_one(array))
        else:
            self.let(name, f"(zero + {self.load_shared(array, 'h')})")
            self.mark(name)


class TritonResident(TritonRows):
    """The writer where one block holds all columns, and registers KEPT of the matrix's PIECES.

    A piece is DEPTH rows; a program loads the pieces it keeps once, before the first step, and the
    others at every step, in the same order of sums. `units` is a constant of the compiled kernel:
    then no load within a whole piece is masked, and no mask takes registers.
    """

    sizes = ("total", "units", "pieces")
    constants = ("units",)
    blocks: ClassVar = (*TritonRows.blocks, "PIECES", "KEPT")
    resident = True

    def begin(self, name: str) -> None:
        super().begin(name)
        self.row("depth = tl.arange(0, DEPTH)[None, :, None]")
        self.row("outer = tl.arange(0, TILE)[None, None, :]")
        self.row("taken = tl.minimum(lines, total // units - 1) * units + depth")
        self.row("from_b = matrix + (depth * units + outer)")
        self.row("own = tl.arange(0, ROWS)[:, None] + 0 * h")
        self.row("kept = ()")
        self.row("for piece in tl.static_range(KEPT):")
        self.row("    filled = (piece * DEPTH + depth < units) & (outer < units)")
        self.row("    kept += (tl.load(from_b + piece * DEPTH * units, mask=filled, other=0.0),)")

    def fed(self, tag: str) -> str:
        _, array, slot = self._product
        self.row(f"terms{tag} = tl.full((ROWS, DEPTH, TILE), 0.0, tl.float32)")
        self.row(f"from_a = {array} + {slot} * stride + taken")
        self.row("for piece in tl.static_range(KEPT):")
        self._multiply(tag, "piece", "kept[piece]")
        self.row("if KEPT > 0:")  # the others are few enough to be written one after another
        self._others(tag, "KEPT, PIECES")
        self.row("else:")
        self._others(tag, "0, snn_count(pieces)")
        # Without a gather Triton goes on with a neuron in as many threads as have summed it.
        self.row(f"fed{tag} = tl.gather(tl.sum(terms{tag}, axis=1), own, 0)")
        self.mark(f"fed{tag}")
        return f"fed{tag}"

    def _others(self, tag: str, bounds: str) -> None:
        self.depth += 1
        self.row(f"for deep in range({bounds}):")
        self.row("    inside = (deep * DEPTH + depth < units) & (outer < units)")
        self.row("    at_b = from_b + deep * DEPTH * units")
        self.row("    b = tl.load(at_b, mask=inside, other=0.0, eviction_policy='evict_last')")
        self._multiply(tag, "deep", "b")
        self.depth -= 1

    def _multiply(self, tag: str, piece: str, values: str) -> None:
        mask = f"{piece} * DEPTH + depth < units"
        load = f"tl.load(from_a + {piece} * DEPTH, mask={mask}, other=0.0)"
        self.row(f"    a = {load}.to(tl.float32)")
        self.row(f"    terms{tag} = tl.fma(a, {values}, terms{tag})")


class CRows(RowWriter, CWriter):
    """A thread owns one row, and goes over its columns one after another."""

    gathers = True

    def begin(self, name: str) -> None:
        self.name = name
        self._sizes()
        self.row("SNN_GUARD(SNN_GID * units < total);")
        self.row("const size_t row = (size_t)SNN_GID * units;")

    def open_columns(self) -> None:
        self.loop("h", "units")
        self.row("const size_t e = row + h;")

    def barrier(self) -> None:
        """A row has one thread."""

    def gather(self, matrix: str, array: str, slot: str) -> None:
        self.loop("h", "units")
        self.row("fed[row + h] = 0.0f;")
        self.end()
        self.loop("k", "units")
        self.row(f"const float a = (float){array}[{slot} * stride + row + k];")
        self.row("if (a != 0.0f)")
        self.loop("h", "units")
        self.row(f"fed[row + h] = fed[row + h] + SNN_MUL(a, {matrix}[k * units + h]);")
        self.end()
        self.end()

    def fed(self, tag: str) -> str:
        return "fed[e]"

    def number(self, name: str, array: str, shared: bool) -> None:
        self.let(name, f"{array}[{'0' if shared else 'h'}]")
