"""How a kernel is written down: lists of scalar operations, loads, stores and loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from snnx.emit.variant import Argument, Kind, Role, Source, named_source
from snnx.trace import Lines, Ref

BOOLEANS = ("ge", "gt")
Type = Literal["float", "bool", "uint"]
Names = Mapping[str, str]


class Writer(ABC):
    """Collects the text of one kernel. A writer of a language prints operations and movement.

    `operations` maps an operation of a list to a format of its arguments. Names of a list become
    identifiers: inputs by a mapping, results by their own name and a suffix per step.
    """

    operations: ClassVar[Mapping[str, str]]

    def __init__(self) -> None:
        self.name = ""
        self.rows: list[str] = []
        self.depth = 1
        self.arguments: list[Argument] = []
        self.wide: set[str] = set()  # what holds one value per neuron, not one for all
        self.votes = 0

    def argument(self, name: str, kind: Kind, role: Role = "in") -> str:
        """Declare an argument; return its name."""
        self.arguments.append(Argument(name, kind, role))
        return name

    def has(self, name: str) -> bool:
        """Tell whether the argument was declared."""
        return any(a.name == name for a in self.arguments)

    def row(self, text: str) -> None:
        """Write one line."""
        self.rows.append("    " * self.depth + text)

    @abstractmethod
    def constant(self, value: float) -> str:
        """Return a float32 constant."""

    @abstractmethod
    def let(self, name: str, value: str, kind: Type = "float") -> None:
        """Give a value a name that is never changed."""

    @abstractmethod
    def variable(self, name: str, value: float | int = 0.0, kind: Type = "float") -> None:
        """Introduce a name that changes."""

    @abstractmethod
    def put(self, name: str, value: str) -> None:
        """Change a variable."""

    @abstractmethod
    def add(self, name: str, value: str) -> str:
        """Return a sum."""

    @abstractmethod
    def accumulate(self, name: str, value: str) -> None:
        """Add a neuron's value to a variable; nothing where there is no neuron."""

    @abstractmethod
    def full(self, value: str) -> str:
        """Return a value as one per neuron."""

    @abstractmethod
    def tile(self, name: str) -> None:
        """Begin a kernel in which every thread owns the neuron `e`."""

    @abstractmethod
    def lanes(self, name: str) -> None:
        """Begin a kernel in which every thread owns the neurons `e` = column + k * lane."""

    @abstractmethod
    def rows_of_lane(self) -> None:
        """Begin the loop over the neurons of a thread's column, the `turn`-th at a time."""

    @abstractmethod
    def loop(self, variable: str, count: int | str) -> None:
        """Begin a loop over 0 .. count - 1; the count is a number or a name."""

    @abstractmethod
    def end(self) -> None:
        """End the innermost loop."""

    @abstractmethod
    def load(self, array: str, index: str, kind: Type = "float") -> str:
        """Return the value of an array at an index of the neuron."""

    @abstractmethod
    def load_one(self, array: str, index: str = "0", kind: Type = "float") -> str:
        """Return the value of an array at an index that is the same for every neuron."""

    @abstractmethod
    def load_shared(self, array: str, index: str, kind: Type = "float") -> str:
        """Return the value of an array shared by several neurons, at an index from `column`."""

    @abstractmethod
    def store(self, array: str, index: str, value: str) -> None:
        """Write a value of the neuron."""

    @abstractmethod
    def store_word(self, array: str, index: str, value: str) -> None:
        """Write a word of the neuron."""

    @abstractmethod
    def store_column(self, array: str, value: str) -> None:
        """Write a word of a thread's column."""

    @abstractmethod
    def quotient(self, number: str, by: str) -> str:
        """Return a whole number divided by another, rounded down."""

    @abstractmethod
    def reduce(self, array: str, value: str, share: str) -> None:
        """Write what a thread, or a block of them, has summed of a number's gradient."""

    @abstractmethod
    def bit(self, condition: str, place: int | str) -> str:
        """Return a word with the condition at a place."""

    @abstractmethod
    def unbit(self, word: str, place: int) -> str:
        """Return the condition at a place of a word."""

    @abstractmethod
    def vote(self, array: str, time: str, condition: str) -> None:
        """Write the condition of a step's neurons as bits, 32 to a word, `row` words a step."""

    @abstractmethod
    def voted(self, array: str, time: str) -> str:
        """Return 1 or 0, the neuron's bit of a step in what `vote` wrote."""

    @abstractmethod
    def begin_draw(self) -> None:
        """Load what the draws of a neuron share."""

    @abstractmethod
    def draw(self, name: str, time: str) -> None:
        """Give `name` the mask bit of the neuron at a time: Philox4x32-10, uniform < share."""

    @abstractmethod
    def source(self) -> Source:
        """Return the kernel."""

    def named(self, text: str) -> Source:
        """Return the text as a source, under a name that no other text has."""
        return named_source(self.name, text, tuple(self.arguments), self.votes)

    def value(self, ref: Ref, names: Names, suffix: str) -> str:
        """Return the identifier or constant of a reference."""
        if not isinstance(ref, str):
            return self.constant(ref)
        return names[ref] if ref in names else ref + suffix

    def steps(self, lines: Lines, names: Names, suffix: str, done: set[str]) -> dict[str, str]:
        """Write the operations that are not in `done`; return the identifiers of the outputs."""
        for line in lines.lines:
            if line.out in done:
                continue
            done.add(line.out)
            args = [self.value(a, names, suffix) for a in line.args]
            text = self.operations[line.op].format(*args)
            if self.wide.intersection(args):
                self.wide.add(line.out + suffix)
            self.let(line.out + suffix, text, "bool" if line.op in BOOLEANS else "float")
        return {name: self.value(ref, names, suffix) for name, ref in lines.outputs}

    def voting(self, array: str, steps: int) -> None:
        """Declare the array of bits that `vote` writes at so many steps."""
        self.argument(array, "vote", "out")
        self.votes = steps

    @property
    def has_votes(self) -> bool:
        """Whether bits of steps are read or written."""
        return any(a.kind == "vote" for a in self.arguments)

    def mark(self, *names: str) -> None:
        """Note that the names hold one value per neuron."""
        self.wide.update(names)


def unprinted(operations: Iterable[str], writer: type[Writer]) -> list[str]:
    """Return the operations that a writer cannot print."""
    return sorted(set(operations) - set(writer.operations))
