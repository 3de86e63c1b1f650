"""A step that is not finite halts a session: its weights are there until somebody has read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import checkpoint as checkpoints
from snnx.backend import Snapshot, installed, load_backend
from snnx.cli import main
from snnx.data import Batches
from snnx.training import faults, loop
from tests.command_line import empty_folder as empty_folder
from tests.test_training import data, plan

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is absent"))
    for name in ("numpy", "torch", "mlx")
]
BAD = 1  # the step whose batch is spoiled, two before the end of its epoch
MODEL = snnx.Chain(
    *(snnx.Input(5), snnx.Linear(6), snnx.BatchNorm(), snnx.LIF(), snnx.Linear(3)),
)


def session(backend: str) -> Any:
    net = snnx.build(MODEL, backend, seed=2, device="cpu")
    return load_backend(backend).session(net, snnx.TET(), snnx.Optim(snnx.Adam(0.05)), steps=2)


def batch(number: int, bad: bool = False) -> Any:
    x = np.random.default_rng(number).random((4, 5)).astype(np.float32)
    x[2, 1] = np.inf if bad else x[2, 1]
    return {"x": x, "y": np.arange(4) % 3, "index": np.arange(4)}


def equal(a: Snapshot, b: Snapshot) -> bool:
    kinds = ("parameters", "statistics", "moments")
    pairs = [(getattr(a, kind), getattr(b, kind)) for kind in kinds]
    return a.count == b.count and all(
        one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)
        for one, two in pairs
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_steps_after_one_that_is_not_finite_change_nothing_until_it_is_read(backend: str) -> None:
    ours, other = session(backend), session(backend)
    taken = [ours.step([batch(k, k == 1)], {"step": k}) for k in range(4)]
    other.read(other.step([batch(0)], {"step": 0}))
    assert equal(ours.export(), other.export())
    assert ours.export().count == 1
    assert np.isfinite(ours.read(taken[0])["loss"])
    with pytest.raises(FloatingPointError, match=r"step 1: loss .*; weights were left as they"):
        ours.read(taken[1])
    assert equal(ours.export(), other.export())
    for k in (2, 3):
        with pytest.raises(FloatingPointError, match=f"step {k}: was not taken, since a step bef"):
            ours.read(taken[k])
    for each in (ours, other):
        each.read(each.step([batch(2)], {"step": 1}))
    assert equal(ours.export(), other.export())
    assert ours.export().count == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_replays_the_step_with_the_weights_that_it_had(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"backend": backend, "device": "cpu"}
    seen: list[Snapshot] = []
    taken: list[int] = []
    replay, take = faults.first_not_finite, Batches.take

    def watching(training: Any, *rest: Any) -> str:
        seen.append(training.session.export())
        return replay(training, *rest)

    def spoiled(self: Any, positions: Any, epoch: int = 0) -> Any:
        found = take(self, positions, epoch)
        if self.split == "train":
            taken.append(epoch)
            found["x"][0, 0] = np.inf if len(taken) == BAD + 1 else found["x"][0, 0]
        return found

    before = loop.start(plan(**asked, max_steps=BAD), data())
    loop.run(before, loop.Nobody())
    monkeypatch.setattr(faults, "first_not_finite", watching)
    monkeypatch.setattr(Batches, "take", spoiled)
    with pytest.raises(loop.Diverged, match="the first output that is not finite is that of lay"):
        loop.run(loop.start(plan(**asked), data()), loop.Nobody())
    assert len(taken) > BAD + 1  # steps after it were under way
    assert equal(seen[0], before.session.export())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("words", [("checkpoint_steps=1",), ("--max-steps", "1")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_state_that_is_not_finite_is_no_checkpoint(
    backend: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ("optim=sgd", "optim.lr=1e39", "model.batch_norm=false", "model.width=0.04")
    asked = ("-b", backend, "--device", "cpu", "batch_size=450", "--no-plots", "-o", "run")
    assert main(["train", *asked, *bad, *words]) == 6
    said = capsys.readouterr().err
    assert re.search(r"after step 0: \S+ is not finite, so an update or", said)
    assert "the last good checkpoint is run/checkpoints/last" in said
    kept = checkpoints.read(Path("run/checkpoints/last"))
    assert kept.step == 0
    assert not Path("run/DONE").exists()


def test_every_kind_of_array_is_looked_at() -> None:
    good, bad = {"a": np.ones(2)}, {"b": np.array([1.0, np.nan])}
    assert faults.not_finite(Snapshot(good, good, good)) is None
    for at in range(3):
        one, two, three = (bad if i == at else good for i in range(3))
        assert faults.not_finite(Snapshot(one, two, three)) == "b"
