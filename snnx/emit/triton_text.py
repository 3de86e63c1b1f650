"""Kernels as Triton: a program owns a block of neurons, BLOCK of them next to each other.

The text needs, as globals, `triton`, `tl`, the functions of `FUNCTIONS` under these names, and
snn_count, which returns its argument as the bound of a loop (COUNT, where Triton compiles).
Division and square root are those of IEEE 754. An array of votes is given as bytes.
"""

from __future__ import annotations

from typing import ClassVar

from snnx.emit.philox import triton_draw
from snnx.emit.variant import Source
from snnx.emit.writer import Type, Writer

FUNCTIONS = {"snn_exp": "exp", "snn_log": "log", "snn_tanh": "tanh", "snn_atan": "atan"}
COUNT = "@triton.jit\ndef snn_count(n):\n    return n\n"
_TYPES = {"float": "tl.float32", "uint": "tl.uint32", "bool": "tl.int1"}


class TritonWriter(Writer):
    """Writes a @triton.jit function; out-of-range neurons of the last block are masked by `m`."""

    shape = "(BLOCK,)"
    blocks: ClassVar[tuple[str, ...]] = ("BLOCK",)
    constants: ClassVar[tuple[str, ...]] = ()  # sizes that a compiled kernel is made for

    operations: ClassVar = {
        "add": "({0} + {1})",
        "sub": "({0} - {1})",
        "mul": "({0} * {1})",
        "fma": "tl.fma({0}, {1}, {2})",
        "div": "tl.div_rn({0}, {1})",
        "neg": "(-{0})",
        "abs": "tl.abs({0})",
        "exp": "snn_exp({0})",
        "log": "snn_log({0})",
        "tanh": "snn_tanh({0})",
        "atan": "snn_atan({0})",
        "sqrt": "tl.sqrt_rn({0})",
        "maximum": "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
        "minimum": "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
        "ge": "({0} >= {1})",
        "gt": "({0} > {1})",
        "where": "tl.where({0}, {1}, {2})",
        "spike_ge": "tl.where({0} >= 0.0, 1.0, 0.0)",
        "spike_gt": "tl.where({0} > 0.0, 1.0, 0.0)",
    }

    def constant(self, value: float) -> str:
        return repr(float(value))

    def let(self, name: str, value: str, kind: Type = "float") -> None:
        self.row(f"{name} = {value}")

    def variable(self, name: str, value: float | int = 0.0, kind: Type = "float") -> None:
        self.row(f"{name} = tl.full({self.shape}, {value}, {_TYPES[kind]})")
        self.mark(name)

    def put(self, name: str, value: str) -> None:
        self.row(f"{name} = {value}")

    def add(self, name: str, value: str) -> str:
        return f"{name} + {value}"

    def accumulate(self, name: str, value: str) -> None:
        self.row(f"{name} = {name} + tl.where(m, {value}, 0.0)")

    def full(self, value: str) -> str:
        return value if value in self.wide else f"(zero + {value})"

    def tile(self, name: str) -> None:
        self.name = name
        self.row("column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)")
        self.row("e = column")
        self.row("m = e < total")
        self.row("owned = m")
        self._common()

    def lanes(self, name: str) -> None:
        self.name = name
        self.row("column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)")
        self.row("owned = column < lane")
        self._common()

    def _common(self) -> None:
        self.row("zero = tl.full((BLOCK,), 0.0, tl.float32)")
        self.row("stride = tl.full((), total, tl.int64)")
        if self.has_votes:
            self.row("row = (stride + 31) // 32 * 4")
        if self.votes:
            self.row("place_of = tl.arange(0, BLOCK) % 8")
            self.row("byte_of = tl.program_id(0) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)")

    def rows_of_lane(self) -> None:
        self.row("for turn in range(0, snn_count(turns)):")
        self.depth += 1
        self.row("e = (tl.program_id(1) + turn * groups) * lane + column")
        self.row("m = owned & (e < total)")

    def loop(self, variable: str, count: int | str) -> None:
        self.row(f"for {variable} in range(0, {count}):")
        self.depth += 1

    def end(self) -> None:
        self.depth -= 1

    def load(self, array: str, index: str, kind: Type = "float") -> str:
        other = "0.0" if kind == "float" else "0"
        text = f"tl.load({array} + ({index}), mask=m, other={other})"
        return f"({text} != 0)" if kind == "bool" else f"{text}.to({_TYPES[kind]})"

    def load_one(self, array: str, index: str = "0", kind: Type = "float") -> str:
        return f"tl.load({array} + ({index})).to({_TYPES[kind]})"

    def load_shared(self, array: str, index: str, kind: Type = "float") -> str:
        return f"tl.load({array} + ({index}), mask=owned, other=1).to({_TYPES[kind]})"

    def store(self, array: str, index: str, value: str) -> None:
        self.store_word(array, index, self.full(value))

    def store_word(self, array: str, index: str, value: str) -> None:
        value = f"({value}).to({array}.dtype.element_ty)"
        self.row(f"tl.store({array} + ({index}), {value}, mask=m)")

    def store_column(self, array: str, value: str) -> None:
        place = "tl.program_id(1) * lane + column"
        cast = f"({value}).to({array}.dtype.element_ty)"
        self.row(f"tl.store({array} + {place}, {cast}, mask=owned)")

    def quotient(self, number: str, by: str) -> str:
        return f"({number} // {by})"

    def reduce(self, array: str, value: str, share: str) -> None:
        if share == "layer":
            place = "tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)"
            self.row(f"tl.store({array} + {place}, tl.sum({value}, axis=0))")
        else:
            place = "tl.program_id(1) * lane + column"
            self.row(f"tl.store({array} + {place}, {value}, mask=owned)")

    def bit(self, condition: str, place: int | str) -> str:
        return f"({condition}.to(tl.uint32) << {place})"

    def unbit(self, word: str, place: int) -> str:
        return f"((({word} >> {place}) & 1) != 0)"

    def vote(self, array: str, time: str, condition: str) -> None:
        # a byte is one thread's where the data have 16 bits: nothing goes from thread to thread
        self.row(f"ballot = tl.where(m & {condition}, 1, 0) << place_of")
        self.row("ballot = tl.sum(tl.reshape(ballot, (BLOCK // 8, 8)), axis=1).to(tl.uint8)")
        self.row(f"tl.store({array} + ({time} * row + byte_of), ballot, mask=byte_of < row)")

    def voted(self, array: str, time: str) -> str:
        byte = f"tl.load({array} + ({time} * row + e // 8), mask=m, other=0)"
        return f"(({byte}.to(tl.int32) >> (e % 8)) & 1).to(tl.float32)"

    def begin_draw(self) -> None:
        self.row("sample = (e // features) % samples")
        self.row("place = tl.load(index + sample, mask=m, other=0).to(tl.uint32)")
        self.row("element = (e % features).to(tl.uint32)")
        self.row("key0 = tl.load(seed).to(tl.uint32)")
        self.row("key1 = tl.full((), key, tl.uint32)")
        self.row("word0 = tl.load(count).to(tl.uint32)")

    def draw(self, name: str, time: str) -> None:
        now = f"tl.load(times + ({time})).to(tl.uint32)"
        drawn = f"snn_draw(word0, place, {now}, element, key0, key1)"
        self.row(f"{name} = {drawn} < tl.load(share)")

    def source(self) -> Source:
        names = [
            f"{a.name}: tl.constexpr" if a.name in self.constants else a.name
            for a in self.arguments
        ]
        sizes = [f"{name}: tl.constexpr" for name in self.blocks]
        head = f"({', '.join([*names, *sizes])}):"
        body = "\n".join(["@triton.jit", "def NAME" + head, *self.rows, ""])
        if "snn_draw(" in body:
            body = triton_draw() + "\n\n" + body
        return self.named(body)
