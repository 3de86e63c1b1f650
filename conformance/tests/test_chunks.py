"""Truncated BPTT: chunks of time against the definition, the whole, and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import (
    LIF,
    MSE,
    SDT,
    SGD,
    TET,
    BatchNorm,
    Chain,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Linear,
    Mode,
    Optim,
    Poisson,
    RateMSE,
    Sigmoid,
    load_backend,
)
from snnx.backend import Snapshot
from snnx.chunks import pieces, share, spans
from snnx.layers import Layer

pytest.importorskip("torch")
pytest.importorskip("mlx.core")

T, N = 7, 5
SMOOTH = Mode("smooth", "batch", True, "train")
NEURON = LIF(surrogate=Sigmoid())
VELOCITY = Optim(SGD(0.1, momentum=0.9))  # after one step the moments are the gradients
LENGTH = np.array([1, 7, 3, 5, 4])


def dense(*more: Layer, neuron: LIF = NEURON) -> Chain:
    return Chain(Input(6), *more, Linear(5), neuron, Linear(4), neuron, Linear(3))


def batch(shape: tuple[int, ...] = (6,), length: bool = False, static: bool = False) -> Any:
    rng = np.random.default_rng(4)
    x = rng.random((N, *shape) if static else (T, N, *shape)).astype(np.float32)
    found = {"x": x, "y": rng.integers(0, 3, N), "index": np.arange(N) + 7}
    return {**found, "length": LENGTH} if length else found


def session(model: Any, chunk: int | None, backend: str = "numpy", **more: Any) -> Any:
    objective = more.pop("objective", TET())
    precision = "fp64" if backend == "numpy" else "fp32"
    net = snnx.build(model, backend, seed=1, precision=precision)
    options = {"steps": T, "chunk": chunk, **more}
    return load_backend(backend).session(net, objective, VELOCITY, **options)


def gradients(found: Any) -> dict[str, np.ndarray]:
    return dict(found.export().moments)


def stepped(model: Any, chunk: int | None, parts: Any, mode: Any = SMOOTH, **more: Any) -> Any:
    """Return the figures of one step, the gradients and the session."""
    made = session(model, chunk, **more)
    given = parts if isinstance(parts, list) else [parts]
    figures = made.read(made.step(given, {"seed": 2, "step": 3}, mode))
    return figures, gradients(made), made


def apart(found: Any, wanted: Any) -> float:
    """Return the largest difference of two sets of gradients, relative to the largest of all."""
    assert set(found) == set(wanted)
    largest = max(float(np.abs(v).max()) for v in wanted.values())
    return max(float(np.abs(found[k] - wanted[k]).max()) for k in wanted) / largest


def test_spans_cover_every_step_once() -> None:
    assert spans(7, 3) == ((0, 3), (3, 6), (6, 7))
    assert spans(7, None) == spans(7, 9) == ((0, 7),)
    weights = [share(np.clip, LENGTH, *span)[0] for span in spans(T, 3)]
    assert np.allclose(sum(weights), 1.0)


@pytest.mark.parametrize("length", [False, True])
@pytest.mark.parametrize("objective", [TET(), SDT(decay=0.8), RateMSE()])
def test_the_gradient_is_that_of_the_whole_loss_with_the_handed_over_states_held(
    objective: Any, length: bool
) -> None:
    data, model = batch(length=length), dense()
    _, found, _ = stepped(model, 3, data, objective=objective)
    made = session(model, None, objective=objective)
    weights = made.export()
    states: list[Any] = [None]
    for part, size in pieces(made.net.program, data, T, 3):
        states.append(made.forward(part, {}, SMOOTH, state=states[-1], steps=size).state)

    def loss(path: str, place: Any, by: float) -> float:
        moved = {k: v.copy() for k, v in weights.parameters.items()}
        moved[path][place] += by
        made.load(Snapshot(moved, weights.statistics))
        y = [
            made.forward(part, {}, SMOOTH, state=state, steps=size).y
            for state, (part, size) in zip(
                states, pieces(made.net.program, data, T, 3), strict=False
            )
        ]
        return float(made.loss_and_gradient(data, np.concatenate(y), 1.0)[0].mean())

    for path in ("1.weight", "3.weight", "3.bias"):
        for place in list(np.ndindex(weights.parameters[path].shape))[::3]:
            slope = (loss(path, place, 1e-5) - loss(path, place, -1e-5)) / 2e-5
            assert abs(slope - found[f"{path}.velocity"][place]) < 1e-8


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
@pytest.mark.parametrize("objective", [TET(), SDT(decay=0.8)])
def test_nothing_is_cut_where_no_state_is_carried(objective: Any, backend: str) -> None:
    model = dense(neuron=LIF(decay=0.0, surrogate=Sigmoid()))
    for data in (batch(), batch(length=True), batch(static=True)):
        one, whole, _ = stepped(model, None, data, objective=objective, backend=backend)
        two, found, _ = stepped(model, 2, data, objective=objective, backend=backend)
        assert apart(found, whole) < 1e-6
        assert abs(one["loss"] - two["loss"]) < 1e-6
        assert one["correct"] == two["correct"]


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("objective", [TET(), SDT(decay=0.8)])
def test_a_backend_finds_what_the_reference_finds(objective: Any, chunk: int, backend: str) -> None:
    model = Chain(
        Input(4, 4, 1),
        Conv2d(2, 3, bias=False),
        BatchNorm(),
        NEURON,
        Dropout(0.3),
        Flatten(),
        Linear(4),
        NEURON,
        Linear(3),
    )
    for given in ({}, {"length": True}, {"static": True}):
        data = batch((4, 4, 1), **given)
        wanted, gradient, reference = stepped(model, chunk, data, objective=objective)
        got, found, made = stepped(model, chunk, data, objective=objective, backend=backend)
        assert apart(found, gradient) < 3e-6
        assert abs(got["loss"] - wanted["loss"]) < 1e-6
        assert (got["correct"], got["samples"]) == (wanted["correct"], wanted["samples"])
        old, new = reference.export().statistics, made.export().statistics
        assert all(np.allclose(new[k], old[k], rtol=1e-5, atol=1e-7) for k in old)


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
@pytest.mark.parametrize("chunk", [T, 20])
def test_a_chunk_of_all_steps_is_no_chunk(chunk: int, backend: str) -> None:
    for objective in (TET(), SDT()):
        _, whole, _ = stepped(dense(), None, batch(), None, objective=objective, backend=backend)
        _, found, _ = stepped(dense(), chunk, batch(), None, objective=objective, backend=backend)
        assert all(np.array_equal(found[k], whole[k]) for k in whole)


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
def test_masks_and_encoding_go_on_over_the_chunks(backend: str) -> None:
    model = dense(Poisson(), Dropout(0.4))
    one, _, _ = stepped(model, None, batch(), backend=backend)
    for objective in (TET(), SDT()):
        whole, _, _ = stepped(model, None, batch(), objective=objective, backend=backend)
        two, _, _ = stepped(model, 3, batch(), objective=objective, backend=backend)
        assert abs(two["loss"] - whole["loss"]) < 1e-6
    other, _, _ = stepped(model, None, {**batch(), "index": np.arange(N)}, backend=backend)
    assert abs(other["loss"] - one["loss"]) > 1e-4  # other draws are another loss


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
def test_batch_norm_sees_one_chunk_and_moves_once_for_each(backend: str) -> None:
    model = Chain(Input(6), BatchNorm(), NEURON, Linear(3))
    data = batch()
    for objective in (TET(), SDT()):
        _, _, made = stepped(model, 4, data, objective=objective, backend=backend)
        mean = np.zeros(6)
        for start, stop in spans(T, 4):
            mean = 0.9 * mean + 0.1 * data["x"][start:stop].mean((0, 1))
        assert np.allclose(made.export().statistics["1.running_mean"], mean, atol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
def test_chunks_of_micro_batches_are_chunks_of_the_batch(backend: str) -> None:
    data = batch(length=True)
    halves = [
        {k: (v[:, rows] if k == "x" else v[rows]) for k, v in data.items()}
        for rows in (slice(0, 2), slice(2, N))
    ]
    for objective in (TET(), SDT(decay=0.9)):
        one, whole, _ = stepped(dense(), 3, data, objective=objective, backend=backend)
        two, found, _ = stepped(dense(), 3, halves, objective=objective, backend=backend)
        assert apart(found, whole) < 1e-6
        assert abs(one["loss"] - two["loss"]) < 1e-6
        assert one["correct"] == two["correct"]


def test_in_exact_mode_chunks_give_the_same_gradients_everywhere() -> None:
    neuron = LIF(decay=0.5, surrogate=snnx.Rectangular(width=2.0))
    model = Chain(Input(8), Linear(16, bias=False), neuron, Linear(4, bias=False))
    rng = np.random.default_rng(5)
    weights = {
        "1.weight": rng.integers(-4, 8, (16, 8)) / 8,
        "3.weight": rng.integers(-4, 5, (4, 16)) / 8,
    }
    data: Any = {
        "x": rng.integers(0, 2, (8, 4, 8)).astype(np.float32),
        "y": rng.integers(0, 4, 4),
        "index": np.arange(4),
    }
    seen = {}
    for backend in ("numpy", "torch", "mlx"):
        made = session(model, 2, backend, objective=RateMSE(high=2.0), steps=8)
        made.load(Snapshot(weights, {}))
        whole = made.forward(data, {})
        state, outputs = None, []
        for part, size in pieces(made.net.program, data, 8, 2):
            out = made.forward(part, {}, state=state, steps=size)
            state = out.state
            outputs.append(out.y)
        assert np.array_equal(np.concatenate(outputs), whole.y)
        assert whole.y.any(-1).mean() > 0.05
        made.read(made.step([data], {}))
        seen[backend] = gradients(made)
    assert np.any(seen["numpy"]["1.weight.velocity"])
    for backend in ("torch", "mlx"):
        for path, wanted in seen["numpy"].items():
            assert np.array_equal(seen[backend][path], wanted.astype(np.float32)), (backend, path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it traces
def test_chunks_are_one_compiled_step() -> None:
    made = session(dense(), 3, "torch", compile="aot_eager", objective=SDT())
    for step in (0, 1):
        made.read(made.step([batch()], {"step": step}))
    assert made.compilations() == 1
    plain = session(dense(), 3, "torch", compile=False, objective=SDT())
    for step in (0, 1):
        plain.read(plain.step([batch()], {"step": step}))
    assert apart(gradients(made), gradients(plain)) < 1e-6


def test_targets_that_are_arrays() -> None:
    rng = np.random.default_rng(0)
    data = {**batch(), "y": rng.random((N, 3)).astype(np.float32)}
    _, wanted, _ = stepped(dense(), 3, data, objective=MSE())
    for backend in ("torch", "mlx"):
        _, found, _ = stepped(dense(), 3, data, objective=MSE(), backend=backend)
        assert apart(found, wanted) < 3e-6


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
def test_what_cannot_be_cut_is_refused(backend: str) -> None:
    for wrong in (0, -2, True, 2.5):
        with pytest.raises(ValueError, match="chunk: a whole number of time steps >= 1"):
            session(dense(), wrong, backend)  # type: ignore[arg-type]
    rates = Chain(
        Input(6),
        Linear(5),
        snnx.DSR(LIF(reset="subtract", decay=1.0, emit=("threshold", 1.0))),
        Linear(3),
    )
    with pytest.raises(ValueError, match=r"chunk = 3: layer 2 .* rates over all of T"):
        session(rates, 3, backend)
