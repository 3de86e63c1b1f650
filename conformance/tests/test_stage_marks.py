"""The stages of a run in its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from snnx.analysis import plots
from snnx.analysis.rundata import RunData, read_run
from snnx.analysis.stage_marks import stage_starts


def run_of(*stages: Any) -> RunData:
    return RunData(Path(), config={"stages": list(stages)})


@pytest.mark.parametrize(
    ("stages", "starts"),
    [
        ([], []),
        ([{"T": 4, "epochs": 3}], []),  # one stage is no change
        (
            [{"T": 1, "epochs": 5, "ann": True}, {"T": 6, "epochs": 10}, {"T": 2, "epochs": 3}],
            [(0, "ANN"), (5, "T=6"), (15, "T=2")],
        ),
        (
            [{"T": 4, "epochs": 2, "objective": "sdt"}, {"T": 4, "epochs": 2}],
            [(0, "T=4"), (2, "T=4, stage 2")],
        ),
        ([{"T": 4}, {"T": 2, "epochs": 1}], []),  # a damaged file marks nothing
        (["T=4", {"T": 2, "epochs": 1}], []),
    ],
)
def test_stages_begin_where_those_before_have_ended(stages: list[Any], starts: list[Any]) -> None:
    assert stage_starts(run_of(*stages)) == starts


def test_a_run_of_stages_names_them_in_its_pictures(tmp_path: Path) -> None:
    rows = [
        {"epoch": e, "loss": 1 / e, "test_accuracy": 0.1 * e, "dials": {"temperature": e}}
        for e in range(1, 6)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stages = "[[stages]]\nT = 1\nepochs = 2\nann = true\n[[stages]]\nT = 6\nepochs = 3\n"
    (tmp_path / "config.toml").write_text(stages)
    assert stage_starts(read_run(tmp_path)) == [(0, "ANN"), (2, "T=6")]
    for name in ("curves", "method"):
        (path,) = plots.main(tmp_path, name)
        text = path.read_text()
        assert ">ANN<" in text, name
        assert ">T=6<" in text, name
    (tmp_path / "config.toml").write_text("T = 6\n")
    (path,) = plots.main(tmp_path, "curves")
    assert "T=6" not in path.read_text()
