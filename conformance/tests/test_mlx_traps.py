"""The silent traps of MLX: what it takes without a word and computes wrongly, or otherwise."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import (
    LIF,
    Learned,
    random,
)
from snnx.backend import Backend, BackendError, load_backend
from snnx.mode import Mode
from snnx.ops import OPS

mx = pytest.importorskip("mlx.core", reason="mlx is not installed")
nn = pytest.importorskip("mlx.nn")
optimizers = pytest.importorskip("mlx.optimizers")
utils = pytest.importorskip("mlx.utils")

from snnx_mlx import draws, sequence  # noqa: E402
from snnx_mlx.arrays import custom_op, nested_sum, to_mlx, to_numpy, to_words  # noqa: E402
from snnx_mlx.ops import RULES  # noqa: E402
from tests.mlx_nets import batch, error, session, small  # noqa: E402

# `snnx_mlx.backend` is the backend itself, which hides its module
mlx_module = importlib.import_module("snnx_mlx.backend")
MLX: Backend = load_backend("mlx")
NUMPY: Backend = load_backend("numpy")
SMOOTH = Mode("smooth", "batch", False, "train")
needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="mx.compile on CPU needs g++")


# Custom gradients: MLX takes a wrong count, shape or None without a word.


@pytest.mark.parametrize(
    ("gradients", "wrong"),
    [
        (lambda a, b: (a,), "gradients"),
        (lambda a, b: (a, b, b), "gradients"),
        (lambda a, b: a, "gradients"),
        (lambda a, b: (a, None), "not an array"),
        (lambda a, b: (a, 1.0), "not an array"),
        (lambda a, b: (a, mx.broadcast_to(b, (3,))), r"gradient \(3,\) of input 1"),
    ],
)
def test_a_wrong_gradient_is_refused(gradients: Callable[..., Any], wrong: str) -> None:
    op = custom_op(lambda a, b: (a * b,), lambda inputs, g, y: gradients(g[0], mx.sum(g[0])))
    with pytest.raises((TypeError, ValueError), match=wrong):
        mx.grad(lambda a, b: mx.sum(op(a, b)[0]), argnums=(0, 1))(mx.ones(3), mx.array(2.0))


def test_a_gradient_is_taken_where_the_forward_ran() -> None:
    place, seen = mx.new_stream(mx.cpu), []

    def backward(inputs: Any, g: Any, y: Any) -> Any:
        seen.append(mx.default_stream(mx.default_device()))
        return (2.0 * g[0],)

    def double(a: Any) -> Any:
        with mx.stream(place):
            return mx.sum(custom_op(lambda a: (2.0 * a,), backward)(a)[0])

    np.testing.assert_array_equal(mx.grad(double)(mx.ones(3)), np.full(3, 2.0))
    assert seen == [place]


def test_an_output_that_nobody_uses_has_a_gradient_of_zeros() -> None:
    seen: list[Any] = []

    def backward(inputs: Any, g: Any, y: Any) -> Any:
        seen.extend(np.array(each).tolist() for each in g)
        return (g[0] + 3.0 * g[1],)

    op = custom_op(lambda a: (a, 3.0 * a), backward)
    np.testing.assert_array_equal(mx.grad(lambda a: mx.sum(op(a)[0]))(mx.ones(2)), np.ones(2))
    assert seen == [[1.0, 1.0], [0.0, 0.0]]


def test_only_arrays_enter_a_custom_op() -> None:
    op = custom_op(lambda a, b: (a * b,), lambda inputs, g, y: (g[0], g[0]))
    with pytest.raises(TypeError, match="input 1 is float"):
        op(mx.ones(3), 2.0)


def test_a_learned_number_is_an_input_and_not_captured() -> None:
    model = small(threshold=Learned(0.8), decay=Learned(0.5, transform="logit"))
    _, grads = session(model).grads(batch(model), {}, SMOOTH)
    assert abs(grads["3.threshold"]) > 1e-4
    assert abs(grads["3.decay"]) > 1e-4


def test_time_is_scanned_inside_one_custom_function(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, original = [], sequence.Scan.backward

    def counted(self: Any, *args: Any) -> Any:
        calls.append(self.steps)
        return original(self, *args)

    monkeypatch.setattr(sequence.Scan, "backward", counted)
    sequence._scan.cache_clear()
    x = mx.ones((16, 2, 3))
    unit = {"neuron": LIF(decay=0.25)}  # autodiff through x[t] would be O(T^2)
    g = mx.grad(lambda a: mx.sum(RULES["neuron"]({"x": a}, unit)["y"]))(x)
    sequence._scan.cache_clear()
    assert g.shape == x.shape
    assert calls == [16]


# Where MLX follows another rule than the spec.


def test_the_first_maximum_has_the_whole_gradient() -> None:
    x = mx.ones((1, 1, 4, 4, 2))
    pool = {"kernel": 2}
    g = to_numpy(mx.grad(lambda a: mx.sum(RULES["max_pool2d"]({"x": a}, pool)["y"]))(x))
    wanted = np.zeros((4, 4, 2))
    wanted[::2, ::2] = 1.0
    np.testing.assert_array_equal(g[0, 0], wanted)


def test_the_running_variance_is_unbiased() -> None:
    x = np.array([1.0, 2.0, 3.0, 6.0]).reshape(1, 4, 1)
    ones, zeros = np.ones(1), np.zeros(1)
    inputs = {"x": x, "weight": ones, "bias": zeros, "running_mean": zeros, "running_var": zeros}
    attributes = {"mode": "batch", "momentum": 1.0}
    out = MLX.run(OPS["batch_norm"], inputs, attributes, "float32")
    np.testing.assert_allclose(out["running_var"], [np.var(x, ddof=1)], rtol=1e-6)
    out = MLX.run(OPS["batch_norm"], inputs, {**attributes, "repeat": 3}, "float32")
    np.testing.assert_allclose(out["running_var"], [np.var(x) * 12 / 11], rtol=1e-6)


def test_long_sums_keep_their_digits() -> None:
    x = np.random.default_rng(0).normal(1.0, 2.0, (8, 16, 16, 16, 2)).astype(np.float32)
    found = to_numpy(nested_sum(mx.array(x), 4))
    assert error(found, x.astype(np.float64).sum((0, 1, 2, 3))) < 5e-7


def test_adam_corrects_its_bias() -> None:
    inputs = {"parameter": np.ones(2), "gradient": np.array([0.5, -2.0]), "lr": np.array(0.1)}
    inputs |= {"first": np.zeros(2), "second": np.zeros(2), "count": np.array(1.0)}
    out = MLX.run(OPS["adam_update"], inputs, {}, "float32")
    np.testing.assert_allclose(out["parameter"], [0.9, 1.1], rtol=1e-6)


def test_flatten_is_in_the_order_h_w_c() -> None:
    x = np.arange(24.0).reshape(1, 1, 2, 3, 4)
    found = MLX.run(OPS["flatten"], {"x": x}, {}, "float32")["y"]
    np.testing.assert_array_equal(found[0, 0], np.arange(24.0))


def test_halves_round_to_even() -> None:
    w = np.array([0.5, 1.5, 2.5, -0.5, -1.5]) * 0.25
    inputs = {"parameter": w, "gradient": np.zeros(5), "lr": np.array(1.0)}
    out = MLX.run(OPS["rounded_sgd_update"], inputs, {"grid": 0.25, "limit": 4.0}, "float32")
    np.testing.assert_array_equal(out["parameter"], np.array([0.0, 2.0, 2.0, 0.0, -2.0]) * 0.25)


def test_a_parameter_on_its_bound_keeps_its_gradient() -> None:
    def held(w: Any) -> Any:
        return mx.sum(RULES["project"]({"parameter": w}, {"low": 0.5, "high": 2.0})["parameter"])

    np.testing.assert_array_equal(mx.grad(held)(mx.array([0.5, 1.0, 2.0])), np.ones(3))


def test_float64_is_never_the_oracle() -> None:
    assert "float64" not in MLX.dtypes
    assert to_mlx(np.ones(2)).dtype == mx.float32
    with pytest.raises(BackendError, match="fp64"):
        snnx.build(small(), backend="mlx", precision="fp64")


def test_whole_numbers_keep_their_kind() -> None:
    assert to_mlx(np.array([1, 2])).dtype == mx.int32
    assert to_words(np.array([2**32 - 1])).item() == 2**32 - 1
    with pytest.raises(OverflowError, match="outside int32"):
        to_mlx(np.array([2**31]))


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_op_agrees_with_the_reference(name: str) -> None:
    op = OPS[name]
    for sample in op.samples():
        wanted = NUMPY.run(op, sample.inputs, sample.attributes, "float64")
        rng = np.random.default_rng(5)
        g = {k: rng.integers(-4, 5, np.shape(v)) * 0.25 for k, v in wanted.items()}
        if sample.cotangents is not None:
            g = {k: sample.cotangents.get(k, np.zeros(np.shape(v))) for k, v in wanted.items()}
        run = (sample.inputs, sample.attributes)
        pairs = [(wanted, MLX.run(op, *run, "float32"), op.tolerance["float32"].forward)]
        gradients = (NUMPY.vjp(op, *run, "float64", g), MLX.vjp(op, *run, "float32", g))
        pairs.append((*gradients, op.tolerance["float32"].gradient))
        for ours, found, tolerance in pairs:
            assert found.keys() == ours.keys()
            for key in ours:
                assert found[key].shape == ours[key].shape
                limit = 0.0 if sample.kind != "random" else tolerance
                assert error(found[key], ours[key]) <= limit, (sample.name, key)


# Random bits.


def words(seed: int, counter: int, samples: Any, times: Any) -> tuple[Any, ...]:
    return to_words(seed), to_words(counter), to_words(samples), to_words(times)


def test_draws_are_those_of_the_library_bit_for_bit() -> None:
    samples, times = [0, 7, 2**32 - 1], [0, 1, 2**31 + 3]
    seed, counter, n, t = words(2**32 - 5, 12345, samples, times)
    host = (2**32 - 5, "dropout", "3.body", 12345, samples, times, 7)
    device = (seed, "dropout", "3.body", counter, n, t, 7)
    np.testing.assert_array_equal(draws.bits(*device), random.bits(*host))
    np.testing.assert_array_equal(draws.uniform(*device), random.uniform(*host))
    found = draws.bernoulli(mx.array(0.3), *device)
    np.testing.assert_array_equal(found, random.bernoulli(0.3, *host))


def test_draws_take_arrays_only() -> None:
    seed, counter, n, t = words(1, 2, [0], [0])
    with pytest.raises(TypeError, match="counter must be uint32"):
        draws.bits(seed, "a", "b", counter.astype(mx.int32), n, t, 4)
