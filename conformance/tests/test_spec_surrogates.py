"""The surrogates against differences, areas and the numbers of the papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from snnx.neurons import LIF, Neuron
from snnx.ops import OPS
from snnx.ops._neuron_cases import SURROGATES
from snnx.scalars import Learned, initial
from snnx.surrogate import (
    ArcTan,
    Dspike,
    Rectangular,
    Sigmoid,
    Surrogate,
    Tanh,
    Triangular,
)

NEURON = OPS["neuron"]


def run(inputs: Any, neuron: Neuron, **attributes: Any) -> dict[str, np.ndarray]:
    return NEURON.forward(np, inputs, {"neuron": neuron, **attributes})


def pull(inputs: Any, neuron: Neuron, g: Any, **attributes: Any) -> dict[str, np.ndarray]:
    given = {"neuron": neuron, **attributes}
    return NEURON.vjp(np, inputs, given, run(inputs, neuron, **attributes), g)


# Surrogates, seen through one step of a neuron at threshold 1: y = H(x), its gradient is h(x).


def height(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    inputs = {"x": 1.0 + x[None, None]}
    return run(inputs, LIF(surrogate=surrogate), fire="smooth")["y"][0, 0]


def slope(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    inputs = {"x": 1.0 + x[None, None]}
    return pull(inputs, LIF(surrogate=surrogate), {"y": np.ones((1, 1, x.size))})["x"][0, 0]


POINTS = np.linspace(-1.9, 1.9, 381) + 0.0013


@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES)
def test_slope_is_the_derivative_of_the_smooth_step(surrogate: Surrogate) -> None:
    found = slope_of_dial(surrogate)
    x = POINTS
    rise = (height(found, x + 1e-6) - height(found, x - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope(found, x), rise, atol=2e-5)
    area = found.area if isinstance(found, Triangular) else 1.0
    assert height(found, np.zeros(1))[0] == pytest.approx(0.5 * area)


def slope_of_dial(surrogate: Surrogate) -> Surrogate:
    """Return the surrogate with its dial as a constant, so that no input gives it."""
    if isinstance(surrogate, Dspike):
        return Dspike(initial(surrogate.temperature), surrogate.radius)
    return surrogate


@pytest.mark.parametrize(
    ("surrogate", "reach", "area"),
    [
        (Rectangular(0.8), 2.0, 1.0),
        (Triangular(1.5), 2.0, 1.0),
        (Triangular.peak(0.3, 0.5), 2.0, 0.15),
        (Sigmoid(0.3), 20.0, 1.0),
        (Tanh(0.7), 20.0, 1.0),
        (ArcTan(2.0), 50.0, 2 * math.atan(math.pi * 50 / 2) / math.pi),
        (Dspike(1.0), 0.5, 1.0),
        (Dspike(4.0), 0.5, 1.0),
        (Dspike(1e-4), 0.5, 1.0),
        (Dspike(60.0), 0.5, 1.0),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Surrogate) else "",
)
def test_area_under_a_surrogate(surrogate: Surrogate, reach: float, area: float) -> None:
    x = (np.arange(400_000) + 0.5) / 400_000 * 2 * reach - reach  # midpoints
    assert np.sum(slope(surrogate, x)) * 2 * reach / x.size == pytest.approx(area, abs=2e-5)


@pytest.mark.parametrize("kind", [Rectangular, Triangular, Sigmoid, Tanh, ArcTan])
def test_gradient_of_a_width_is_minus_x_over_width_times_slope(kind: Any) -> None:
    w = 1.3
    neuron = LIF(surrogate=kind(Learned(w, "neuron", transform="log")))
    inputs = {"x": 1.0 + POINTS[None, None], "p.surrogate.width": np.full(POINTS.size, w)}
    found = pull(inputs, neuron, {"y": np.ones((1, 1, POINTS.size))})
    wanted = -(POINTS / w) * slope(kind(w), POINTS)
    np.testing.assert_allclose(found["p.surrogate.width"], wanted, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("b", [2e-4, 0.5, 1.0, 4.0])
def test_gradient_of_the_temperature_is_its_derivative(b: float) -> None:
    neuron = LIF(surrogate=Dspike(Learned(b, "neuron", transform="log")))
    x = np.linspace(-0.49, 0.49, 99)
    inputs = {"x": 1.0 + x[None, None], "p.surrogate.temperature": np.full(x.size, b)}
    found = pull(inputs, neuron, {"y": np.ones((1, 1, x.size))})["p.surrogate.temperature"]
    if b > 2e-3:
        rise = (height(Dspike(b + 1e-6), x) - height(Dspike(b - 1e-6), x)) / 2e-6
        np.testing.assert_allclose(found, rise, atol=1e-8)
    else:  # dD/db of the series tanh z = z - z^3 / 3, cubic terms kept
        np.testing.assert_allclose(found, b * x * (0.25 - x * x) / 1.5, rtol=1e-9)


def test_dspike_has_the_numbers_of_the_paper() -> None:
    found = slope(Dspike(1.0), np.array([0.0, 0.5, 0.501]))
    assert found == pytest.approx([1.081977, 0.850918, 0.0], abs=5e-7)
    assert slope(Dspike(4.0), np.array([0.0, 0.5])) == pytest.approx([2.0746, 0.1466], abs=5e-5)
    x = np.linspace(-0.499, 0.499, 57)
    np.testing.assert_allclose(slope(Dspike(1e-3), x), slope(Rectangular(1.0), x), rtol=1e-6)


def test_bellec_form_is_a_scaled_triangle() -> None:
    height_, threshold = 0.3, 0.5
    ratio = slope(Triangular.peak(height_, threshold), POINTS)
    unit = slope(Triangular(threshold), POINTS)
    np.testing.assert_allclose(ratio, height_ * threshold * unit, rtol=1e-15)
