"""The checklist's rows on spike representations: quantisation, layer rule, norms by means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from by_hand import (
    single,
    two_ops_of_a_block,
    weighted_sum,
)
from lanes import Lane, equal, every_lane, near

from snnx import DSR
from snnx.ops._cases import dyadic, generator
from snnx.ops.rate_block import RATE_BLOCK

pytestmark = pytest.mark.slow


@every_lane
@pytest.mark.parametrize(
    ("steps", "dt", "best", "least"),
    [
        (20, 0.05, 0.3, 0.0194),
        (15, 0.05, 0.4, 0.0233),
        (10, 0.05, 0.4, 0.0316),
        (5, 0.1, 0.4, 0.061),
    ],
)
def test_quantisation_error_of_lif_is_least_where_the_paper_fires(
    lane: Lane, steps: int, dt: float, best: float, least: float
) -> None:
    threshold, decay = 0.3, math.exp(-dt)
    bound = threshold / dt
    current = single(np.linspace(0.0, bound, 1001))
    w = (decay ** np.arange(steps - 1, -1, -1))[:, None]
    errors = {}
    for alpha in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        neuron = DSR.leaky(threshold, alpha, dt).neuron
        inputs = {"x": current[None, None]}
        if "p.threshold" in neuron.trace().inputs:
            inputs["p.threshold"] = np.array(threshold)
        y = lane.run("neuron", inputs, {"neuron": neuron, "steps": steps})["y"][:, 0]
        errors[alpha] = np.abs((w * y).sum(0) / w.sum() - current).mean() / bound
    assert min(errors, key=lambda alpha: errors[alpha]) == best
    assert errors[best] == pytest.approx(least, abs=2e-4)  # the table has a finer grid of currents


@every_lane
@pytest.mark.parametrize(
    ("steps", "dt", "factor"),
    [(20, 0.05, 1.0818), (15, 0.05, 1.0462), (10, 0.05, 1.0205), (5, 0.1, 1.0199)],
)
def test_the_last_lif_layer_is_too_steep_by_its_factor(
    lane: Lane, steps: int, dt: float, factor: float
) -> None:
    layer = DSR.leaky(0.3, 0.4, dt)
    weighted = {"decay": layer.neuron.decay}
    rate = {"logits": np.zeros((steps, 1, 1))}
    g = lane.vjp("readout", rate, weighted, {"y": np.ones((1, 1))})["logits"]
    inputs = {"x": np.full((steps, 1, 1), 0.5), "p.threshold": np.array(0.3)}
    given = {"neuron": layer.neuron, "kind": "lif", "dt": dt, "tau": 1.0, "kappa": dt}
    g_x = lane.vjp("rate_neuron", inputs, given, {"y": g})["x"]
    near(g_x.sum(), factor, lane, "rate_neuron", "gradient", printed=5e-5, scale=5.0)
    equal(g_x, np.broadcast_to(g_x[:1], g_x.shape))


@every_lane
def test_rule_of_dsr_if_is_the_gradient_of_the_mapping_at_the_actual_rates(lane: Lane) -> None:
    steps, threshold, rng = 8, 1.0, generator(33)
    x = dyadic(rng, (steps, 3, 6), 0.25, 2.0)
    first, second = dyadic(rng, (5, 6), 0.5), dyadic(rng, (4, 5), 0.5)
    layer = DSR.integrate_and_fire(threshold)
    rule = {"neuron": layer.neuron, "kind": "if", "dt": 1.0, "tau": 1.0, "kappa": 1.0}
    th = {"p.threshold": np.array(threshold)}

    i1 = lane.run("linear", {"x": x, "weight": first})["y"]
    o1 = lane.run("rate_neuron", {"x": i1, **th}, rule)["y"]
    i2 = lane.run("linear", {"x": o1, "weight": second})["y"]
    g_rate = dyadic(rng, (3, 4), 0.25, 2.0)
    g_out = {"y": np.broadcast_to(g_rate / steps, i2.shape)}  # the loss sees the mean output
    g2 = lane.vjp("rate_neuron", {"x": i2, **th}, rule, g_out)
    into2 = lane.vjp("linear", {"x": o1, "weight": second}, {}, {"y": g2["x"]})
    g1 = lane.vjp("rate_neuron", {"x": i1, **th}, rule, {"y": into2["x"]})
    into1 = lane.vjp("linear", {"x": x, "weight": first}, {}, {"y": g1["x"]})

    r0, r1 = x.mean(0), o1.mean(0)
    m1, m2 = r0 @ first.T, r1 @ second.T
    inside1, inside2 = ((m >= 0) & (m <= threshold) for m in (m1, m2))
    back2 = inside2 * g_rate
    back1 = inside1 * (back2 @ second)
    equal(into2["weight"], back2.T @ r1)
    equal(g2["p.threshold"], ((m2 > threshold) * g_rate).sum())
    equal(into1["weight"], back1.T @ r0)
    equal(g1["p.threshold"], ((m1 > threshold) * (back2 @ second)).sum())
    for inside in (inside1, inside2):
        assert inside.any()
        assert not inside.all()


@every_lane
@pytest.mark.parametrize("sample", list(RATE_BLOCK.samples()), ids=lambda s: s.name)
def test_means_over_time_give_the_gradients_of_conv_and_norm(lane: Lane, sample: Any) -> None:
    # Exact is the identity, covariance included; a norm divides by a root, so nothing is dyadic.
    inputs = {k: single(v) for k, v in sample.inputs.items()}
    attributes, g = sample.attributes, single(sample.cotangents["y"])
    outputs, wanted = two_ops_of_a_block(lane.run, lane.vjp, inputs, attributes, g)
    for name, value in lane.run(RATE_BLOCK, inputs, attributes).items():
        near(value, outputs[name], lane, "rate_block")
    found = dict(lane.vjp(RATE_BLOCK, inputs, attributes, {"y": g}))
    if not attributes.get("covariance", True):  # another algorithm, not a rounding
        weight = wanted.pop("weight")
        assert np.max(np.abs(found.pop("weight") - weight)) > 0.01 * np.max(np.abs(weight))
    for name in {"x", "skip"} & set(found):
        seen, other = (weighted_sum(g.pop(name), attributes) for g in (found, wanted))
        near(seen, other, lane, "rate_block", "gradient", printed=1e-11)
    for name, value in found.items():
        # the bias before a norm moves nothing: its gradient is a sum that cancels
        near(value, wanted[name], lane, "rate_block", "gradient", 1e-11, float(np.abs(g).max()))
