"""What a resumed run says of its move: which numbers stay exact, and which do not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snnx.cli import main
from snnx.training import loop, moving
from tests.command_line import empty_folder as empty_folder
from tests.command_line import train
from tests.test_training import Keep, data, plan

PLACE = {
    "backend": "torch",
    "device": "cuda:0",
    "precision": "fp32",
    "versions": {"torch": "2.13"},
    "machine": "Linux x86_64",
}


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({}, []),
        ({"device": "cpu"}, ["device cuda:0 -> cpu: rounding is that of another device"]),
        ({"backend": "mlx", "device": "gpu", "versions": {"mlx": "1"}}, ["another framework"]),
        ({"precision": "bf16"}, ["precision fp32 -> bf16: every step from here on rounds"]),
        ({"versions": {"torch": "2.14"}}, ["versions torch 2.13 -> torch 2.14"]),
        ({"machine": "Darwin arm64"}, ["machine Linux x86_64 -> Darwin arm64"]),
        ({"device": "cpu", "precision": "tf32"}, ["device", "precision"]),
    ],
)
def test_every_change_of_place_is_said(moved: dict[str, Any], said: list[str]) -> None:
    found = moving.changes(PLACE, {**PLACE, **moved})
    assert len(found) == len(said)
    assert all(text in line for text, line in zip(said, found, strict=True))


def test_processes_and_micro_batches_are_said_where_both_places_say_them() -> None:
    then, now = {**PLACE, "processes": 1, "micro_batches": 1}, {**PLACE, "processes": 4}
    assert moving.changes(then, now) == [
        "processes 1 -> 4: sums over a batch are taken in another order, which rounds otherwise"
    ]
    (found,) = moving.changes(then, {**PLACE, "processes": 1, "micro_batches": 2})
    assert "batch norm sees other parts" in found


def test_a_run_in_other_micro_batches_goes_on_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    words = ["--epochs", "2", "micro_batches=3", "--no-plots"]
    assert main(["train", "--resume", "run", *words]) == 0
    printed = capsys.readouterr().out
    assert "micro_batches 1 -> 3: sums over a batch are taken in another order" in printed


def test_a_run_that_leaves_float64_says_that_weights_are_rounded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--epochs", "1", "--precision", "fp64", "-o", "run") == 0
    words = ["--epochs", "2", "--precision", "fp32", "--no-plots"]
    assert main(["train", "--resume", "run", *words]) == 0
    printed = capsys.readouterr().out
    assert "precision fp64 -> fp32: every step from here on rounds to another" in printed
    assert "weights written in fp64 are rounded to float32" in printed
    assert main(["train", "--resume", "run", "--no-plots"]) == 0
    assert "as if it had not stopped" in capsys.readouterr().out


def test_a_run_of_more_epochs_does_not_say_that_nothing_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--epochs", "2", "--max-steps", "4", "-o", "run") == 0
    words = ["--max-steps", "5", "--no-plots"]
    assert main(["train", "--resume", "run", *words]) == 0
    printed = capsys.readouterr().out
    assert "as if it had not stopped" in printed
    assert "max_steps" not in printed
    assert main(["train", "--resume", "run", "--epochs", "3", "--no-plots"]) == 0
    printed = capsys.readouterr().out
    assert f"epochs 2 -> 3: {moving.SCHEDULED}" in printed
    assert "max_steps = 5 was the limit of the command before" in printed
    assert "as if it had not stopped" not in printed


def test_another_form_of_the_step_is_said() -> None:
    then = {"epochs": 2, "compile": "auto", "kernels": "auto", "lean": "auto"}
    now = {**then, "kernels": "generic"}
    (line,) = moving.recipe_changes(then, now, False)
    assert line == "kernels auto -> generic: another form of the step may round otherwise"
    assert moving.recipe_changes(then, now, True) == []


def test_weights_moved_between_precisions_are_the_stored_ones() -> None:
    keep = Keep()
    loop.run(loop.start(plan(precision="fp64", max_steps=4), data()), keep)
    stored = keep.checkpoints[-1].snapshot
    found = loop.start(plan(precision="fp32"), data(), keep.checkpoints[-1]).session.export()
    for path, value in stored.parameters.items():
        assert value.dtype == np.float64
        assert np.array_equal(found.parameters[path], value.astype(np.float32))
    assert found.count == stored.count == 4


@pytest.mark.parametrize(
    ("device", "deterministic", "said"),
    [(None, False, moving.LOOSE), (None, True, moving.REPEATS), ("cpu", False, moving.REPEATS)],
)
def test_a_device_that_sums_in_any_order_is_said(
    device: str | None, deterministic: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = loop.start(plan(epochs=1, device="cpu"), data())
    changed = replace(training.plan, device=device, deterministic=deterministic)
    monkeypatch.setattr(training, "plan", changed)
    where = {"torch": "2.13", "device": "NVIDIA H100", "cuda": "13.0"}
    monkeypatch.setattr(type(training.backend), "describe", lambda self: where)
    (line,) = moving.statement(training.checkpoint(), training)
    assert line.endswith(said)
    assert "as if it had not stopped" in line
