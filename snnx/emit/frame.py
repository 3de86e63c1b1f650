"""The movement of a neuron's kernels: what is loaded, kept, reduced, and in which loop over time.

Memory is flat: x, y and gradients are [T, total], states [total], total = N * prod(F); neuron e of
a step lies at t * total + e. A number shared over a channel or a neuron lies at e modulo its
period. Every thread keeps the states of its neurons in float32 over all T.

forward     x -> y, perhaps final states; in training also what the backward needs:
            keep "bits": one word per neuron and chunk; keep "input": nothing but, where T is
            longer than a chunk, the states before each chunk
backward    keep "input": load a chunk of x, recompute its states, then run the reverse over it;
            keep "bits": run the reverse over the bits. Gradients of learned numbers are summed by
            each thread, written as partials and added up afterwards: no atomics, the same bits
            every time.
"""

from __future__ import annotations

from collections.abc import Mapping

from snnx.emit.unit import Unit
from snnx.emit.variant import Variant
from snnx.emit.writer import Writer


class Drive:
    """What becomes of the input before the neuron sees it: nothing. A seam for fused pairs.

    A subclass declares arguments of its own, and turns the loaded value into the neuron's input by
    operations that forward and backward share, so that both see the same bits.
    """

    def declare(self, w: Writer) -> None:
        """Declare arguments."""

    def open(self, w: Writer, name: str) -> None:
        """Begin the kernel: how neurons are dealt out to threads."""
        w.tile(name)

    def begin(self, w: Writer) -> None:
        """Load what does not change over time."""

    def input(self, w: Writer, x: str, time: str, suffix: str) -> str:
        """Return the neuron's input at a time."""
        return x

    def finish(self, w: Writer) -> None:
        """Write what was gathered over time."""

    def close(self, w: Writer) -> None:
        """End what `open` began."""


class Frame:
    """What forward and backward of one unit share: arguments, names and loads."""

    def __init__(self, w: Writer, unit: Unit, variant: Variant, drive: Drive) -> None:
        self.w, self.unit, self.variant, self.drive = w, unit, variant, drive
        self.states = {name: f"s{i}" for i, name in enumerate(unit.states)}
        self.numbers = {n.name: f"p{i}" for i, n in enumerate(unit.numbers)}

    def extra_arguments(self) -> None:
        """Declare what a step is given besides its input."""
        w = self.w
        if self.variant.extra == "mask":
            w.argument("mask", "byte")
        elif self.variant.extra == "spike":
            w.argument("imposed", "float")
        elif self.variant.extra == "drawn":
            for name in ("seed", "count", "index", "times"):
                w.argument(name, "uint")
            w.argument("share", "float")
            for name in ("features", "samples", "key"):
                w.argument(name, "uint", "size")

    def residual_arguments(self) -> None:
        """Declare the second sequence, or its bits and what scales them."""
        w, packed = self.w, self.variant.packed
        if not self.unit.residual:
            return
        if not packed:
            w.argument("residual", "data")
            return
        w.argument("residual_bits", "vote")
        if packed != "unit":
            w.argument("residual_scale", "data")
        if packed == "channel":
            w.argument("residual_period", "uint", "size")

    def number_arguments(self) -> None:
        """Declare the numbers, and the periods of those that are not one for the layer."""
        for number in self.unit.numbers:
            name = self.numbers[number.name]
            self.w.argument(f"{name}_at", "float")
            if number.share != "layer":
                self.w.argument(f"{name}_period", "uint", "size")

    def load_numbers(self) -> None:
        """Load the numbers of a thread."""
        w = self.w
        for number in self.unit.numbers:
            name = self.numbers[number.name]
            if number.share == "layer":
                w.let(name, w.load_one(f"{name}_at"))
            else:
                w.let(name, w.load_shared(f"{name}_at", f"column % {name}_period"))
                w.mark(name)
        if w.has("residual_scale"):
            shared = w.load_shared("residual_scale", "column % residual_period")
            channel = self.variant.packed == "channel"
            w.let("r_scale", shared if channel else w.load_one("residual_scale"))

    def time(self, chunk: str, k: int) -> str:
        """Return the step's number as an expression."""
        if chunk.isdigit():
            return str(int(chunk) * self.variant.chunk + k)
        return f"({chunk} * {self.variant.chunk} + {k})"

    def at(self, time: str) -> str:
        """Return where the neuron of a step lies."""
        return "e" if time == "0" else f"{time} * stride + e"

    def kept_at(self, chunk: str, place: int, count: int) -> str:
        """Return where the `place`-th of `count` values kept for a chunk lies."""
        if chunk.isdigit():
            return self.at(str(int(chunk) * count + place))
        return f"({chunk} * {count} + {place}) * stride + e"

    def start(self) -> None:
        """Load what a neuron has before the first step: a static input, the sample's place."""
        if self.variant.extra == "drawn":
            self.w.begin_draw()
        if self.variant.static and self.w.has("x"):
            self.w.let("x_one", self.w.load("x", "e"))
            self.w.mark("x_one")

    def inputs(self, time: str, tag: str) -> dict[str, str]:
        """Load the input of a step, and its mask or imposed spike; return identifiers by name."""
        w, names = self.w, dict(self.numbers)
        x = "x_one"
        if not self.variant.static:
            x = f"x{tag}"
            w.let(x, w.load("x", self.at(time)))
        w.mark(x)
        names["x"] = self.drive.input(w, x, time, tag)
        if self.unit.residual:
            w.let(f"r{tag}", self._residual(time))
            w.mark(f"r{tag}")
            names["residual"] = f"r{tag}"
        if self.variant.extra == "mask":
            w.let(f"m{tag}", w.load("mask", self.at(time), "bool"), "bool")
            names["mask"] = f"m{tag}"
        elif self.variant.extra == "drawn":
            w.draw(f"m{tag}", time)
            names["mask"] = f"m{tag}"
        elif self.variant.extra == "spike":
            w.let(f"i{tag}", w.load("imposed", self.at(time)))
            names["spike"] = f"i{tag}"
        w.mark(f"m{tag}", f"i{tag}", names["x"])
        return names

    def _residual(self, time: str) -> str:
        """Return the second sequence's value at a time."""
        if not self.variant.packed:
            return self.w.load("residual", self.at(time))
        fired = self.w.voted("residual_bits", time)
        if self.variant.packed == "unit":
            return fired
        return self.w.operations["mul"].format(fired, "r_scale")

    def over_chunks(self, backwards: bool) -> list[tuple[str, int, str]]:
        """Return (chunk, steps, tag) of the parts; a chunk "c" stands for a loop over all whole."""
        whole, rest = self.variant.chunks
        parts: list[tuple[str, int, str]] = []
        if whole:
            parts.append(("c" if whole > 1 else "0", self.variant.chunk, "_"))
        if rest:
            parts.append((str(whole), rest, "_r"))
        return parts[::-1] if backwards else parts


def named(w: Writer, values: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Give values identifiers; return these by name."""
    for identifier, value in values.values():
        w.let(identifier, w.full(value))
        w.mark(identifier)
    return {name: identifier for name, (identifier, _) in values.items()}
