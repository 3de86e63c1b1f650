"""Activation checkpointing: ranges of a program's steps that are computed again for the gradient.

Only the edges between ranges are kept, and what the range at hand keeps while its gradient is
taken, for one more forward pass. A step is a function of its inputs, with draws named by counters
and statistics returned rather than changed, so that the second time gives the first's bits.

Several processes run the collectives of a range's norms again too: all in the order of the one
program, and what they exchange is what they exchanged the first time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snnx.program import Step


def check_recompute(recompute: int | None) -> None:
    """Raise ValueError for what is no number of ranges."""
    if recompute is None:
        return
    if not isinstance(recompute, int) or isinstance(recompute, bool) or recompute < 2:
        raise ValueError(
            f"recompute: a whole number of ranges >= 2, not {recompute!r}; the last one is kept"
        )


def ranges(steps: Sequence[Step], recompute: int | None) -> tuple[tuple[int, int], ...]:
    """Return (start, stop) of ranges of steps whose outputs are about equal in size.

    All but the last are to be computed again: its gradient follows at once.
    """
    count = 1 if recompute is None else recompute
    total, seen, due, ends = sum(map(_size, steps)), 0, 1, []
    for i, step in enumerate(steps[:-1]):
        seen += _size(step)
        if seen * count >= total * due:
            ends.append(i + 1)
            due = seen * count // total + 1
    return tuple(pairwise((0, *ends, len(steps))))


def _size(step: Step) -> int:
    return math.prod(step.shape)


def borders(
    reads: Sequence[str | None], made: Sequence[str], frees: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a range takes from outside and what it leaves for later.

    `reads` and `made` are the names that its steps read and make, `frees` those that no later step
    reads.
    """
    inside = set(made)
    taken = tuple(dict.fromkeys(n for n in reads if n is not None and n not in inside))
    return taken, tuple(name for name in made if name not in frees)
