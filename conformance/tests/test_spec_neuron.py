"""The spec of the neurons against differences, autograd and numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from by_hand import lif_by_autograd, recurrent_by_autograd

from snnx.neurons import IF, LIF, Neuron
from snnx.ops import OPS, Op, Sample
from snnx.ops._cases import dyadic, generator
from snnx.ops._neuron_cases import settle
from snnx.surrogate import (
    Rectangular,
    Sigmoid,
    Surrogate,
)

NEURON = OPS["neuron"]
STEP = 1e-6


def run(inputs: Any, neuron: Neuron, **attributes: Any) -> dict[str, np.ndarray]:
    return NEURON.forward(np, inputs, {"neuron": neuron, **attributes})


def pull(inputs: Any, neuron: Neuron, g: Any, **attributes: Any) -> dict[str, np.ndarray]:
    given = {"neuron": neuron, **attributes}
    return NEURON.vjp(np, inputs, given, run(inputs, neuron, **attributes), g)


def attached(op: Op) -> list[Any]:
    return [
        pytest.param(op, s, id=f"{op.name}-{s.name}")
        for s in op.samples()
        if s.kind == "random" and not getattr(s.attributes["neuron"], "detach_reset", False)
    ]


@pytest.mark.parametrize(("op", "sample"), attached(NEURON) + attached(OPS["recurrent"]))
def test_vjp_is_the_derivative_of_the_smooth_forward(op: Op, sample: Sample) -> None:
    rng = generator(17)
    inputs = {k: np.asarray(v) for k, v in sample.inputs.items() if k not in ("mask", "spike")}
    attributes = {**sample.attributes, "fire": "smooth"}
    settle(op.forward, rng, inputs, attributes, mixed=op.name == "recurrent")
    outputs = op.forward(np, inputs, attributes)
    given = {n: rng.standard_normal(np.shape(y)) for n, y in outputs.items()}
    gradients = op.vjp(np, inputs, attributes, outputs, given)

    def value(name: str, x: np.ndarray) -> float:
        out = op.forward(np, {**inputs, name: x}, attributes)
        return float(sum(np.sum(given[n] * y) for n, y in out.items()))

    assert gradients
    for name, gradient in gradients.items():
        x = inputs[name]
        if name == "p.surrogate.temperature" and np.max(x) < 5e-4:
            continue  # below the series' bound H is its limit; the gradient has a test of its own
        for _ in range(3):
            d = rng.standard_normal(x.shape)
            found = (value(name, x + STEP * d) - value(name, x - STEP * d)) / (2 * STEP)
            scale = 1.0 + float(np.sum(np.abs(gradient * d)))
            assert abs(found - float(np.sum(gradient * d))) <= 3e-6 * scale, name


@pytest.mark.parametrize("reset", [0.0, -0.25, "subtract"])
@pytest.mark.parametrize("detach", [False, True])
def test_vjp_equals_the_autograd_of_a_loop_written_by_hand(reset: Any, detach: bool) -> None:
    case = lif_by_autograd(reset, detach)
    found = pull(case.inputs, case.attributes["neuron"], case.cotangents)
    for name, wanted in case.gradients.items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-12, atol=1e-12, err_msg=name)


def test_recurrent_vjp_equals_autograd() -> None:
    case = recurrent_by_autograd()
    op, outputs = case.op, case.op.forward(np, case.inputs, case.attributes)
    found = op.vjp(np, case.inputs, case.attributes, outputs, case.cotangents)
    for name, wanted in case.gradients.items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-11, atol=1e-12, err_msg=name)


# The dynamics.


def test_a_train_worked_by_hand() -> None:
    x = np.array([0.75, 0.75, 0.75, 0.5])[:, None, None]
    # decay 1/2, threshold 1. hard: u = .75, 1.125 fires -> 0, .75, .875
    hard = run({"x": x}, LIF(), observe=True)
    assert hard["spike"].ravel().tolist() == [0, 1, 0, 0]
    assert (hard["potential"].ravel() + 1).tolist() == [0.75, 1.125, 0.75, 0.875]
    # soft: u = .75, 1.125 fires -> .125, .8125, .90625
    soft = run({"x": x}, LIF(reset="subtract"), observe=True)
    assert (soft["potential"].ravel() + 1).tolist() == [0.75, 1.125, 0.8125, 0.90625]
    # reset to -1/4 and spikes of size 2: v = -.25, u = .625, .8125
    value = run({"x": x}, LIF(reset=-0.25, emit=2.0), observe=True)
    assert value["y"].ravel().tolist() == [0, 2, 0, 0]
    assert (value["potential"].ravel() + 1).tolist() == [0.75, 1.125, 0.625, 0.8125]


@pytest.mark.parametrize(("fire", "spikes"), [(">=", [1, 0, 1]), (">", [0, 1, 0])])
def test_a_neuron_at_threshold_fires_by_its_rule(fire: Any, spikes: list[int]) -> None:
    x = np.array([1.0, 0.75, 1.0])[:, None, None]  # u = 1; .75 or 1.25; 1.375 or 1
    assert run({"x": x}, LIF(fire=fire))["y"].ravel().tolist() == spikes


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 5, 8, 32])
def test_if_under_constant_current_counts_in_closed_form(alpha: float, steps: int) -> None:
    current = np.arange(-8, 20) / 8.0
    neuron = IF(reset="subtract", fire_fraction=alpha)
    out = run({"x": current[None, None]}, neuron, steps=steps)["y"].sum(axis=0)[0]
    wanted = np.clip(np.floor(steps * current + 1 - alpha), 0, steps)
    np.testing.assert_array_equal(out, wanted)


def test_if_conserves_its_input() -> None:
    x, th, steps = 0.3 + generator(5).standard_normal((20, 4, 6)), 0.7, 20
    neuron = IF(reset="subtract", threshold=th, emit=("threshold", 1.0), fire_fraction=0.5)
    out = run({"x": x}, neuron)
    np.testing.assert_allclose(
        out["y"].mean(axis=0), x.mean(axis=0) - out["state.v"] / steps, atol=1e-14
    )


@pytest.mark.parametrize("dt", [0.05, 0.1])
def test_lif_conserves_its_weighted_input(dt: float) -> None:
    steps, th, lam = 20, 0.3, math.exp(-dt)
    x = 0.5 + generator(6).standard_normal((steps, 4, 6))
    emit = ("threshold", 1 / dt)
    neuron = LIF(decay=lam, gain="1-decay", reset="subtract", threshold=th, emit=emit)
    out = run({"x": x}, neuron)
    w = (lam ** np.arange(steps - 1, -1, -1))[:, None, None]
    left = np.sum(w * out["y"], axis=0) / w.sum()
    right = (1 - lam) / dt * np.sum(w * x, axis=0) / w.sum() - out["state.v"] / (dt * w.sum())
    np.testing.assert_allclose(left, right, atol=1e-12)


@pytest.mark.parametrize("surrogate", [Rectangular(1.1), Sigmoid(0.5)], ids=["rect", "sigmoid"])
@pytest.mark.parametrize(("bit", "fire"), [(False, "spike"), (True, "smooth")])
def test_mask_of_zeros_is_spiking_and_of_ones_smooth(
    surrogate: Surrogate, bit: bool, fire: str
) -> None:
    rng = generator(7)
    neuron, x = LIF(surrogate=surrogate, analog=0.5), rng.standard_normal((5, 3, 4))
    g = {"y": rng.standard_normal(x.shape)}
    masked = {"x": x, "mask": np.full(x.shape, bit)}
    ours, theirs = run(masked, neuron, fire="mixed"), run({"x": x}, neuron, fire=fire)
    np.testing.assert_array_equal(ours["y"], theirs["y"])
    mine = pull(masked, neuron, g, fire="mixed")
    np.testing.assert_array_equal(mine["x"], pull({"x": x}, neuron, g, fire=fire)["x"])


def test_two_chunks_are_one_run() -> None:
    rng = generator(8)
    x, g_y, g_v = (rng.standard_normal(s) for s in ((9, 2, 5), (9, 2, 5), (2, 5)))
    neuron = LIF(surrogate=Sigmoid(0.5))
    whole = run({"x": x}, neuron)
    first = run({"x": x[:4]}, neuron)
    second = run({"x": x[4:], "state.v": first["state.v"]}, neuron)
    np.testing.assert_array_equal(np.concatenate([first["y"], second["y"]]), whole["y"])
    np.testing.assert_array_equal(second["state.v"], whole["state.v"])
    g = pull({"x": x}, neuron, {"y": g_y, "state.v": g_v})["x"]
    late = {"x": x[4:], "state.v": first["state.v"]}
    g_late = pull(late, neuron, {"y": g_y[4:], "state.v": g_v})
    early = {"y": g_y[:4], "state.v": g_late["state.v"]}
    g_early = pull({"x": x[:4]}, neuron, early)
    np.testing.assert_array_equal(np.concatenate([g_early["x"], g_late["x"]]), g)


def test_shorter_run_is_the_beginning_of_a_longer_one() -> None:
    x = generator(9).standard_normal((8, 2, 3))
    for neuron in (LIF(), IF(reset="subtract")):
        short, long = run({"x": x[:3]}, neuron)["y"], run({"x": x}, neuron)["y"]
        np.testing.assert_array_equal(short, long[:3])


def test_static_input_is_the_same_input_at_every_step() -> None:
    x = dyadic(generator(10), (1, 3, 4), 0.25, 1.5)
    neuron, g = LIF(), {"y": dyadic(generator(11), (5, 3, 4))}
    repeated = np.repeat(x, 5, axis=0)
    ours, theirs = run({"x": x}, neuron, steps=5), run({"x": repeated}, neuron)
    np.testing.assert_array_equal(ours["y"], theirs["y"])
    found = pull({"x": x}, neuron, g, steps=5)["x"]
    np.testing.assert_array_equal(found[0], pull({"x": repeated}, neuron, g)["x"].sum(axis=0))


def test_detaching_removes_the_reset_term_from_the_gradient() -> None:
    """Two steps, hard reset: dv/du is 1 - s - u h attached and 1 - s detached (ASGL Eq. 6)."""
    u, decay, w = 0.75, 0.5, 2.0
    x = np.array([u, 0.0])[:, None, None]
    g = {"y": np.zeros((2, 1, 1)), "state.v": np.ones((1, 1))}
    h = 1 / w
    second = decay * u  # u[2], which does not fire; its own v passes 1 - u h too
    for detach, kept in ((False, (1 - u * h) * (1 - second * h)), (True, 1.0)):
        neuron = LIF(detach_reset=detach, surrogate=Rectangular(w))
        assert pull({"x": x}, neuron, g)["x"][0, 0, 0] == pytest.approx(decay * kept)
