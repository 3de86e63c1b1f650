"""Certified networks are equal bit for bit on this backend."""

from __future__ import annotations

import pytest

from snnx_conformance.case import Case
from snnx_conformance.exact import cases

__all__ = ["cases"]


def test_certified_network_has_equal_bits(snnx_case: Case) -> None:
    outcome = snnx_case.run()
    if outcome.status == "missing":
        pytest.skip(outcome.message)
    assert outcome.passed, outcome.message
