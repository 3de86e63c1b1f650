"""The checklist's rows on neurons: gradients, C-LIF, counts and conservation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from by_hand import (
    clif_by_hand,
    learned_clif,
    lif_by_autograd,
    recurrent_by_autograd,
    single,
    values,
)
from lanes import Lane, derivatives, equal, every_lane, near

from snnx import IF, LIF
from snnx.clif import CLIF
from snnx.ops._cases import dyadic, generator

pytestmark = pytest.mark.slow


@every_lane
@pytest.mark.parametrize("reset", [0.0, -0.25, "subtract"])
@pytest.mark.parametrize("detach", [False, True])
def test_vjp_of_lif_is_that_of_autograd(lane: Lane, reset: Any, detach: bool) -> None:
    derivatives(lane, lif_by_autograd(reset, detach))


@every_lane
@pytest.mark.parametrize("case", ["clif", "clif-detached", "recurrent"])
def test_vjp_of_clif_and_of_the_recurrent_synapse(lane: Lane, case: str) -> None:
    if case == "recurrent":
        derivatives(lane, recurrent_by_autograd())
    else:
        derivatives(lane, clif_by_hand(case == "clif-detached")[0])


@every_lane
def test_an_input_of_clif_moves_nothing_in_its_own_step(lane: Lane) -> None:
    neuron, steps = learned_clif(), 4
    numbers = {f"p.{k}": single(v) for k, v in values(neuron).items()}
    x = single(generator(31).normal(0.4, 0.5, (steps, 2, 3)))
    for t in range(steps):
        g = np.zeros_like(x)
        g[t] = 1.0
        g_x = lane.vjp("neuron", {"x": x, **numbers}, {"neuron": neuron}, {"y": g})["x"]
        equal(g_x[t:], np.zeros_like(x[t:]))
        assert (t == 0) == (not np.any(g_x))


@every_lane
def test_the_gain_of_clif_is_the_u0_of_its_time_constants(lane: Lane) -> None:
    assert CLIF.from_tau(4.0, 1.0).gain == pytest.approx(2.116535, abs=5e-7)
    out = lane.run("neuron", {"x": np.ones((1, 1, 1))}, {"neuron": CLIF.from_tau(threshold=10.0)})
    for state in ("state.m", "state.w"):  # after one step both are u0 x
        near(out[state], [[2.116535]], lane, "neuron", printed=5e-7)


@every_lane
def test_the_kernel_of_clif_peaks_below_one_on_the_grid_of_3_ms(lane: Lane) -> None:
    neuron = CLIF.from_tau(30.0, 7.5, 3.0, threshold=10.0)  # never fires, so that u = m - w
    x = np.zeros((12, 1, 1))
    x[0] = 1.0
    potential = []
    for steps in range(1, 13):
        out = lane.run("neuron", {"x": x[:steps]}, {"neuron": neuron})
        potential.append(float(out["state.m"][0, 0] - out["state.w"][0, 0]))
    assert potential[0] == 0.0
    near(max(potential), 0.99730, lane, "neuron", printed=5e-6, scale=2.5)
    assert potential.index(max(potential)) == 5  # 15 ms; the continuous peak lies at 13.863 ms


@every_lane
@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_if_under_a_constant_current_counts_in_closed_form(lane: Lane, alpha: float) -> None:
    threshold = 2.0
    current = np.arange(-32, 97) / 32.0
    neuron = IF(reset="subtract", threshold=threshold, fire_fraction=alpha, emit=("threshold", 1.0))
    for steps in (1, 5, 16):
        given = {"neuron": neuron, "steps": steps}
        y = lane.run("neuron", {"x": current[None, None]}, given)["y"]
        count = np.clip(np.floor(steps * current / threshold + 1 - alpha), 0, steps)
        equal(y.sum(0)[0], threshold * count)


@every_lane
@pytest.mark.parametrize("grid", [False, True], ids=["normal", "dyadic"])
def test_if_and_lif_conserve_their_input(lane: Lane, grid: bool) -> None:
    steps, rng = 16, generator(32)
    x = 1.0 + dyadic(rng, (steps, 3, 5), 0.125, 1.5)
    x = x if grid else single(0.5 + rng.standard_normal(x.shape))
    for dt in (None, 0.05, 0.1):
        decay = 1.0 if dt is None else math.exp(-dt)
        unit, gain = (1.0, 1.0) if dt is None else (1 / dt, "1-decay")
        neuron = LIF(
            decay=decay,
            gain=gain,
            reset="subtract",
            threshold=0.75,
            fire_fraction=0.5,
            emit=("threshold", unit),
        )
        out = lane.run("neuron", {"x": x}, {"neuron": neuron})
        w = (decay ** np.arange(steps - 1, -1, -1))[:, None, None]
        total = float(w.sum())
        left = (w * out["y"]).sum(0) / total
        enters = (1.0 if dt is None else (1 - decay) * unit) * (w * x).sum(0) / total
        right = enters - unit * np.asarray(out["state.v"]) / total
        assert np.any(left)
        if grid and dt is None:
            equal(left, right)
        else:  # a LIF's decay lies on no grid
            near(left, right, lane, "neuron", scale=float(np.max(np.abs(out["y"]))))
