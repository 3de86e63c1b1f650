"""The other scripts for a GPU run where there is none, and give no time to what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snnx.backend import installed

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402
import mlx_lif  # noqa: E402

needs_mlx = pytest.mark.skipif(not installed("mlx"), reason="MLX is not installed")
ROW = {"row": "lif", "neurons": 64, "calls": 1, "rounds": 1}


def ran(script: str, out: Path, *words: str) -> dict[str, Any]:
    """Run a script's trial and return its JSON."""
    command = [sys.executable, str(BENCHMARKS / script), "--out", str(out), "--cpu", *words]
    subprocess.run(command, check=True, text=True, capture_output=True, timeout=240)
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_kernels_are_measured_beside_relu_and_a_copy(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    found = ran("kernels.py", tmp_path / "k.json", "--rows", "forms T=4 float32")
    (row,) = found["rows"]
    assert (found["failed"], found["unbegun"]) == (0, 0)
    cases = [each["case"] for each in row["figures"]]
    assert cases[:2] == ["copy", "relu"]
    assert set(cases[2:]) == {"lif-attached", "lif-soft", "lif-rectangular"}
    for each in row["figures"][2:]:
        assert each["ms"] > 0
        assert 0.0 < each["rate"] < 0.5


@needs_mlx
def test_a_neuron_of_mlx_has_a_time_where_it_agrees() -> None:
    found = mlx_lif.one({**ROW, "how": "generic compiled"})
    assert found["ms"] > 0
    assert found["spikes_that_differ"] == 0
    asked = mlx_lif.one({**ROW, "how": "kernel compiled"})
    if asked["kernels"] == "none here":
        assert "fused kernels were asked for" in asked["refused"]
        assert "ms" not in asked
    else:
        assert asked["ms"] > 0


@needs_mlx
def test_another_neuron_of_mlx_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mlx_lif.one({**ROW, "how": "loop"})["ms"] > 0
    right = mlx_lif.loop
    monkeypatch.setattr(mlx_lif, "loop", lambda x: right(0.9 * x))
    found = mlx_lif.one({**ROW, "how": "loop"})
    assert "ms" not in found
    assert "spikes are not those" in found["refused"]


def test_every_row_of_correctness_has_a_command_and_a_limit() -> None:
    rows = gpu.listed(["torch", "mlx"])
    names = [row["row"] for row, _ in rows]
    assert names[0] == "recorded steps", "what only a GPU can show comes first"
    assert names[1] == "conform quick torch"
    assert len(set(names)) == len(names)
    for level in ("exact", "ops", "models", "training"):
        assert {f"conform {level} torch", f"conform {level} mlx"} <= set(names)
    for row, limit in rows:
        words = gpu.command(row, Path("made"), cpu=False)
        assert words[0] == "-m" or (gpu.ROOT / words[0]).is_file()
        assert 0 < limit <= 300
        if "tests" in row:
            assert (gpu.ROOT / words[-1]).is_file()


@pytest.mark.slow
@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_a_network_is_checked_and_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = ran("networks.py", tmp_path / "n.json", "--rows", "recurrent fp32")
    (row,) = found["rows"]
    assert row["device"] == "cpu"
    assert row["check"]["error"] <= row["check"]["allowed"]
    assert 0.10 <= row["rate"] <= 0.25
    assert row["device_ms"] > 0
    assert found["times"] == "of tiny nets: they say nothing"
