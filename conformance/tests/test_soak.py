"""What a soak's report calls equal, and what it calls noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import soak_report
from tests.soak import FAULTS, Run

WEIGHTS = ("model.safetensors", "train_state.safetensors")


def archive(run: Path, name: str, content: bytes) -> None:
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    for file in WEIGHTS:
        (folder / file).write_bytes(content)


def run_of(folder: Path, text: str = "") -> Run:
    log = folder.with_suffix(".txt")
    log.write_text(text)
    return Run(folder, log, [], folder, memory=[(float(t), 100.0) for t in range(0, 600, 2)])


def rows(folder: Path, epochs: range) -> None:
    folder.mkdir(exist_ok=True)
    line = '{{"epoch": {0}, "loss": 0.5, "test_accuracy": 0.5, "seconds": {1}}}\n'
    text = "".join(line.format(epoch, hash(folder.name) % 7) for epoch in epochs)
    (folder / "metrics.jsonl").write_text(text)


@pytest.mark.parametrize("wrong", ["", "archive", "row", "exit", "said", "memory", "traceback"])
def test_a_soak_passes_only_where_nothing_was_lost(tmp_path: Path, wrong: str) -> None:
    steady, shaken = tmp_path / "steady", tmp_path / "shaken"
    archive(steady, "epoch-00020", b"same")
    archive(shaken, "epoch-00020", b"other" if wrong == "archive" else b"same")
    rows(steady, range(1, 5))
    rows(shaken, range(2 if wrong == "row" else 1, 4))
    text = "" if wrong == "said" else "... going on with the checkpoint before it ..."
    runs = run_of(steady), run_of(shaken, text + ("Traceback" if wrong == "traceback" else ""))
    if wrong == "memory":
        runs[0].memory = [(float(t), 100 + 0.05 * t) for t in range(0, 600, 2)]
    fault: dict[str, Any] = {"at": 30.0, "fault": "damaged", "exit": -9, "wanted": -9, "step": 5}
    fault["exit"] = 1 if wrong == "exit" else -9
    found = soak_report.summary(*runs, [fault], 600.0)
    assert found["passed"] == (not wrong)
    assert sum(not good for good in found["checks"].values()) == bool(wrong)
    soak_report.plot(found, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_a_soak_that_compared_nothing_does_not_pass(tmp_path: Path) -> None:
    steady, shaken = run_of(tmp_path / "steady"), run_of(tmp_path / "shaken")
    steady.memory = steady.memory[:3]  # of the first seconds
    for run in (steady, shaken):
        rows(run.folder, range(0))
    found = soak_report.summary(steady, shaken, [], 10.0)
    wanted = ("archived checkpoints equal", "rows equal", "exit codes as documented")
    assert not any(found["checks"][name] for name in (*wanted, "memory within noise"))
    assert not found["passed"]


def test_memory_that_grows_is_told_from_noise() -> None:
    t = np.arange(0, 2700, 2.0)
    noise = 3 * np.cos(t)
    still = soak_report.slope(list(zip(t, 300 + noise, strict=True)))
    assert abs(still["drift"]) < still["noise"]
    grows = soak_report.slope(list(zip(t, 300 + noise + t / 100, strict=True)))
    assert grows["slope"] == pytest.approx(0.6, rel=0.01)
    assert grows["drift"] > grows["noise"]


def test_every_fault_says_which_exit_code_it_wants() -> None:
    assert len({fault.__name__ for fault in FAULTS}) == len(FAULTS) == 7
