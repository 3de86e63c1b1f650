"""`snnx eval` in several processes says what one says, once."""

import json
from pathlib import Path

import pytest
from launched import run

from snnx.cli import main

BACKENDS = ("torch", "mlx")
SHORT = ("digits", "model.width=0.04", "batch_size=449", "max_steps=2", "--no-plots", "-q")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_evaluate_as_one(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, here = str(tmp_path / "run"), ("-b", backend, "--device", "cpu")
    assert main(["train", *SHORT, *here, "--out", folder]) == 0
    words = ["eval", folder, *here, "--T", "1,2", "--per-class"]
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "one.json")]) == 0
    printed = capsys.readouterr().out.splitlines()
    done = run(backend, 2, "-m", "snnx", *words, "--json", "--out", str(tmp_path / "two.json"))
    *lines, last = done.stdout.splitlines()
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["results"] == two["results"]
    assert [row["T"] for row in two["results"]] == [1, 2]
    assert json.loads(last) == two
    assert "2 processes" in lines[0]
    classes = [line for line in printed if line.startswith("      class")]
    assert len(classes) == 20
    assert [line for line in lines if line.startswith("      class")] == classes
