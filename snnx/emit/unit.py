"""What the kernels of a neuron compute, before it is said how: lists, numbers, what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from snnx.emit.kept import Bits, kept_bits, pruned
from snnx.lower import forward_lines, reverse_lines
from snnx.scalars import Learned
from snnx.trace import Fire, Lines, Trace

Share = Literal["layer", "channel", "neuron"]


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a neuron that is no constant: its name, over what it is shared, if it learns."""

    name: str
    share: Share
    learned: bool


@dataclass(frozen=True, slots=True)
class Unit:
    """A neuron in one mode of firing as lists.

    forward     the step, with "spike" and, observed, "potential" among its outputs
    advance     the same step reduced to the states and the spike: what a backward recomputes
    reverse     the vjp of the step
    bits        what stands for a step in the backward, where bits are enough, else None
    residual    whether a second sequence comes in beside x (`snnx.emit.pair`)
    """

    forward: Lines
    advance: Lines
    reverse: Lines
    states: tuple[str, ...]
    numbers: tuple[Number, ...]
    fire: Fire
    observe: bool
    bits: Bits | None
    residual: bool = False

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the learned numbers, in the order of `numbers`."""
        return tuple(n.name for n in self.numbers if n.learned)


@lru_cache(maxsize=512)
def unit(neuron: Any, fire: Fire = "spike", observe: bool = False) -> Unit:
    """Return the unit of a neuron in a mode of firing."""
    trace = neuron.trace()
    numbers = tuple(
        Number(f"p.{name}", scalar.share if isinstance(scalar, Learned) else "layer", learned)
        for name, scalar in neuron.scalars().items()
        if not isinstance(scalar, int | float)
        for learned in (isinstance(scalar, Learned),)
    )
    return unit_of_trace(trace, numbers, fire, observe)


def unit_of_trace(
    trace: Trace,
    numbers: tuple[Number, ...],
    fire: Fire,
    observe: bool,
    residual: bool = False,
) -> Unit:
    """Return the unit of a traced step and its numbers."""
    learned = tuple(n.name for n in numbers if n.learned)
    reverse = reverse_lines(trace, (*(("residual",) if residual else ()), *learned))
    forward = forward_lines(trace, fire, observe)
    states = tuple(f"state.{name}" for name in trace.states)
    wanted = tuple((name, ref) for name, ref in forward.outputs if name in (*states, "spike"))
    return Unit(
        forward,
        pruned(Lines(forward.inputs, forward.lines, wanted)),
        reverse,
        states,
        numbers,
        fire,
        observe,
        kept_bits(reverse) if fire == "spike" else None,
        residual,
    )
