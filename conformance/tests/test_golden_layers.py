"""Golden values of norm, pooling, flattening and encoding, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from snnx.ops.batch_norm import fold
from tests.spec_calls import forward, vjp


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_folded_convolution_is_convolution_and_running_norm(
    dtype: type, bound: float, bias: bool
) -> None:
    rng = np.random.default_rng(25)
    x = rng.standard_normal((2, 3, 5, 5, 3)).astype(dtype)
    weight = rng.standard_normal((4, 3, 3, 3)).astype(dtype)
    b = rng.standard_normal(4).astype(dtype) if bias else None
    gamma, beta, mean = (rng.standard_normal(4).astype(dtype) for _ in range(3))
    var = rng.uniform(0.5, 2.0, 4).astype(dtype)
    a = {"padding": 1}
    given = {} if b is None else {"bias": b}
    y = forward("conv2d", a, x=x, weight=weight, **given)["y"]
    norm = {"mode": "running", "scale": 0.5, "eps": 1e-3}
    wanted = forward(
        "batch_norm", norm, x=y, weight=gamma, bias=beta, running_mean=mean, running_var=var
    )["y"]
    folded, shift = fold(weight, b, gamma, beta, mean, var, 1e-3, 0.5)
    found = forward("conv2d", a, x=x, weight=folded, bias=shift)["y"]
    assert np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)) < bound


def test_batch_norm_of_one_value_is_refused() -> None:
    one = np.ones(2)
    inputs = {"weight": one, "bias": one, "running_mean": one, "running_var": one}
    x = np.ones((1, 1, 2))
    with pytest.raises(ValueError, match="one value per channel"):
        forward("batch_norm", {"mode": "batch"}, x=x, **inputs)
    forward("batch_norm", {"mode": "running"}, x=x, **inputs)
    forward("batch_norm", {"mode": "batch", "repeat": 4}, x=x, **inputs)


def test_copies_are_separate_batches() -> None:
    rng = np.random.default_rng(26)
    parts = [rng.standard_normal((2, 3, 4, 4, 2)) + k for k in range(3)]
    ends = np.array([1.0, 2.0])
    rest = {"weight": ends, "bias": ends, "running_mean": ends, "running_var": ends}
    a = {"mode": "frozen_batch"}
    together = forward("batch_norm", {**a, "copies": 3}, x=np.concatenate(parts, axis=1), **rest)
    for k, part in enumerate(parts):
        alone = forward("batch_norm", a, x=part, **rest)["y"]
        np.testing.assert_allclose(together["y"][:, 3 * k : 3 * k + 3], alone, atol=1e-13)
    np.testing.assert_array_equal(together["running_mean"], ends)


def test_max_pool_gives_a_tie_to_the_first_maximum() -> None:
    x = np.array([[1.0, 1.0], [1.0, 0.0]]).reshape(1, 1, 2, 2, 1)
    g = vjp("max_pool2d", np.ones((1, 1, 1, 1, 1)), {"kernel": 2}, x=x)["x"]
    np.testing.assert_array_equal(g.reshape(2, 2), [[1.0, 0.0], [0.0, 0.0]])
    g = vjp("max_pool2d", np.ones((1, 1, 1, 1, 1)), {"kernel": 2}, x=x[:, :, ::-1])["x"]
    np.testing.assert_array_equal(g.reshape(2, 2), [[1.0, 0.0], [0.0, 0.0]])


def test_flatten_is_in_the_order_height_width_channel() -> None:
    x = np.arange(12.0).reshape(1, 1, 2, 3, 2)
    y = forward("flatten", x=x)["y"]
    for h, w, c in np.ndindex(2, 3, 2):
        assert y[0, 0, (h * 3 + w) * 2 + c] == x[0, 0, h, w, c]


def test_poisson_never_fires_at_zero_and_always_at_one() -> None:
    noise = np.linspace(0.0, 1.0, 64, endpoint=False).reshape(64, 1, 1)
    x = np.array([[[0.0]]])
    assert not np.any(forward("poisson", x=x, noise=noise)["y"])
    assert np.all(forward("poisson", x=x + 1.0, noise=noise)["y"] == 1.0)
