"""What of a step its backward needs: sometimes only which comparisons held.

A reverse list may reach the input and the states through comparisons alone: the rectangular window
with a detached reset asks whether x lay in the window and whether the neuron fired, and nothing
else. Then these bits are kept for the backward, and neither the input nor a state.
"""

from __future__ import annotations

from dataclasses import dataclass

from snnx.trace import Line, Lines, Ref

COMPARISONS = ("ge", "gt")


@dataclass(frozen=True, slots=True)
class Bits:
    """The bits that stand for a step: `conditions` computes them, `reverse` needs nothing else.

    `conditions` has outputs "bit.0", ... over the inputs of the step and "spike"; `reverse` is the
    list of the vjp over these bits, the numbers, "spike" and the cotangents. `spike` says whether
    the reverse needs the spike itself, which then is one more bit.
    """

    conditions: Lines
    reverse: Lines
    spike: bool

    @property
    def count(self) -> int:
        """Bits per neuron and step."""
        return len(self.conditions.outputs) + int(self.spike)


class _NeedsValue(Exception):
    """The reverse needs a value of the step, not only a comparison."""


def kept_bits(reverse: Lines) -> Bits | None:
    """Return the bits that the reverse list needs, or None where it needs more than bits.

    A product of a value with the constant 0 counts as 0, which it is for every finite value.
    """
    by_name = {line.out: line for line in reverse.lines}
    known: dict[Ref, bool] = {}
    bits: list[str] = []
    kept: dict[str, Line] = {}

    def free(ref: Ref) -> bool:
        """Tell whether the value follows from numbers, cotangents, the spike and constants."""
        if ref not in known:
            line = by_name.get(ref) if isinstance(ref, str) else None
            if line is not None:
                known[ref] = all(free(a) for a in line.args)
            else:
                known[ref] = not isinstance(ref, str) or ref.startswith(("p.", "g.", "spike"))
        return known[ref]

    def need(ref: Ref) -> Ref:
        """Return what stands for the value in the reverse over bits."""
        if not isinstance(ref, str) or ref in kept:
            return ref
        line = by_name.get(ref)
        if line is None:
            if not free(ref):
                raise _NeedsValue(ref)
            return ref
        if line.op == "mul" and 0.0 in line.args:
            return 0.0
        if line.op in COMPARISONS and not free(ref):
            if ref not in bits:
                bits.append(ref)
            return f"bit.{bits.index(ref)}"
        args = tuple(need(a) for a in line.args)
        kept[ref] = Line(ref, line.op, args)
        return ref

    try:
        outputs = tuple((name, need(ref)) for name, ref in reverse.outputs)
    except _NeedsValue:
        return None
    lines = tuple(kept[line.out] for line in reverse.lines if line.out in kept)
    spike = any("spike" in line.args for line in lines) or any(r == "spike" for _, r in outputs)
    found = tuple((f"bit.{i}", ref) for i, ref in enumerate(bits))
    conditions = pruned(Lines(reverse.inputs, reverse.lines, found))
    names = [f"bit.{i}" for i in range(len(bits))]
    inputs = tuple(n for n in reverse.inputs if n.startswith(("p.", "g.", "spike")))
    return Bits(conditions, Lines((*inputs, *names), lines, outputs), spike)


def pruned(lines: Lines) -> Lines:
    """Return the list without the operations that no output needs."""
    needed = {ref for _, ref in lines.outputs if isinstance(ref, str)}
    kept: list[Line] = []
    for line in reversed(lines.lines):
        if line.out in needed:
            kept.append(line)
            needed.update(a for a in line.args if isinstance(a, str))
    inputs = tuple(name for name in lines.inputs if name in needed)
    return Lines(inputs, tuple(reversed(kept)), lines.outputs)
