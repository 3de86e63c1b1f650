"""Which kernel of a neuron: its length, what it is given, what it keeps and hands on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Kind = Literal["data", "float", "byte", "word", "uint", "vote"]
Role = Literal["in", "out", "size"]
WORD = 32
REGISTERS = 64  # values that a thread may hold for one neuron; a longer sequence goes in chunks
UNROLLED = 16  # steps of a forward written one after another


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a kernel: an array that is read or written, or a whole number ("size").

    kind: "data" as the input, "float" float32, "byte" uint8, "word" what bits are packed in, "uint"
    whole numbers of 32 bits (or of 64, of which the lower half counts), "vote" words of 32 bits,
    one of each of 32 neurons.
    """

    name: str
    kind: Kind
    role: Role


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel as text, and the arguments it takes, in order; `votes` words it writes each 32."""

    name: str
    text: str
    arguments: tuple[Argument, ...]
    votes: int = 0

    def __hash__(self) -> int:
        return hash(self.name)  # no two texts share one

    def names(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of the arguments of these roles, in order."""
        return tuple(a.name for a in self.arguments if a.role in roles)


def named_source(name: str, text: str, arguments: tuple[Argument, ...], votes: int = 0) -> Source:
    """Return the text as a source, under a name that no other text has, in place of NAME."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    full = f"snnx_{name}_{digest}"
    return Source(full, text.replace("NAME", full), arguments, votes)


@dataclass(frozen=True, slots=True)
class Variant:
    """What a kernel fixes besides its unit.

    steps    T
    static   the input has one step, the same at all T
    given    states that are handed in; the others start at 0
    extra    "" | "mask" (an array) | "drawn" (mask bits made in the kernel) | "spike" (imposed)
    keep     "" (inference) | "input" (the backward recomputes) | "bits"
    final    final states are written, and have cotangents
    chunk    steps written one after another; the states before each chunk are kept where the
             backward recomputes and T is longer than one
    witness  the backward writes the spikes that it recomputed (for tests)
    emits    the forward writes the spikes as bits too, 32 neurons of a step to a word
    packed   the residual is read from such bits: "" it is not, else how it is scaled, "unit" by 1,
             "layer" by one number, "channel" by one per channel
    """

    steps: int
    static: bool = False
    given: tuple[str, ...] = ()
    extra: Literal["", "mask", "drawn", "spike"] = ""
    keep: Literal["", "input", "bits"] = ""
    final: bool = True
    chunk: int = UNROLLED
    witness: bool = False
    emits: bool = False
    packed: Literal["", "unit", "layer", "channel"] = ""

    @property
    def chunks(self) -> tuple[int, int]:
        """How many whole chunks, and how many steps are left."""
        return self.steps // self.chunk, self.steps % self.chunk

    @property
    def parts(self) -> int:
        """How many chunks, the last perhaps shorter."""
        return -(-self.steps // self.chunk)


def chunk_of(steps: int, keep: str, states: int, bits: int) -> int:
    """Return how many steps a kernel writes one after another.

    Bits of a chunk fill one word; a backward that recomputes holds the input and the states of a
    chunk in registers.
    """
    if keep == "bits":
        return min(steps, WORD // max(bits, 1))
    if keep == "input":
        return min(steps, max(REGISTERS // (states + 1), 1))
    return min(steps, UNROLLED)


def word_bits(variant: Variant, count: int) -> int:
    """Return the width of the words in which `count` bits a step are kept."""
    needed = variant.chunk * count
    return next(width for width in (8, 16, WORD) if needed <= width)
