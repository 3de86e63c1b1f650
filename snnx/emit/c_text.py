"""Kernels as the body that Metal, CUDA and C++ share: a thread owns one neuron or a column.

What differs between the three stands in a header of macros (`c_header`). The body names the arrays
as its arguments, `sizes` as an array of uint, DATA and WORD as types, SNN_GID as the thread's
number.
CUDA's multiplication is __fmul_rn, which no compiler contracts, since MLX passes its compiler no
option against it; Metal and C++ switch contraction off.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from snnx.emit.c_header import header
from snnx.emit.variant import Argument, Source
from snnx.emit.writer import Type, Writer


class CWriter(Writer):
    """Writes the body of a kernel in the common part of Metal, CUDA and C++."""

    operations: ClassVar = {
        "add": "({0} + {1})",
        "sub": "({0} - {1})",
        "mul": "SNN_MUL({0}, {1})",
        "fma": "SNN_FMA({0}, {1}, {2})",
        "div": "SNN_DIV({0}, {1})",
        "neg": "(-{0})",
        "abs": "SNN_ABS({0})",
        "exp": "SNN_EXP({0})",
        "log": "SNN_LOG({0})",
        "tanh": "SNN_TANH({0})",
        "atan": "SNN_ATAN({0})",
        "sqrt": "SNN_SQRT({0})",
        "maximum": "SNN_MAX({0}, {1})",
        "minimum": "SNN_MIN({0}, {1})",
        "ge": "({0} >= {1})",
        "gt": "({0} > {1})",
        "where": "({0} ? {1} : {2})",
        "spike_ge": "({0} >= 0.0f ? 1.0f : 0.0f)",
        "spike_gt": "({0} > 0.0f ? 1.0f : 0.0f)",
    }

    def constant(self, value: float) -> str:
        text = f"{np.float32(value):.9g}"  # 9 digits give every float32 back
        return f"{text}f" if "." in text or "e" in text else f"{text}.0f"

    def let(self, name: str, value: str, kind: Type = "float") -> None:
        self.row(f"const {kind} {name} = {value};")

    def variable(self, name: str, value: float | int = 0.0, kind: Type = "float") -> None:
        self.row(f"{kind} {name} = {value}{'u' if kind == 'uint' else 'f'};")

    def put(self, name: str, value: str) -> None:
        self.row(f"{name} = {value};")

    def add(self, name: str, value: str) -> str:
        return f"{name} + {value}"

    def accumulate(self, name: str, value: str) -> None:
        self.row(f"{name} = {name} + {value};")

    def full(self, value: str) -> str:
        return value

    def tile(self, name: str) -> None:
        self.name = name
        self._sizes()
        self.row("SNN_GUARD(SNN_GID < total);")
        self.row("const size_t e = SNN_GID;")
        self.row("const size_t column = e;")

    def lanes(self, name: str) -> None:
        self.name = name
        self._sizes()
        self.row("SNN_GUARD(SNN_GID < lane * groups);")
        self.row("const size_t column = SNN_GID % lane;")
        self.row("const size_t group = SNN_GID / lane;")

    def _sizes(self) -> None:
        sizes = [a.name for a in self.arguments if a.role == "size"]
        for i, name in enumerate(sizes):
            if name != "turns":  # the loop over rows ends by itself
                self.row(f"const uint {name} = sizes[{i}];")
        self.row("const size_t stride = total;")
        if self.has_votes:
            self.row("const size_t row = (stride + 31) / 32;")

    def rows_of_lane(self) -> None:
        self.row("uint turn = 0;")
        step = "e += (size_t)lane * groups, ++turn"
        self.row(f"for (size_t e = group * lane + column; e < total; {step}) {{")
        self.depth += 1

    def loop(self, variable: str, count: int | str) -> None:
        bound = f"{count}u" if isinstance(count, int) else count
        self.row(f"for (uint {variable} = 0; {variable} < {bound}; ++{variable}) {{")
        self.depth += 1

    def end(self) -> None:
        self.depth -= 1
        self.row("}")

    def load(self, array: str, index: str, kind: Type = "float") -> str:
        return f"({array}[{index}] != 0)" if kind == "bool" else f"({kind}){array}[{index}]"

    def load_one(self, array: str, index: str = "0", kind: Type = "float") -> str:
        return f"({kind}){array}[{index}]"

    def load_shared(self, array: str, index: str, kind: Type = "float") -> str:
        return f"({kind}){array}[{index}]"

    def store(self, array: str, index: str, value: str) -> None:
        kind = next(a.kind for a in self.arguments if a.name == array)
        self.row(f"{array}[{index}] = {'(DATA)' if kind == 'data' else ''}({value});")

    def store_word(self, array: str, index: str, value: str) -> None:
        kind = next(a.kind for a in self.arguments if a.name == array)
        self.row(f"{array}[{index}] = ({_CPP_TYPES[kind]})({value});")

    def store_column(self, array: str, value: str) -> None:
        self.store_word(array, "group * lane + column", value)

    def quotient(self, number: str, by: str) -> str:
        return f"({number} / {by})"

    def reduce(self, array: str, value: str, share: str) -> None:
        self.row(f"{array}[group * lane + column] = {value};")

    def bit(self, condition: str, place: int | str) -> str:
        return f"((uint){condition} << {place})"

    def unbit(self, word: str, place: int) -> str:
        return f"((({word} >> {place}) & 1u) != 0)"

    def vote(self, array: str, time: str, condition: str) -> None:
        self.row(f"SNN_VOTE({array}, {time}, {condition});")

    def voted(self, array: str, time: str) -> str:
        return f"(float)(({array}[{time} * row + e / 32] >> (e % 32)) & 1u)"

    def begin_draw(self) -> None:
        self.row("const uint place = index[(e / features) % samples];")
        self.row("const uint element = e % features;")

    def draw(self, name: str, time: str) -> None:
        drawn = f"snn_draw(count[0], place, times[{time}], element, seed[0], key)"
        self.row(f"const bool {name} = {drawn} < share[0];")

    def source(self) -> Source:
        return self.named("\n".join([*self.rows, ""]))


_CPP_TYPES = {"data": "DATA", "float": "float", "byte": "uint8_t", "word": "WORD", "uint": "uint"}
_CPP_TYPES |= {"vote": "uint"}


def grouped(source: Source) -> bool:
    """Return whether a kernel's threads work in groups that share memory."""
    return "SNN_GROUP" in source.text


