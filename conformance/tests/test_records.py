"""The committed record: of this op table, with every case passed and something compared in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnx.ops import SPEC_HASH
from snnx_conformance.record import read

RECORD = Path(__file__).parents[1] / "records" / "linux-cpu.json"


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
def test_committed_record_is_of_this_spec_and_all_passed(backend):
    record = read(RECORD)
    assert record["spec"] == SPEC_HASH
    assert record["quick"] is False
    cases = record["backends"][backend]["cases"]
    assert {name.partition("/")[0] for name in cases} == {"ops", "exact", "models", "training"}
    assert {case["status"] for case in cases.values()} == {"passed"}
    assert min(case["compared"] for case in cases.values()) > 0
