"""The current-based LIF neuron against a reverse written by hand and worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snnx import Learned, Triangular
from snnx.clif import CLIF
from snnx.ops.neuron import NEURON

NUMBERS = ("membrane_decay", "synapse_decay", "gain", "threshold")


def learned(**fields) -> CLIF:
    """Return the MedlyDB neuron with every number learned and a wide window."""
    start = CLIF.from_tau()
    numbers = {name: Learned(getattr(start, name)) for name in NUMBERS}
    return CLIF(**numbers, surrogate=Triangular(2.0), **fields)


def values(neuron: CLIF) -> dict[str, float]:
    """Return the numbers of a neuron whose fields are all learned."""
    return {name: getattr(neuron, name).init for name in NUMBERS}


def by_hand(neuron: CLIF, inputs: dict, g: dict) -> tuple[dict, dict]:
    """Return outputs and gradients by the printed recurrences, e and s[t-1] kept apart."""
    n = values(neuron)
    bm, bs, gain, th = (n[name] for name in NUMBERS)
    x = inputs["x"]
    steps = x.shape[0]
    m, w, e, s, u = ([None] * (steps + 1) for _ in range(5))
    m[0], w[0] = inputs["state.m"], inputs["state.w"]
    for t in range(1, steps + 1):
        c = gain * x[t - 1]
        m[t], w[t] = bm * m[t - 1] + c, bs * w[t - 1] + c
        e[t] = inputs["state.e"] if t == 1 else bm * e[t - 1] + th * s[t - 1]
        u[t] = m[t] - w[t] - e[t]
        s[t] = (u[t] >= th).astype(float)
    outputs = {
        "y": np.stack(s[1:]),
        "state.m": m[-1],
        "state.w": w[-1],
        "state.e": bm * e[-1] + th * s[-1],
    }

    found = dict.fromkeys((f"p.{name}" for name in NUMBERS), 0.0)
    found["x"] = np.zeros_like(x)
    gm, gw, ge = g["state.m"] / bm, g["state.w"] / bs, g["state.e"]
    found["p.membrane_decay"] += np.sum(ge * e[-1])
    found["p.threshold"] += np.sum(ge * s[-1])
    for t in range(steps, 0, -1):
        gs = g["y"][t - 1] + (0.0 if neuron.detach_reset else th * ge)
        gu = gs * np.maximum(0.0, 2.0 - np.abs(u[t] - th)) / 4.0
        found["p.threshold"] -= np.sum(gu)
        gm, gw, ge = bm * gm + gu, bs * gw - gu, bm * ge - gu
        found["x"][t - 1] = gain * (gm + gw)
        found["p.gain"] += np.sum((gm + gw) * x[t - 1])
        found["p.membrane_decay"] += np.sum(gm * m[t - 1])
        found["p.synapse_decay"] += np.sum(gw * w[t - 1])
        if t > 1:  # e[t] = bm e[t-1] + th s[t-1]
            found["p.membrane_decay"] += np.sum(ge * e[t - 1])
            found["p.threshold"] += np.sum(ge * s[t - 1])
    return outputs, {**found, "state.m": bm * gm, "state.w": bs * gw, "state.e": ge}


@pytest.mark.parametrize("detach_reset", [False, True])
def test_the_derived_reverse_is_the_one_written_by_hand(detach_reset):
    neuron = learned(detach_reset=detach_reset)
    rng = np.random.default_rng(5)
    inputs = {"x": rng.normal(0.4, 1.0, (7, 3, 4))}
    inputs |= {f"state.{name}": rng.normal(0.0, 0.3, (3, 4)) for name in neuron.states}
    inputs |= {f"p.{name}": np.array(value) for name, value in values(neuron).items()}
    attributes = {"neuron": neuron}
    outputs = NEURON.forward(np, inputs, attributes)
    g = {name: rng.normal(size=outputs[name].shape) for name in ("y", "state.m", "state.w")}
    g["state.e"] = rng.normal(size=(3, 4))
    found = NEURON.vjp(np, inputs, attributes, outputs, g)
    expected, gradients = by_hand(neuron, inputs, g)
    assert 0.1 < expected["y"].mean() < 0.9
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-13, atol=1e-13, err_msg=name)
    for name, value in gradients.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_an_input_moves_the_potential_one_step_later():
    neuron = learned()
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
