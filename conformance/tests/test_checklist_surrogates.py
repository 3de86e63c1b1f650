"""The checklist's rows on surrogates, seen through one step of a neuron: y = H(x)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from by_hand import (
    single,
)
from lanes import Lane, equal, every_lane, near

from snnx import LIF, Dspike, Learned, Rectangular, Sigmoid, Tanh, Triangular

pytestmark = pytest.mark.slow


def slope(lane: Lane, surrogate: Any, x: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    neuron = LIF(threshold=threshold, surrogate=surrogate)
    inputs = {"x": threshold + x[None, None]}
    g = {"y": np.ones((1, 1, x.size))}
    return lane.vjp("neuron", inputs, {"neuron": neuron}, g)["x"][0, 0]


AREAS = [
    (Rectangular(0.8), 2.0),
    (Triangular(1.5), 2.0),
    (Sigmoid(0.3), 10.0),
    (Tanh(0.7), 10.0),
    (Dspike(1.0), 0.5),
    (Dspike(4.0), 0.5),
    (Dspike(1e-4), 0.5),
    (Dspike(60.0), 0.5),
]
WIDE = (Rectangular, Triangular, Sigmoid, Tanh)


@every_lane
def test_areas_and_width_gradients_of_the_surrogates(lane: Lane) -> None:
    points = 20_000  # edges of the windows lie between the midpoints
    for surrogate, reach in AREAS:
        x = (np.arange(points) + 0.5) / points * 2 * reach - reach
        area = slope(lane, surrogate, x).sum() * 2 * reach / points
        near(area, 1.0, lane, "neuron", "gradient", printed=2e-8)  # of the midpoint rule
    # On a grid, and with a width that is a power of two, x / w rounds nothing.
    x = np.arange(-60, 61) / 32.0
    for kind in WIDE:
        for width in (0.5, 2.0):
            neuron = LIF(surrogate=kind(Learned(width, "neuron", transform="log")))
            inputs = {"x": 1.0 + x[None, None], "p.surrogate.width": np.full(x.size, width)}
            g = {"y": np.ones((1, 1, x.size))}
            found = lane.vjp("neuron", inputs, {"neuron": neuron}, g)
            wanted = -(x / width) * found["x"][0, 0]  # one product, rounded once
            equal(found["p.surrogate.width"], wanted if lane.double else single(wanted))
            assert np.any(found["p.surrogate.width"])


@every_lane
def test_dspike_has_its_peak_and_edge(lane: Lane) -> None:
    found = slope(lane, Dspike(1.0), np.array([0.0, 0.5, 0.5078125]), 0.5)
    near(found, [1.081977, 0.850918, 0.0], lane, "neuron", "gradient", printed=5e-7)


@every_lane
def test_cool_dspike_is_the_rectangle(lane: Lane) -> None:
    x = np.arange(-40, 41) / 64.0
    rectangle = slope(lane, Rectangular(1.0), x, 0.5)
    equal(slope(lane, Dspike(1e-4), x, 0.5), rectangle)
    near(slope(lane, Dspike(1e-3), x, 0.5), rectangle, lane, "neuron", "gradient", printed=1e-6)


@every_lane
def test_bellec_form_is_a_scaled_triangle(lane: Lane) -> None:
    x, height, threshold = np.arange(-40, 41) / 64.0, 0.25, 0.5
    peak = slope(lane, Triangular.peak(height, threshold), x, threshold)
    equal(peak, height * threshold * slope(lane, Triangular(threshold), x, threshold))
    assert peak.max() == height
