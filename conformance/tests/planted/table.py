"""Which level catches which fault: `python -m tests.planted.table > docs/faults.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from snnx.backend import load_backend
from snnx_conformance.case import LEVELS
from snnx_conformance.levels import cases
from tests.planted.faults import FAULTS
from tests.planted.kit import Fault, Kit, Patch


def caught(fault: Fault, name: str, patch: Patch) -> dict[str, int]:
    """Plant the fault and return how many cases of the quick suite fail, by level."""
    kit, backend = Kit(name), load_backend(name)
    kit.fresh()
    try:
        with patch.context() as planted:
            fault.plant(kit, planted)
            found = {str(level): 0 for level in LEVELS}
            for case in cases([backend], quick=True):
                outcome = case.run()
                found[case.level] += outcome.status == "failed"
                if "Error: " in outcome.message and not fault.refused:
                    raise AssertionError(f"{fault.name} was planted badly: {outcome.message}")
    finally:
        kit.fresh()
    return found


def table(patch: Patch) -> Iterator[str]:
    """Yield the lines of docs/faults.md."""
    yield "# Planted faults\n"
    yield "Each fault is planted in the code path of a real backend, and the shipped suite is run"
    yield "(`snnx conform --quick`). A cell is the number of its cases that failed.\n"
    yield "`conformance/tests/test_faults.py` plants them again in every test run.\n"
    yield "| fault | backend | " + " | ".join(LEVELS) + " |"
    yield "| --- | --- |" + " --- |" * len(LEVELS)
    for fault in FAULTS:
        for name in fault.backends:
            counts = caught(fault, name, patch)
            row = " | ".join(str(counts[level]) for level in LEVELS)
            yield f"| {fault.name} | {name} | {row} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in table(pytest.MonkeyPatch()))
