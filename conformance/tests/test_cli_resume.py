"""Going on with a run: bit for bit, on another backend, from what is left of it."""

import json
from pathlib import Path

import pytest

from snnx.backend import installed
from snnx.cli import main
from snnx.training import rundir
from tests.command_line import empty_folder as empty_folder
from tests.command_line import train


def test_a_resumed_run_is_bit_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "3", "-o", "whole") == 0
    assert train("--epochs", "3", "-o", "part", "--max-steps", "4") == 0
    assert main(["train", "--resume", "part", "--no-plots"]) == 0
    assert "resumed on numpy at epoch 2, optimiser step 4" in capsys.readouterr().out
    for name in ("model.safetensors", "train_state.safetensors"):
        last = Path("checkpoints/last") / name
        assert ("whole" / last).read_bytes() == ("part" / last).read_bytes()
    rows = [rundir.RunDir(Path(name)).rows() for name in ("whole", "part")]
    cut = [[{k: v for k, v in row.items() if k != "seconds"} for row in run] for run in rows]
    assert cut[0] == cut[1]


def test_a_resumed_run_refuses_another_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    assert main(["train", "--resume", "run", "model.width=0.1", "T=2"]) == 2
    message = capsys.readouterr().err
    assert "T, model.width: cannot change in a resumed run" in message
    assert main(["train", "--resume", "run", "digits"]) == 2
    assert main(["train", "--resume", "none"]) == 2


@pytest.mark.parametrize("part", ["checkpoints", "checkpoints/last"])
def test_checkpoints_alone_are_no_run_to_go_on_with(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    before = sorted(Path("run").rglob("*"))
    assert main(["train", "--resume", f"run/{part}", "--epochs", "2"]) == 2
    assert "is no run's folder" in capsys.readouterr().err
    assert sorted(Path("run").rglob("*")) == before
    assert main(["eval", f"run/{part}"]) == 0


@pytest.mark.parametrize("junk", [b"{", b"[1]\n", b'{"epoch": 1}\n', b"\xff\x00\n"])
def test_a_run_whose_notes_are_damaged_goes_on(
    junk: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--epochs", "2", "-o", "run") == 0
    Path("run/env.json").write_bytes(junk)
    rows = Path("run/metrics.jsonl")
    rows.write_bytes(rows.read_bytes() + junk)
    assert main(["info", "run"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "3", "--no-plots"]) == 0
    assert [row["epoch"] for row in rundir.RunDir(Path("run")).rows()] == [1, 2, 3]
    assert len(json.loads(Path("run/env.json").read_text())["before"]) == 1


def test_a_damaged_checkpoint_falls_back_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "2", "-o", "run") == 0
    path = Path("run/checkpoints/last/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["train", "--resume", "run", "--no-plots"]) == 0
    found = capsys.readouterr()
    assert "going on with the checkpoint before it" in found.err
    assert "at epoch 2, optimiser step 3" in found.out


def test_a_run_goes_on_on_another_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "2", "-o", "run", "--max-steps", "4") == 0
    for name, epochs in (("torch", 3), ("mlx", 4), ("numpy", 5)):
        if not installed(name):
            pytest.skip(f"{name} is absent")
        words = ["--epochs", str(epochs), "-b", name, "compile=false", "--no-plots"]
        assert main(["train", "--resume", "run", *words]) == 0
        printed = capsys.readouterr().out
        assert f"resumed on {name}" in printed
        assert "of another framework from here on" in printed
    rows = rundir.RunDir(Path("run")).rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15]
    environment = json.loads(Path("run/env.json").read_text())
    assert len(environment["before"]) == 3


def test_a_backend_that_is_absent_leaves_the_run_as_it_was() -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert main(["train", "--resume", "run", "-b", "jax", "--epochs", "2"]) == 4
    assert main(["train", "--resume", "run", "--device", "cuda", "--epochs", "2"]) == 4
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
