"""What the method TET records of a run: its worst step alone, and all steps together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import random
from snnx.data import Dataset
from snnx.methods import TETMethod
from snnx.mode import EVAL
from snnx.training import loop
from snnx.training.plan import Plan

MODEL = snnx.Chain(snnx.Input(6), snnx.Linear(8), snnx.LIF(), snnx.Linear(3))


def data() -> Dataset:
    x = random.uniform(7, "test", "x", 0, [0], [0], 180).reshape(30, 6)
    y = np.arange(30) % 3
    x = (x + 0.5 * np.eye(3).repeat(2, axis=1)[y]).astype(np.float32)
    return Dataset(x[12:], y[12:], x[:12], y[:12], name="three", label="synthetic")


def sequences() -> Dataset:
    x = random.uniform(8, "test", "x", 0, [0], [0], 4 * 12 * 6).reshape(4, 12, 6)
    x, y, length = x.astype(np.float32), np.arange(12) % 3, np.array([1, 2, 3, 2] * 3)
    return Dataset(x, y, x, y, "seq", "synthetic", "TNF", lengths_train=length, lengths_test=length)


def training(method: TETMethod, dataset: Dataset, **changes: Any) -> loop.Training:
    values: dict[str, Any] = {"objective": snnx.TET(), "steps": 3, "epochs": 2, "batch_size": 5}
    values |= {"backend": "numpy", "methods": (method,), **changes}
    return loop.start(Plan(model=MODEL, **values), dataset)


def test_the_worst_step_and_all_steps_are_those_of_a_forward_run() -> None:
    dataset, run = data(), training(TETMethod(watched=12), data())
    batch: Any = {"x": dataset.x_train[:12], "y": dataset.y_train[:12], "index": np.arange(12)}
    y = run.session.forward(batch, {}, EVAL, steps=3).y
    run.plan.methods[0].before_epoch(run)
    single = [(step.argmax(-1) == batch["y"]).mean() for step in y]
    assert run.totals["worst_step"] == pytest.approx(min(single), abs=1e-12)
    whole = (y.mean(0).argmax(-1) == batch["y"]).mean()
    assert run.totals["all_steps"] == pytest.approx(whole, abs=1e-12)
    assert 0 < whole < 1


def test_a_padded_step_counts_for_no_sample() -> None:
    dataset, run = sequences(), training(TETMethod(watched=12), sequences(), steps=4)
    run.plan.methods[0].before_epoch(run)
    length = np.array([1, 2, 3, 2] * 3)
    batch: Any = {"x": dataset.x_train, "y": dataset.y_train, "index": np.arange(12)}
    padded: Any = {**batch, "length": length}
    y = run.session.forward(padded, {}, EVAL).y
    single = []
    for t in range(3):  # nobody has a fourth step
        there = length > t
        single.append((y[t].argmax(-1) == dataset.y_train)[there].mean())
    assert run.totals["worst_step"] == pytest.approx(min(single), abs=1e-12)


def test_every_epoch_has_both_and_nothing_else_of_the_run_changes() -> None:
    rows: dict[int, list[Any]] = {}
    weights = {}
    for watched in (0, 12):
        rows[watched] = []

        class Keep(loop.Nobody):
            def epoch(self, row: Any, kept: list[Any] = rows[watched]) -> None:
                kept.append(row)

        run = training(TETMethod(watched=watched), data())
        loop.run(run, Keep())
        weights[watched] = run.session.export().parameters
    assert all({"worst_step", "all_steps"} <= set(row) for row in rows[12])
    assert not any({"worst_step", "all_steps"} & set(row) for row in rows[0])
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[12]]
    for path, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[12][path])


def test_one_step_has_no_worst_one_and_a_negative_number_is_refused() -> None:
    run = training(TETMethod(), data(), steps=1)
    run.plan.methods[0].before_epoch(run)
    assert "worst_step" not in run.totals
    with pytest.raises(ValueError, match="watched is a number of samples, not -1"):
        TETMethod(watched=-1)