def parameter(argument: Argument, space: str = "") -> str:
    """Return an array argument as a C parameter, in an address space."""
    const = "const " if argument.role == "in" else ""
    return f"{space}{const}{_CPP_TYPES[argument.kind]}* SNN_RESTRICT {argument.name}"


def cpp_program(sources: Iterable[tuple[Source, str, int]]) -> str:
    """Return a C++ file with a function NAME_DATA(arrays, sizes, first, last) for every source.

    A source comes with the type of its data, "float", "half" or "bfloat", and the width of its
    words. The function is the grid: a loop over the threads from `first`, a multiple of 32 where
    the kernel votes, to `last`.
    """
    functions = [_cpp_function(*each) for each in dict.fromkeys(sources)]
    return "\n".join([header("cpp"), *functions])


def _cpp_function(source: Source, data: str, word: int) -> str:
    arrays = [a for a in source.arguments if a.role != "size"]
    parameters = ", ".join(parameter(a) for a in arrays)
    given = ", ".join(
        f"({'const ' if a.role == 'in' else ''}{_CPP_TYPES[a.kind]}*)arrays[{i}]"
        for i, a in enumerate(arrays)
    )
    name, voting = cpp_name(source, data), source.votes > 0
    lane = ", const size_t lane, uint8_t* SNN_RESTRICT votes" if voting else ""
    grid = _voting_grid(source, arrays) if voting else _GRID
    return f"""\
namespace in_{name} {{
typedef {data} DATA;
typedef uint{word}_t WORD;
static inline void body(
    const size_t SNN_GID{lane}, {parameters}, const uint* SNN_RESTRICT sizes) {{
{source.text}}}
}}
extern "C" void {name}(void** arrays, const uint* sizes, size_t first, size_t last) {{
    using namespace in_{name};
{grid.replace("GIVEN", given)}}}
"""


_GRID = """\
    SNN_INDEPENDENT
    for (size_t thread = first; thread < last; ++thread)
        body(thread, GIVEN, sizes);
"""


def _voting_grid(source: Source, arrays: list[Argument]) -> str:
    """Return the grid in which 32 threads note their votes, which then become words."""
    place = next(i for i, a in enumerate(arrays) if a.kind == "vote" and a.role == "out")
    total = source.names("size").index("total")
    return f"""\
    const size_t row = ((size_t)sizes[{total}] + 31) / 32;
    std::vector<uint8_t> noted({source.votes} * 32);
    for (size_t base = first; base < last; base += 32) {{
        const size_t count = last - base < 32 ? last - base : 32;
        uint8_t* votes = noted.data();
        if (count < 32) std::memset(votes, 0, noted.size());
        SNN_INDEPENDENT
        for (size_t lane = 0; lane < count; ++lane)
            body(base + lane, lane, votes, GIVEN, sizes);
        for (size_t time = 0; time < {source.votes}; ++time)
            ((uint*)arrays[{place}])[time * row + base / 32] = snn_gathered(votes + time * 32);
    }}
"""


def cpp_name(source: Source, data: str) -> str:
    """Return the name of the source's function in a C++ program."""
    return f"{source.name}_{data}"
