"""Numbers, shapes and arguments that make no sense: refused where they are given, and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import LIF, SGD, Adam, Chain, Dial, Input, Linear, Optim, RoundedSGD
from snnx.backend import load_backend

MODEL = Chain(Input(3), Linear(4), LIF(), Linear(2))
X = np.ones((6, 3), np.float32)
Y = np.arange(6) % 2


def array(name: str, x: np.ndarray) -> Any:
    """Return the array as the backend's own kind."""
    if name == "torch":
        import torch

        return torch.as_tensor(x)
    if name == "mlx":
        import mlx.core as mx

        return mx.array(x)
    return x


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
@pytest.mark.parametrize(
    ("shape", "steps", "message"),
    [
        ((0, 2, 3), None, "T must be at least 1"),
        ((2, 3), 0, "T must be at least 1"),
        ((2, 4), 2, r"the model's Input is \(3,\)"),
        ((5, 2, 4), None, r"the model's Input is \(3,\)"),
        ((5, 1, 2, 3), None, r"the model's Input is \(3,\)"),
        ((3,), 2, r"the model's Input is \(3,\)"),
    ],
)
def test_a_native_net_names_an_input_that_does_not_fit(
    backend: str, shape: tuple[int, ...], steps: int | None, message: str
) -> None:
    net = snnx.build(MODEL, backend=backend)
    with pytest.raises(ValueError, match=message):
        net(array(backend, np.ones(shape, np.float32)), steps=steps)


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
def test_a_native_net_names_a_state_that_does_not_fit(backend: str) -> None:
    net = snnx.build(MODEL, backend=backend)
    x = array(backend, X)
    _, state = net(x, steps=2)
    net(x, {"t": state["t"]}, steps=2)  # a layer that is left out is at rest
    with pytest.raises(KeyError, match=r"unknown states \['1'\]; there are \['2', 't'\]"):
        net(x, {**state, "1": state["2"]}, steps=2)
    for arrays in ((), (*state["2"], *state["2"])):
        with pytest.raises(ValueError, match=f"state 2: expects 1 arrays, gets {len(arrays)}"):
            net(x, {**state, "2": arrays}, steps=2)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_native_net_takes_its_frameworks_arrays_only(backend: str) -> None:
    net = snnx.build(MODEL, backend=backend)
    with pytest.raises(TypeError, match="x: is a ndarray; give"):
        net(X)


@pytest.mark.parametrize(
    ("kind", "numbers", "message"),
    [
        (SGD, {"lr": 0.0}, "lr must be above 0"),
        (SGD, {"lr": float("inf")}, "lr must be above 0"),
        (SGD, {"lr": "fast"}, "lr is a number or a Dial"),
        (SGD, {"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        (SGD, {"weight_decay": -1e-3}, "weight_decay must be at least 0"),
        (Adam, {"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\)"),
        (Adam, {"eps": 0.0}, "eps must be above 0"),
        (RoundedSGD, {"grid": 0.0}, "grid must be above 0"),
        (Optim, {"clip_norm": 0.0}, "clip_norm must be above 0"),
        (LIF, {"emit": 0.0}, "emit must not be 0"),
        (LIF, {"emit": ("threshold", 0.0)}, "emit must not be 0"),
        (LIF, {"fire_fraction": 0.0}, "fire_fraction must be above 0"),
        (LIF, {"detach_reset": "no"}, "detach_reset is True or False"),
        (Dial, {"name": "seed", "init": 1.0}, "'seed' is a counter of the run"),
    ],
)
def test_a_number_without_meaning_is_refused_when_it_is_written(
    kind: Any, numbers: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        kind(**numbers)


def test_a_layer_larger_than_an_array_can_be_is_named() -> None:
    with pytest.raises(snnx.ShapeError, match=r"1: shape \(4000000000000,\) has more than"):
        snnx.flatten(Chain(Input(3), Linear(4 * 10**12)))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5])
def test_a_seed_is_a_whole_number_of_32_bits(seed: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="random bits: seed must"):
        snnx.build(MODEL, backend="numpy", seed=seed)


@pytest.mark.parametrize("data", [None, (X, Y), {"x_train": X}, [X, Y, X, Y], X])
def test_fit_says_which_data_it_takes(data: Any) -> None:
    with pytest.raises(TypeError, match="data: give a Dataset, the name of one"):
        snnx.fit(MODEL, data, backend="numpy")


def test_a_dial_of_the_model_is_no_learning_rate_of_another_value() -> None:
    model = Chain(Input(3), LIF(threshold=Dial("lr", 1.0)), Linear(2))
    backend = load_backend("numpy")
    net = snnx.build(model, backend="numpy")
    with pytest.raises(ValueError, match="dial 'lr' is a number of the model and a learning rate"):
        backend.session(net, snnx.SDT(), Optim(Adam()), steps=2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"objective": "tet"}, "objective: give something like"),
        ({"optim": Adam()}, "optim: give something like"),
        ({"schedule": "cosine"}, "schedule: give something like"),
        ({"methods": ("tet",)}, "methods: give something like"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"steps": 2.5}, "steps must be a whole number"),
    ],
)
def test_fit_names_the_argument_of_another_kind(option: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        snnx.fit(MODEL, (X, Y, X, Y), backend="numpy", **option)


def test_torch_says_out_of_memory_in_pythons_word(monkeypatch):
    torch = pytest.importorskip("torch")
    model = Chain(Input(3), Linear(4), LIF(), Linear(2))
    backend = load_backend("torch")
    session: Any = backend.session(snnx.build(model, "torch"), snnx.SDT(), snnx.Optim())
    batch = {"x": np.ones((2, 3, 3), np.float32), "y": np.zeros(3, int), "index": np.arange(3)}
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):

        def full(*arrays, error=error):
            raise error

        monkeypatch.setattr(session.taker, "_made", lambda *key, full=full: full)
        session.taker._forms.clear()
        with pytest.raises(MemoryError, match="allocate"):
            session.step([batch], {})
