"""The CPU benchmark: it runs, it takes no time of what is wrong, and the page is its record's."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cpu, cpu_lif
from benchmarks.cpu_common import Answer, Contender, measured, verdict

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="torch is not installed")


def judged(case: dict[str, Any]) -> None:
    """Check that times and ratios are there for those that agree, and for nobody else."""
    agreed = {row["name"] for row in case["contenders"] if "refused" not in row}
    for row in case["contenders"]:
        timed = row["name"] in agreed
        assert ("wall_ms" in row) == timed
        assert ("processor_ms" in row) == timed
    assert set(case["ratios"]) <= agreed
    assert {ratio["beside"] for ratio in case["ratios"].values()} <= agreed


@needs_torch
def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    command = [sys.executable, cpu.__file__, "--quick", "--backends", "torch", "--out", str(out)]
    shown = subprocess.run(command, check=True, text=True, capture_output=True, timeout=300)
    found = json.loads(out.read_text())
    assert [case["case"] for case in found["cases"]] == ["LIF", "digits step"]
    for case in found["cases"]:
        judged(case)
        names = {row["name"] for row in case["contenders"] if row["whose"] == "snnx"}
        assert names == set(case["ratios"]), "ours agree, and stand beside the plain loop"
        assert cpu.title(case, "") in shown.stdout
    assert 0 < found["cases"][1]["convolutions_ms"][1] < 1e3
    assert found["versions"]["torch"] != "not installed"


@needs_torch
def test_a_wrong_neuron_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    right = cpu_lif.plain
    monkeypatch.setattr(cpu_lif, "plain", lambda x: right(x * 1.01))
    case = cpu_lif.case("torch", 256, 1, quick=True, peers=False)
    judged(case)
    rows = {row["name"]: row for row in case["contenders"]}
    assert "spikes are not those" in rows["plain loop"]["refused"]
    assert "wall_ms" in rows["snnx torch, generic"]
    assert case["ratios"] == {}
    assert "no time: " in "\n".join(cpu.table(case))


def test_spikes_and_gradients_are_both_judged() -> None:
    wanted = Answer((np.array([[0.0, 1.0]]),), {"x": np.array([[2.0, 4.0]])})
    free = [np.array([[False, False]])]
    off = Answer(wanted.spikes, {"x": np.array([[2.0, 4.1]])})
    assert "refused" not in verdict(wanted, wanted, 1e-3, free)
    assert "off by 2.5e-02" in verdict(off, wanted, 1e-3, free)["refused"]
    assert "refused" not in verdict(off, wanted, 1e-3, [np.array([[False, True]])])
    nothing = Answer(wanted.spikes, {"x": np.array([[np.nan, 4.0]])})
    assert "refused" in verdict(nothing, wanted, 1e-3, free)
    flipped = Answer((np.array([[1.0, 1.0]]),), wanted.gradients)
    assert "1 spikes" in verdict(flipped, wanted, 1e-3, free)["refused"]


def test_contenders_take_turns() -> None:
    turns: list[str] = []
    wanted = Answer((np.ones((1, 1)),), {"x": np.ones((1, 1))})
    entries: list[Any] = [("a", "snnx"), ("b", "plain"), ("c", "peer")]
    contenders = [
        Contender(name, whose, lambda name=name: turns.append(name), lambda: wanted)
        for name, whose in entries
    ]
    found = measured(contenders, wanted, 1e-6, [np.zeros((1, 1), bool)], rounds=3)
    assert "".join(turns) == "abcabc" + "abc" + "bca" + "cab"
    assert found["ratios"]["a"]["beside"] == "c", "a peer goes before the plain loop"


def test_the_page_is_its_record() -> None:
    text = cpu.PAGE.read_text()
    assert cpu.page(text) == text, "run python benchmarks/cpu.py --page"
    records = [json.loads(path.read_text()) for path in cpu.RESULTS]
    assert [record["given"].get("LD_PRELOAD", "") for record in records] == ["", "libopenblas.so.0"]
