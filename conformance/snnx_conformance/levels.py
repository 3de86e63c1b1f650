"""The levels together: which cases a run of the suite has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from snnx.backend import Backend
from snnx_conformance import exact, models, moves, ops, training
from snnx_conformance.case import LEVELS, Case

BY_LEVEL: dict[str, Callable[[Backend, bool], Iterator[Case]]] = {
    "ops": ops.cases,
    "exact": exact.cases,
    "models": models.cases,
    "training": training.cases,
}


def cases(
    backends: Sequence[Backend], levels: Sequence[str] = LEVELS, quick: bool = False
) -> Iterator[Case]:
    """Yield every case of the backends: level by level, and moves between every ordered pair."""
    for level in levels:
        for backend in backends:
            yield from BY_LEVEL[level](backend, quick)
        if level == "models":
            yield from moves.cases(backends, quick)
