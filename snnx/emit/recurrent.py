"""The kernels of a recurrent layer over time: the op `recurrent`, with its feedback inside.

    forward     c[t] = (b c[t-1] + x[t]) + V y[t-1];  y[t], state = step(c[t], state)
    backward    g_y[t] + V^T g_c[t+1] -> reverse -> g_c[t] = b g_c[t+1] + g of the step's input

Sequences that are fed back have T + 1 slots, slot 0 before the first step, so that step t reads
slot t whatever t is. Kept for the backward: c, the states before each chunk of steps, and of y one
bit per neuron and step where y is the hard spike itself. The backward computes a chunk's states
from c again, into a scratch that is used for every chunk, and then walks back over it. The gradient
of V is a product over all steps, outside. Gradients of numbers are summed over time per neuron.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from snnx.emit.rows import RowWriter
from snnx.emit.unit import Unit
from snnx.emit.variant import WORD, Source

Decay = float | Literal["layer", "neuron"]


@dataclass(frozen=True, slots=True)
class Loop:
    """What a recurrent kernel fixes besides its unit.

    steps, static and extra are those of `Variant`. given: c, y and all states are handed in.
    trains: what the backward needs is written. decay: b as a constant, or over what it is shared;
    learns: its gradient is wanted. apart: y is rounded, and kept in float32 besides. bits: y is the
    hard spike, and kept as bits. chunk: steps between two kept states.
    """

    steps: int
    static: bool = False
    given: bool = False
    extra: Literal["", "mask", "drawn", "spike"] = ""
    trains: bool = False
    decay: Decay = 0.0
    learns: bool = False
    apart: bool = False
    bits: bool = False
    chunk: int = WORD

    @property
    def parts(self) -> list[tuple[str, int, str]]:
        """The chunks as (number, steps, tag); the number "chunk" stands for a loop over `whole`."""
        found: list[tuple[str, int, str]] = []
        if self.whole:
            found.append(("chunk" if self.whole > 1 else "0", self.chunk, "_"))
        if self.steps % self.chunk:
            found.append((str(self.whole), self.steps % self.chunk, "_r"))
        return found

    @property
    def whole(self) -> int:
        """How many chunks are whole."""
        return self.steps // self.chunk

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-self.steps // self.chunk)


def chunk_of_loop(steps: int) -> int:
    """Return a chunk whose bits fill a word, of one that divides T if it is not too short."""
    even = (n for n in range(min(steps, WORD), WORD // 4, -1) if steps % n == 0)
    return next(even, min(steps, WORD))


class Rows:
    """What both kernels share: arguments, names, and values that run through time."""

    def __init__(self, unit: Unit, loop: Loop, make: type[RowWriter]) -> None:
        self.w, self.unit, self.loop = make(), unit, loop
        self.states = {name: f"s{i}" for i, name in enumerate(unit.states)}
        self.numbers = {n.name: f"p{i}" for i, n in enumerate(unit.numbers)}

    def extra_arguments(self) -> None:
        w, extra = self.w, self.loop.extra
        if extra == "mask":
            w.argument("mask", "byte")
        elif extra == "spike":
            w.argument("imposed", "float")
        elif extra == "drawn":
            for name in ("seed", "count", "index", "times"):
                w.argument(name, "uint")
            w.argument("share", "float")
        for number in self.unit.numbers:
            w.argument(f"{self.numbers[number.name]}_at", "float")
        if isinstance(self.loop.decay, str):
            w.argument("decay_at", "float")

    def begin(self, name: str) -> None:
        """Declare the sizes and begin the kernel."""
        w = self.w
        for size in w.sizes:
            w.argument(size, "uint", "size")
        if self.loop.extra == "drawn":
            for size in ("features", "samples", "key"):
                w.argument(size, "uint", "size")
        w.begin(name)
        if w.resident:
            self._load()

    def open(self) -> None:
        """Begin the loop over columns, and load what belongs to one."""
        self.w.open_columns()
        if not self.w.resident:
            self._load()

    def close(self) -> None:
        self.w.close_columns()

    def _load(self) -> None:
        for number in self.unit.numbers:
            name = self.numbers[number.name]
            self.w.number(name, f"{name}_at", number.share == "layer")
        if isinstance(self.loop.decay, str):
            self.w.number("decay", "decay_at", self.loop.decay == "layer")
        if self.loop.extra == "drawn":
            self.w.begin_draw()

    def set(self, name: str, array: str, value: str) -> None:
        """Change a value that runs through time."""
        if self.w.resident:
            self.w.put(name, value)
        else:
            self.w.store(array, "e", value)

    def get(self, name: str, array: str) -> str:
        """Return a value that runs through time."""
        return name if self.w.resident else self.w.load(array, "e")

    def start(self, name: str, array: str, value: str = "") -> None:
        """Introduce a value that runs through time, of 0 where none is given."""
        w = self.w
        if w.resident:
            w.variable(name)
            if value:
                w.put(name, value)
        else:
            w.store(array, "e", value or w.constant(0.0))

    def decayed(self, value: str) -> str:
        """Return b times a value."""
        b = self.loop.decay
        return self.w.operations["mul"].format(
            "decay" if isinstance(b, str) else self.w.constant(b), value
        )

    def at(self, slot: str) -> str:
        """Return where the neuron lies in a slot."""
        return f"{slot} * stride + e"

    def beside(self, time: str, tag: str) -> dict[str, str]:
        """Load the mask or imposed spike of a step."""
        w, extra = self.w, self.loop.extra
        if extra in ("mask", "drawn"):
            if extra == "mask":
                w.let(f"m{tag}", w.load("mask", self.at(time), "bool"), "bool")
            else:
                w.draw(f"m{tag}", time)
            w.mark(f"m{tag}")
            return {"mask": f"m{tag}"}
        if extra == "spike":
            w.let(f"i{tag}", w.load("imposed", self.at(time)))
            w.mark(f"i{tag}")
            return {"spike": f"i{tag}"}
        return {}

    def load(self, name: str, value: str) -> str:
        """Give a loaded value a name."""
        self.w.let(name, value)
        self.w.mark(name)
        return name


def recurrent_shapes(
    source: Source, unit: Unit, loop: Loop, total: int
) -> dict[str, tuple[int, ...]]:
    """Return the flat shape of every array that the kernel writes."""
    sequence, slots = (loop.steps, total), (loop.steps + 1, total)
    found = {
        "y": sequence if loop.apart else slots,
        "z": slots,
        "spike": sequence,
        "potential": sequence,
        "currents": slots,
        "checkpoints": (loop.count, len(unit.states), total),
        "bits": (loop.count, total),
        "g_c": slots,
        "scratch": (min(loop.chunk, loop.steps), len(unit.states), total),
    }
    return {name: found.get(name, (total,)) for name in source.names("out")}
