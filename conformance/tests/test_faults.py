"""A fault planted in the code path of a real backend turns the shipped suite red."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnx.backend import installed, load_backend
from snnx_conformance.levels import cases
from tests.planted.faults import FAULTS
from tests.planted.kit import Fault
from tests.planted.table import caught

HERE = Path(__file__).parent


PLANTED = [
    pytest.param(fault, name, id=f"{name}-{fault.name.replace(' ', '-')}")
    for fault in FAULTS
    for name in fault.backends
]


def needs(name: str) -> None:
    if not installed(name):
        pytest.skip(f"{name} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "name"), PLANTED)
def test_planted_fault_turns_the_suite_red(
    fault: Fault, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    counts = caught(fault, name, monkeypatch)
    assert any(counts.values()), f"{fault.name} in {name} was seen by no case"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_suite_without_a_fault_is_green(name: str) -> None:
    needs(name)
    failed = [c.name for c in cases([load_backend(name)], quick=True) if not c.run().passed]
    assert failed == []


def test_table_names_every_fault_and_was_caught() -> None:
    text = (HERE.parents[1] / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    listed = {(row[0], row[1]): [int(n) for n in row[2:]] for row in rows[2:]}
    wanted = {(fault.name, name) for fault in FAULTS for name in fault.backends}
    assert set(listed) == wanted
    assert all(any(counts) for counts in listed.values())
    assert len({name for name, _ in listed}) >= 15
