"""A run moves between the NumPy backend and this one, both ways, and goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from snnx.backend import Backend, load_backend
from snnx_conformance import moves
from snnx_conformance.case import Case


def cases(backend: Backend) -> Iterator[Case]:
    """Yield the moves to and from NumPy, and from the backend to itself."""
    numpy = load_backend("numpy")
    pair = [numpy] if backend.name == numpy.name else [numpy, backend]
    for case in moves.cases(pair):
        if backend.name in (case.backend, case.name.rsplit("-", 1)[-1]):
            yield Case(
                case.level, f"{case.name}-to-{case.backend}", backend.name, case.compute, case.lacks
            )


def test_run_moves_through_a_checkpoint(snnx_case: Case) -> None:
    outcome = snnx_case.run()
    if outcome.status == "missing":
        pytest.skip(outcome.message)
    assert outcome.passed, outcome.message
