"""Golden values of DSR's rate mapping and its layer rule, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snnx.ops.rate_mapping import if_constant_rate, released_backward
from tests.spec_calls import forward, vjp


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
