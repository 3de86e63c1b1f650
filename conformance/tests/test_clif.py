"""The current-based LIF neuron against a reverse written by hand and worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from by_hand import clif_by_hand, learned_clif, values

from snnx.clif import CLIF
from snnx.ops.neuron import NEURON


@pytest.mark.parametrize("detach_reset", [False, True])
def test_the_derived_reverse_is_the_one_written_by_hand(detach_reset):
    case, expected = clif_by_hand(detach_reset)
    outputs = NEURON.forward(np, case.inputs, case.attributes)
    found = NEURON.vjp(np, case.inputs, case.attributes, outputs, case.cotangents)
    assert 0.1 < expected["y"].mean() < 0.9
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-13, atol=1e-13, err_msg=name)
    for name, value in case.gradients.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_an_input_moves_the_potential_one_step_later():
    neuron = learned_clif()
    x = np.zeros((3, 1, 1))
    inputs = {"x": x, **{f"state.{n}": np.zeros((1, 1)) for n in neuron.states}}
    inputs |= {f"p.{name}": np.array(value) for name, value in values(neuron).items()}
    outputs = NEURON.forward(np, inputs, {"neuron": neuron})
    g = {k: np.zeros_like(v) for k, v in outputs.items()}
    g["y"] = np.array([0.0, 0.0, 1.0]).reshape(3, 1, 1)
    g_x = NEURON.vjp(np, inputs, {"neuron": neuron}, outputs, g)["x"]
    assert g_x[2] == 0.0
    assert g_x[0] > g_x[1] > 0.0


def test_the_constants_are_those_of_the_baseline():
    neuron = CLIF.from_tau(30.0, 7.5, 3.0)
    assert neuron == CLIF.from_tau()
    assert neuron.gain == pytest.approx(2.116535, abs=5e-7)
    assert neuron.membrane_decay == pytest.approx(0.904837, abs=5e-7)
    assert neuron.synapse_decay == pytest.approx(0.670320, abs=5e-7)


def test_the_kernel_peaks_just_below_one_on_the_grid_of_3_ms():
    neuron = CLIF.from_tau(30.0, 7.5, 3.0, threshold=10.0)
    x = np.zeros((20, 1, 1))
    x[0] = 1.0
    inputs = {"x": x, **{f"state.{n}": np.zeros((1, 1)) for n in neuron.states}}
    out = NEURON.forward(np, inputs, {"neuron": neuron, "observe": True})
    potential = out["potential"][:, 0, 0] + 10.0
    assert potential[0] == 0.0
    assert potential.max() == pytest.approx(0.99730, abs=5e-6)
    assert math.log(4.0) * 10.0 == pytest.approx(13.863, abs=5e-4)  # where the peak would lie
    assert abs(3.0 * potential.argmax() - 13.863) < 3.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CLIF.from_tau(7.5, 7.5, 3.0), ValueError, "tau_m > tau_s"),
        (lambda: CLIF.from_tau(30.0, 7.5, 0.0), ValueError, "dt"),
        (lambda: CLIF.from_tau(float("inf"), 7.5, 3.0), ValueError, "finite"),
        (
            lambda: CLIF(membrane_decay=1.5, synapse_decay=0.5, gain=1.0),
            ValueError,
            "membrane_decay",
        ),
        (lambda: CLIF(membrane_decay=0.9, synapse_decay=0.5, gain=0.0), ValueError, "gain"),
        (lambda: CLIF.from_tau(threshold="1"), TypeError, "threshold"),
    ],
)
def test_a_wrong_number_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
