"""What the spine must carry without a special case: each paper's demand on it, on every backend."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import (
    DSR,
    LIF,
    SDT,
    SGD,
    TET,
    Adam,
    Chain,
    Conv2d,
    Dial,
    Dspike,
    Flatten,
    Input,
    Learned,
    Linear,
    Mode,
    Optim,
    Triangular,
)
from snnx.backend import installed, load_backend
from snnx.data import load
from snnx.objective import Objective

BACKENDS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"),
    )
    for name in ("numpy", "torch", "mlx")
]
pytestmark = pytest.mark.parametrize("name", BACKENDS)


def session(
    name: str,
    model: Chain,
    objective: Objective = SDT(),  # noqa: B008
    optim: Optim = Optim(),  # noqa: B008
    **options: Any,
) -> Any:
    """Return a session of the model in float32."""
    backend = load_backend(name)
    return backend.session(snnx.build(model, name), objective, optim, steps=4, **options)


def batch(count: int = 16, start: int = 0) -> Any:
    """Return some of the digits."""
    data, chosen = load("digits"), slice(start, start + count)
    index = np.arange(start, start + count, dtype=np.uint32)
    return {"x": data.x_train[chosen], "y": data.y_train[chosen], "index": index}


def test_a_temperature_turns_each_epoch_without_compiling_again(name):
    neuron = LIF(threshold=0.5, surrogate=Dspike(Dial("temperature", 1.0)))
    model = Chain(Input(8, 8, 1), Flatten(), Linear(12), neuron, Linear(10))
    compiled = None if name == "numpy" else False
    run = session(name, model, compile=compiled)
    seen = []
    for epoch in range(12):
        dials = {"temperature": 0.5 + 0.5 * epoch, "epoch": epoch, "lr": 0.0}
        seen.append(run.grads(batch(), dials)[1]["2.weight"])
    assert all(not np.array_equal(a, b) for a, b in pairwise(seen))


def test_a_learned_width_has_its_own_optimiser_and_stays_positive(name):
    width = Learned(1.0, "layer", group="width", transform="log")
    neuron = LIF(analog=Dial("analog", 0.2), surrogate=Triangular(width=width))
    model = Chain(Input(8, 8, 1), Flatten(), Linear(12), neuron, Linear(10))
    optim = Optim(SGD(lr=0.1), {"width": Adam(lr=3e-4)})
    run = session(name, model, TET(), optim)
    before = run.export().parameters
    for step in range(5):
        run.read(run.step([batch(32, 32 * step)], {"step": step, "seed": 1}))
    after = run.export()
    moved = abs(after.parameters["3.surrogate.width"] - before["3.surrogate.width"])
    assert 0 < moved <= 5 * 3e-4 * 1.01  # Adam moves by at most its rate
    assert set(after.moments) >= {"3.surrogate.width.first", "2.weight.velocity"}


def test_the_mask_is_drawn_anew_each_step_and_never_in_evaluation(name):
    neuron = LIF(analog=0.5, surrogate=Triangular(width=2.0))
    model = Chain(Input(8, 8, 1), Flatten(), Linear(12), neuron, Linear(10))
    run = session(name, model)
    train = Mode("mixed", "batch", True, "train")
    first, second, again = (
        run.forward(batch(), {"step": s}, train, ["3"]).taps["3"] for s in (0, 1, 0)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    values = np.unique(run.forward(batch(), {}, taps=["3"]).taps["3"])
    assert set(values) <= {0.0, 1.0}


def test_masks_are_those_of_the_reference(name):
    neuron = LIF(analog=0.3, surrogate=Triangular(width=2.0))
    model = Chain(Input(8, 8, 1), Flatten(), Linear(6), neuron, Linear(10))
    train = Mode("mixed", "batch", True, "train")
    dials = {"seed": 7, "step": 3}
    analog = []
    for backend in ("numpy", name):
        y = session(backend, model).forward(batch(8), dials, train, ["3"]).taps["3"]
        analog.append((y > 0) & (y < 1))
    assert analog[0].any()
    assert np.array_equal(*analog)


def test_a_learned_threshold_is_projected(name):
    layer = DSR.integrate_and_fire(threshold=0.02, low=0.015)
    model = Chain(Input(8, 8, 1), Flatten(), Linear(12), layer, Linear(10))
    optim = Optim(SGD(lr=Dial("lr", 0.1)), {"threshold": SGD(lr=1000.0)})
    run = session(name, model, SDT(), optim)
    found = []
    for step in range(4):
        run.read(run.step([batch(32, 32 * step)], {"step": step, "lr": 0.01}))
        found.append(float(run.export().parameters["3.threshold"]))
    assert min(found) == np.float32(0.015)  # it was pushed against its bound
    assert all(v >= np.float32(0.015) for v in found)


def test_a_batch_that_is_not_finite_changes_nothing(name):
    model = Chain(Input(8, 8, 1), Conv2d(2, 3), snnx.BatchNorm(), LIF(), Flatten(), Linear(10))
    run = session(name, model, TET(), Optim(SGD(momentum=0.9)))
    run.read(run.step([batch()], {}))
    before = run.export()
    bad = batch()
    bad["x"] = np.where(bad["x"] > 0.9, np.float32(np.inf), bad["x"])
    pending = run.step([bad], {"step": 1})
    with pytest.raises(FloatingPointError, match="step 1"):
        run.read(pending)
    after = run.export()
    for kind in ("parameters", "statistics", "moments"):
        old, new = getattr(before, kind), getattr(after, kind)
        assert all(np.array_equal(old[k], new[k]) for k in old)
    assert before.count == after.count


def test_micro_batches_add_up_to_the_whole(name):
    model = Chain(Input(8, 8, 1), Flatten(), Linear(8), LIF(), Linear(10))
    whole, split = (session(name, model, TET(), Optim(SGD(lr=0.1))) for _ in range(2))
    a = whole.read(whole.step([batch(24)], {}))
    b = split.read(split.step([batch(16), batch(8, 16)], {}))
    assert a["samples"] == b["samples"] == 24
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    x, y = whole.export().parameters, split.export().parameters
    for k in x:
        np.testing.assert_allclose(x[k], y[k], atol=1e-6)


def test_steps_after_a_sequence_ended_change_nothing(name):
    model = Chain(Input(3), Linear(8), LIF(), Linear(4))
    run = session(name, model, TET())
    rng = np.random.default_rng(0)
    x = rng.normal(1.0, 1.0, size=(6, 5, 3)).astype(np.float32)
    length = np.array([6, 1, 3, 4, 6])
    noisy = np.where(np.arange(6)[:, None, None] < length[:, None], x, 100.0).astype(np.float32)
    both = []
    for values in (x, noisy):
        b = {"x": values, "y": np.array([0, 1, 2, 3, 0]), "index": np.arange(5), "length": length}
        both.append(run.loss(b, {}, snnx.EVAL))
    assert np.array_equal(*both)


def test_copies_share_draws_and_have_statistics_of_their_own(name):
    model = Chain(
        Input(8, 8, 1), Flatten(), Linear(6), snnx.BatchNorm(), LIF(analog=0.5), Linear(10)
    )
    run = session(name, model)
    mode = Mode("mixed", "frozen_batch", True, "train")
    one = run.loss(batch(4), {"step": 2}, mode)
    edge = run.forward(batch(4), {"step": 2}, mode, ["2"]).taps["2"]
    twice = np.concatenate([edge, 2 * edge], axis=1)
    two = run.loss(batch(4), {"step": 2}, mode, at="2", values=twice, copies=2)
    assert two.shape == (2, 4)
    np.testing.assert_allclose(two[0], one[0], rtol=1e-6)
    np.testing.assert_allclose(two[1], one[0], rtol=1e-3)  # the norm undoes the factor


def test_wrong_batches_and_dials_are_refused_by_name(name):
    model = Chain(Input(8, 8, 1), Flatten(), Linear(8), LIF(), Linear(10))
    run = session(name, model)
    good = batch(4)
    cases = [
        ({"x": good["x"][..., 0]}, {}, r"Input is \(8, 8, 1\)"),
        ({"x": np.zeros((0, 8, 8, 1), np.float32)}, {}, "no sample"),
        ({"x": np.zeros((0, 4, 8, 8, 1), np.float32)}, {}, "T must be at least 1"),
        ({"x": np.full((4, 8, 8, 1), "a")}, {}, "dtype"),
        ({"y": np.array([0, 1, 2, 10])}, {}, r"labels must be in \[0, 9\]"),
        ({"y": np.array([0.0, 1.0, 2.0, 3.0])}, {}, "whole numbers"),
        ({"y": np.array([0, 1])}, {}, "one label per sample"),
        ({"length": np.array([0, 1, 2, 3])}, {}, "length"),
        ({}, {"temprature": 1.0}, "temprature"),
    ]
    for change, dials, message in cases:
        with pytest.raises((ValueError, TypeError, KeyError), match=message):
            run.step([{**good, **change}], dials)
