"""The op spec against numbers from outside the code: the papers' equations, worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from snnx.ops import OPS
from snnx.ops._xp import one_hot
from snnx.ops.batch_norm import fold
from snnx.ops.rate_mapping import if_constant_rate, released_backward
from snnx.training.schedules import Constant, Cosine, Step, Warmup


def forward(name: str, attributes: Any = None, **inputs: Any) -> dict[str, np.ndarray]:
    return OPS[name].forward(np, inputs, attributes or {})


def vjp(name: str, g: Any, attributes: Any = None, **inputs: Any) -> dict[str, np.ndarray]:
    outputs = forward(name, attributes, **inputs)
    (output,) = outputs
    return OPS[name].vjp(np, inputs, attributes or {}, outputs, {output: np.asarray(g)})


# Softmax of the steps: (3/4, 1/4) and (1/4, 3/4); of their mean: (1/2, 1/2).
LOGITS = np.array([[[math.log(3.0), 0.0]], [[0.0, math.log(3.0)]]])
TARGET = np.array([0])


def test_sdt_loss_of_a_pair_worked_by_hand() -> None:
    loss = forward("sdt_loss", logits=LOGITS, target=TARGET)["loss"]
    g = vjp("sdt_loss", [1.0], logits=LOGITS, target=TARGET)["logits"]
    np.testing.assert_allclose(loss, [math.log(2.0)], atol=1e-15)
    np.testing.assert_allclose(g[:, 0], [[-0.25, 0.25], [-0.25, 0.25]], atol=1e-15)


def test_tet_loss_of_a_pair_worked_by_hand() -> None:
    phi, log3 = 1.0, math.log(3.0)
    entropy = (math.log(4.0 / 3.0) + math.log(4.0)) / 2.0
    square = ((log3 - phi) ** 2 + phi**2) / 2.0
    near, far = 2.0 * (log3 - phi) / 4.0, -2.0 * phi / 4.0
    g_entropy = np.array([[-0.125, 0.125], [-0.375, 0.375]])
    g_square = np.array([[near, far], [far, near]])
    for mse in (0.0, 0.05, 1.0):
        a = {"mse": mse, "target_value": phi}
        loss = forward("tet_loss", a, logits=LOGITS, target=TARGET)["loss"]
        g = vjp("tet_loss", [1.0], a, logits=LOGITS, target=TARGET)["logits"]
        np.testing.assert_allclose(loss, [(1 - mse) * entropy + mse * square], atol=1e-15)
        np.testing.assert_allclose(g[:, 0], (1 - mse) * g_entropy + mse * g_square, atol=1e-15)


def test_tet_defaults_are_those_of_the_paper() -> None:
    given = forward("tet_loss", {"mse": 0.05, "target_value": 1.0}, logits=LOGITS, target=TARGET)
    assert forward("tet_loss", logits=LOGITS, target=TARGET)["loss"] == given["loss"]


def test_closed_form_loss_gradients() -> None:
    rng = np.random.default_rng(21)
    steps, batch, classes = 5, 4, 7
    logits, target = rng.standard_normal((steps, batch, classes)), np.array([3, 0, 6, 3])
    g = np.full(batch, 1.0 / batch)  # the objective is the mean over the batch

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x)
        return e / e.sum(-1, keepdims=True)

    hot = np.eye(classes)[target]
    inputs = {"logits": logits, "target": target}
    found = vjp("sdt_loss", g, **inputs)["logits"]
    wanted = (softmax(logits.mean(0)) - hot) / (batch * steps)
    assert np.max(np.abs(found - wanted)) < 1e-12
    found = vjp("tet_loss", g, {"mse": 0.0}, **inputs)["logits"]
    assert np.max(np.abs(found - (softmax(logits) - hot) / (batch * steps))) < 1e-12
    found = vjp("tet_loss", g, {"mse": 1.0}, **inputs)["logits"]
    assert np.max(np.abs(found - 2 * (logits - 1.0) / (batch * steps * classes))) < 1e-12


def test_sdt_is_at_most_tet_and_the_gap_is_that_of_logsumexp() -> None:
    rng = np.random.default_rng(22)
    logits, target = 3.0 * rng.standard_normal((6, 9, 5)), rng.integers(0, 5, 9)
    sdt = forward("sdt_loss", logits=logits, target=target)["loss"]
    tet = forward("tet_loss", {"mse": 0.0}, logits=logits, target=target)["loss"]
    gap = np.log(np.exp(logits).sum(-1)).mean(0) - np.log(np.exp(logits.mean(0)).sum(-1))
    assert np.all(sdt <= tet)
    np.testing.assert_allclose(tet - sdt, gap, atol=1e-13)
    same = np.broadcast_to(logits[:1], logits.shape)  # equality where all steps agree
    sdt = forward("sdt_loss", logits=same, target=target)["loss"]
    tet = forward("tet_loss", {"mse": 0.0}, logits=same, target=target)["loss"]
    np.testing.assert_allclose(sdt, tet, atol=1e-14)


def test_labels_and_steps_are_counted_beyond_what_16_bits_hold() -> None:
    like = np.zeros(1, np.float16)  # whose integers end at 2048
    assert np.flatnonzero(one_hot(np, np.array([2051]), 3000, like)[0]) == [2051]
    logits = np.zeros((2052, 2, 1), np.float16)
    length = np.array([2051, 2052])
    weights = vjp("readout", np.ones((2, 1), np.float16), logits=logits, length=length)["logits"]
    np.testing.assert_array_equal((weights > 0).sum(0)[:, 0], length)


def test_padded_steps_count_nothing() -> None:
    rng = np.random.default_rng(23)
    logits, target, length = rng.standard_normal((5, 2, 3)), np.array([2, 0]), np.array([2, 5])
    other = logits.copy()
    other[2:, 0] = 77.0
    for name, a in (("sdt_loss", {"decay": 0.9}), ("tet_loss", {}), ("rate_mse_loss", {})):
        inputs = {"target": target, "length": length}
        first = forward(name, a, logits=logits, **inputs)["loss"]
        alone = forward(name, a, logits=logits[:2, :1], target=target[:1])["loss"]
        np.testing.assert_array_equal(forward(name, a, logits=other, **inputs)["loss"], first)
        np.testing.assert_allclose(first[:1], alone, rtol=1e-14)
        g = vjp(name, np.ones(2), a, logits=logits, **inputs)["logits"]
        assert not np.any(g[2:, 0])


@pytest.mark.parametrize(
    ("steps", "dt", "factor"),
    [(20, 0.05, 1.0818), (15, 0.05, 1.0462), (10, 0.05, 1.0205), (5, 0.1, 1.0199)],
)
def test_last_layer_factor_of_the_weighted_rate(steps: int, dt: float, factor: float) -> None:
    decay = math.exp(-dt)
    outputs = np.zeros((steps, 1, 1))
    g_out = vjp("readout", [[1.0]], {"decay": decay}, logits=outputs)["logits"]
    current = np.full((steps, 1, 1), 0.5)
    a = {"kind": "lif", "dt": dt, "tau": 1.0}
    g_x, _ = released_backward(np, current, np.array(0.3), a, g_out)
    assert round(float(g_x.sum()), 4) == factor
    assert np.all(g_x == g_x[0])


def test_rate_mapping_worked_by_hand() -> None:
    x = np.array([0.5, 2.0, 1.0, 4.0]).reshape(4, 1, 1)
    threshold = np.array(0.5)
    a = {"kind": "lif", "dt": 0.25, "tau": 2.0, "decay": 0.5}
    # Weights 1/8, 1/4, 1/2, 1 sum to 15/8: mean 5.0625 / 1.875 = 2.7, below 4 = threshold tau / dt.
    np.testing.assert_allclose(forward("rate_mapping", a, x=x, threshold=threshold)["y"], [[1.35]])
    g = vjp("rate_mapping", [[3.0]], a, x=x, threshold=threshold)
    np.testing.assert_allclose(g["x"].ravel(), 1.5 * np.array([1, 2, 4, 8]) / 15.0)
    assert g["threshold"] == 0.0
    g = vjp("rate_mapping", [[3.0]], a, x=2.0 * x, threshold=threshold)
    assert forward("rate_mapping", a, x=2.0 * x, threshold=threshold)["y"] == 2.0
    assert not np.any(g["x"])
    assert g["threshold"] == 12.0


def test_released_masks_include_the_edges_for_if_and_not_for_lif() -> None:
    mean = np.array([[[-0.5, 0.0, 0.25, 0.5, 0.75]]])
    g = np.ones_like(mean)
    g_x, g_th = released_backward(np, mean, np.array(0.5), {"kind": "if"}, g)
    np.testing.assert_array_equal(g_x, [[[0, 1, 1, 1, 0]]])
    assert g_th == 1.0
    a = {"kind": "lif", "dt": 0.5, "tau": 1.0, "decay": 1.0}
    g_x, g_th = released_backward(np, mean, np.array(0.25), a, g)
    np.testing.assert_array_equal(g_x, [[[0, 0, 1, 0, 0]]])
    assert g_th == 0.5  # kappa is dt
    _, g_th = released_backward(np, mean, np.array(0.5), {"kind": "if", "kappa": 0.001}, g)
    assert g_th == 0.001


def integrate_and_fire(x: np.ndarray, threshold: float, fraction: float) -> np.ndarray:
    """Return the outputs of DSR IF: soft reset, fires at fraction * threshold, emits threshold."""
    v, outputs = np.zeros(x.shape[1:]), []
    for current in x:
        u = v + current
        s = (u >= fraction * threshold).astype(float)
        v = u - threshold * s
        outputs.append(threshold * s)
    return np.stack(outputs)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
def test_if_under_constant_current_has_the_closed_form_rate(steps: int, fraction: float) -> None:
    threshold = 2.0
    current = np.arange(-32, 97) / 32.0
    x = np.broadcast_to(current, (steps, *current.shape))
    wanted = integrate_and_fire(x, threshold, fraction).mean(0)
    found = if_constant_rate(np, current, threshold, steps, fraction)
    np.testing.assert_array_equal(found, wanted)
    inside = (current >= 0) & (current <= threshold)
    error = np.abs(found - current)[inside].max()
    assert error <= threshold / steps * (1.0 if fraction == 1.0 else max(fraction, 1 - fraction))


def test_released_if_rule_is_the_gradient_of_the_mapping_at_the_actual_rates() -> None:
    rng = np.random.default_rng(24)
    steps, batch, threshold = 8, 3, 1.0
    first = integrate_and_fire(rng.uniform(-0.5, 1.5, (steps, batch, 6)), threshold, 0.5)
    weight = rng.standard_normal((4, 6))
    x = first @ weight.T
    g_rate = rng.standard_normal((batch, 4))
    g_out = np.broadcast_to(g_rate / steps, x.shape)  # the loss sees the mean output
    g_x, g_th = released_backward(np, x, np.array(threshold), {"kind": "if"}, g_out)
    found = np.einsum("tno,tni->oi", g_x, first)
    rate = first.mean(0)
    mean = rate @ weight.T
    inside = (mean >= 0) & (mean <= threshold)
    assert inside.any()
    assert not inside.all()
    np.testing.assert_allclose(found, (inside * g_rate).T @ rate, atol=1e-13)
    np.testing.assert_allclose(g_th, (g_rate * (mean > threshold)).sum(), atol=1e-13)


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


def test_first_adam_step_has_the_size_of_the_learning_rate() -> None:
    g, zero = np.array([1e-3, -7.0]), np.zeros(2)
    inputs = {"first": zero, "second": zero, "lr": np.array(0.1), "count": np.array(1.0)}
    out = forward("adam_update", {"eps": 0.0}, parameter=zero, gradient=g, **inputs)
    np.testing.assert_allclose(out["parameter"], [-0.1, 0.1], rtol=1e-12)


def test_projection_stops_at_each_end_that_is_given() -> None:
    x = np.array([-2.0, 0.25, 3.0])
    for low, high, wanted in [
        (-1.0, 1.0, [-1.0, 0.25, 1.0]),
        (0.5, None, [0.5, 0.5, 3.0]),
        (None, 0.0, [-2.0, 0.0, 0.0]),
        (None, None, [-2.0, 0.25, 3.0]),
    ]:
        found = forward("project", {"low": low, "high": high}, parameter=x)["parameter"]
        np.testing.assert_array_equal(found, wanted)


def test_rounded_update_rounds_halves_to_even() -> None:
    parameter, gradient = np.zeros(4), np.array([-0.5, -1.5, -2.5, -9.0])
    a = {"grid": 1.0, "limit": 4.0}
    out = forward("rounded_sgd_update", a, parameter=parameter, gradient=gradient, lr=np.array(1.0))
    np.testing.assert_array_equal(out["parameter"], [0.0, 2.0, 2.0, 4.0])
    with pytest.raises(ValueError, match="power of two"):
        forward(
            "rounded_sgd_update",
            {"grid": 0.1, "limit": 1.0},
            parameter=parameter,
            gradient=gradient,
            lr=np.array(1.0),
        )


def test_schedules_have_the_values_of_their_equations() -> None:
    cosine = Cosine(epochs=10)
    values = [cosine.value(0.2, epoch, 0, 7) for epoch in range(10)]
    assert values[0] == 0.2
    assert values[5] == pytest.approx(0.1)
    assert values[9] == pytest.approx(0.1 * (1.0 + math.cos(0.9 * math.pi)))
    assert cosine.value(0.2, 10, 0, 7) == 0.0
    assert Constant().value(0.2, 3, 9, 4) == 0.2
    warm = Warmup(steps=4, then=cosine)
    ramp = [warm.value(0.2, 0, step, 100) for step in range(6)]
    assert ramp == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    assert warm.value(0.2, 5, 500, 100) == pytest.approx(0.1)
    step = Step(milestones=(2, 4), factor=0.5)
    assert [step.value(1.0, e, 0, 1) for e in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    "make", [lambda: Cosine(0), lambda: Warmup(0), lambda: Step((4, 2)), lambda: Step((1,), 0.0)]
)
def test_a_schedule_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"Cosine|Warmup|Step"):
        make()
