"""Optimiser steps agree with the float64 reference on this backend."""

from __future__ import annotations

import pytest

from snnx_conformance.case import Case
from snnx_conformance.training import cases

__all__ = ["cases"]


def test_training_agrees_with_the_reference(snnx_case: Case) -> None:
    outcome = snnx_case.run()
    if outcome.status == "missing":
        pytest.skip(outcome.message)
    assert outcome.passed, outcome.message
