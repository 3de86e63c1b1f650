"""The checklist's rows on whole networks: a shorter run, and the ends of ASGL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import test_asgl as asgl
from by_hand import (
    single,
)
from lanes import PRINTED, Lane, dyadic_session, equal, every_lane

from snnx import IF, LIF
from snnx.clif import CLIF
from snnx.mode import EVAL, Mode
from snnx.ops._cases import dyadic, generator
from snnx.ops.levels import NETWORK

pytestmark = pytest.mark.slow


@every_lane
def test_a_shorter_run_is_the_beginning_of_a_longer_one(lane: Lane) -> None:
    rng = generator(39)
    x = single(rng.standard_normal((8, 2, 3)))
    for neuron in (LIF(), IF(reset="subtract"), CLIF.from_tau()):  # a neuron: any numbers
        short, long = (lane.run("neuron", {"x": v}, {"neuron": neuron})["y"] for v in (x[:3], x))
        equal(short, long[:3])
    x = dyadic(rng, (6, 5, 8), 0.25, 1.0).astype(np.float32)
    session, taps = dyadic_session(lane), ["2.spike", "4.spike"]  # a network: on a grid
    runs = [session.forward(batch_of(v), {}, EVAL, taps) for v in (x[:4], x)]
    equal(runs[0].y, runs[1].y[:4])
    assert np.any(runs[0].taps["4.spike"])
    for tap in taps:
        equal(runs[0].taps[tap], runs[1].taps[tap][:4])
    # Off the grid a product may round otherwise in a batch of other size, and a spike then flips;
    # with the spikes imposed, what is left is rounding.
    session = lane.session(asgl.NET)
    x = single(rng.uniform(0.0, 4.0, (6, 5, 3, 3, 2))).astype(np.float32)
    whole = session.forward(batch_of(x), {}, EVAL, ["2.spike", "5.spike"])
    spikes = {tap.removesuffix(".spike"): v[:4] for tap, v in whole.taps.items()}
    part = session.forward(batch_of(x[:4]), {}, EVAL, impose=spikes)
    error = np.max(np.abs(part.y - whole.y[:4])) / np.max(np.abs(whole.y))
    assert error <= (PRINTED if lane.double else NETWORK.forward)
    assert all(np.any(v) for v in spikes.values())


def batch_of(x: np.ndarray) -> Any:
    n = x.shape[1]
    return {"x": x, "y": np.arange(n) % 3, "index": np.arange(n)}


@every_lane
def test_asgl_ends_are_plain_and_smooth_and_it_is_evaluated_with_spikes(lane: Lane) -> None:
    precision = "fp64" if lane.double else "fp32"
    data, taps = asgl.batch(), ["2.spike", "5.spike"]
    plain = asgl.session_of(asgl.NET, lane.name, precision=precision)
    fixed = asgl.session_of(asgl.rewritten(p=0.5, learned=False), lane.name, precision=precision)
    learned = asgl.session_of(asgl.rewritten(p=0.2), lane.name, precision=precision)

    # p = 1 and a fixed width: plain surrogate gradient
    loss, wanted = plain.grads(data, {}, Mode("spike", "batch", True, "train"))
    again, found = fixed.grads(data, {"analog": 0.0}, asgl.TRAIN)
    assert again == loss
    asgl.same(found, wanted)
    # p = 0: the smooth network
    loss, wanted = learned.grads(data, {}, Mode("smooth", "batch", True, "train"))
    again, found = learned.grads(data, {"analog": 1.0}, asgl.TRAIN)
    assert again == loss
    asgl.same(found, wanted)
    # evaluation: Theta, whatever the share
    wanted = plain.forward(data, {}, EVAL, taps)
    found = learned.forward(data, {"analog": 0.8}, EVAL, taps)
    asgl.same(found.taps, wanted.taps)
    equal(found.y, wanted.y)
    assert set(np.unique(found.taps["2.spike"])) == {0.0, 1.0}
