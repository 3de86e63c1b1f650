"""TET: accuracy against time from one forward, and the loss around the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import random
from snnx.analysis import plots
from snnx.analysis.landscape import direction, landscape, save_landscape
from snnx.analysis.rundata import read_run
from snnx.analysis.time import accuracy_over_time, right_over_time
from snnx.backend import installed
from snnx.data import Batches, Dataset
from snnx.mode import EVAL
from snnx.training import loop
from snnx.training.evaluate import evaluate
from snnx.training.plan import Plan

FRAMEWORKS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed")
    )
    for name in ("numpy", "torch", "mlx")
]
MODEL = snnx.Chain(snnx.Input(6), snnx.Linear(8), snnx.BatchNorm(), snnx.LIF(), snnx.Linear(3))


def data() -> Dataset:
    x = random.uniform(7, "test", "x", 0, [0], [0], 180).reshape(30, 6)
    y = np.arange(30) % 3
    x = (x + 0.5 * np.eye(3).repeat(2, axis=1)[y]).astype(np.float32)
    return Dataset(x[12:], y[12:], x[:12], y[:12], name="three", label="synthetic")


def trained(**changes: Any) -> loop.Training:
    values: dict[str, Any] = {"objective": snnx.TET(mse=0.0), "steps": 3, "epochs": 1}
    values |= {"batch_size": 5, "backend": "numpy", **changes}
    training = loop.start(Plan(model=MODEL, **values), data())
    loop.run(training, loop.Nobody())
    return training


def test_one_forward_gives_the_accuracy_of_every_shorter_time() -> None:
    t = trained()
    found = accuracy_over_time(t.session, t.dataset, steps=6, batch_size=5)
    assert found.samples == 12
    for steps in range(1, 7):
        one = evaluate(t.session, t.program, t.plan.objective, t.dataset, steps=steps)
        assert found.after[steps - 1] == one.accuracy
    assert found.single[0] == found.after[0]


def test_a_single_step_is_right_by_its_own_output() -> None:
    y = np.zeros((3, 2, 2))
    y[:, 0, 0] = [3, -1, -1]  # sample 0 is of class 0: its mean stays right, steps 1 and 2 are not
    y[:, 1, 1] = [-1, 3, 9]  # sample 1 is of class 1, and 2 steps long
    after, single, there = right_over_time(y, np.array([0, 1]), np.array([3, 2]))
    assert after.tolist() == [[True, False], [True, True], [True, True]]
    assert single.tolist() == [[True, False], [False, True], [False, False]]
    assert there.tolist() == [[True, True], [True, True], [True, False]]


def test_a_direction_has_the_length_of_every_filter() -> None:
    t = trained()
    theta = t.session.export().parameters
    d = direction(t.program, theta, 0, "first")
    assert set(d) == {"1.weight", "4.weight"}  # no bias, norm or neuron
    for path, array in d.items():
        lengths = np.linalg.norm(array, axis=1)
        wanted = np.linalg.norm(theta[path].astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, wanted, rtol=1e-8)
    other = direction(t.program, theta, 0, "second")
    assert abs(np.sum(d["1.weight"] * other["1.weight"])) < np.sum(d["1.weight"] ** 2)


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_the_centre_of_the_landscape_is_the_loss(backend: str) -> None:
    t = trained(backend=backend, compile=None if backend == "numpy" else False)
    before = t.session.export()
    grid, losses = landscape(
        t.session, t.program, t.dataset, points=3, samples=7, batch_size=4, steps=3
    )
    assert grid.tolist() == [-1.0, 0.0, 1.0]
    batch: Any = Batches(t.dataset, "train", 7, shuffle=False).take(np.arange(7))
    assert losses[1, 1] == pytest.approx(t.session.loss(batch, {}, EVAL).mean(), rel=1e-6)
    assert len(np.unique(losses)) > 5
    after = t.session.export()
    assert all(np.array_equal(v, after.parameters[k]) for k, v in before.parameters.items())
    assert all(np.array_equal(v, after.statistics[k]) for k, v in before.statistics.items())


def test_a_landscape_is_drawn_from_its_file(tmp_path: Path) -> None:
    grid = np.linspace(-1, 1, 5)
    losses = 1 + grid[:, None] ** 2 + 2 * grid**2
    losses[0, 0] = np.inf
    save_landscape(tmp_path, {"landscape_grid": grid, "landscape_sdt": losses})
    assert plots.main(tmp_path, "landscape")[0].name == "landscape.svg"
    flat = {"landscape_grid": grid, "landscape_tet": np.ones((5, 5))}
    save_landscape(tmp_path, flat)
    assert plots.main(tmp_path, "landscape")[0].is_file()
    save_landscape(tmp_path, {**flat, "landscape_tet": np.ones((5, 4))})
    assert any("landscape_tet do not fit" in note for note in read_run(tmp_path).notes)


@pytest.mark.parametrize("option", [{"points": 1}, {"span": 0.0}, {"samples": 0}])
def test_a_landscape_that_cannot_be_is_refused(option: dict[str, Any]) -> None:
    t = trained()
    with pytest.raises(ValueError, match="landscape: needs"):
        landscape(t.session, t.program, t.dataset, **option)
