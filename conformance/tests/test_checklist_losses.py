"""The checklist's rows on losses and on folding a norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from by_hand import (
    single,
)
from lanes import PRINTED, Lane, equal, every_lane, near

from snnx.ops._cases import dyadic, generator
from snnx.ops.batch_norm import fold

pytestmark = pytest.mark.slow


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@every_lane
def test_sdt_is_at_most_tet_by_the_gap_of_logsumexp(lane: Lane) -> None:
    rng = generator(34)
    logits, target = single(3.0 * rng.standard_normal((6, 9, 5))), rng.integers(0, 5, 9)
    sdt, tet = losses(lane, logits, target)
    assert np.all(sdt <= tet)
    gap = np.log(np.exp(logits).sum(-1)).mean(0) - np.log(np.exp(logits.mean(0)).sum(-1))
    near(tet - sdt, gap, lane, "tet_loss", scale=float(tet.max()))
    same = np.broadcast_to(dyadic(rng, (1, 9, 5), 0.25, 2.0), (4, 9, 5))
    equal(*losses(lane, same, target))  # equal where all steps agree


def losses(lane: Lane, logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inputs = {"logits": logits, "target": target}
    sdt = lane.run("sdt_loss", inputs, {"decay": 1.0})["loss"]
    return sdt, lane.run("tet_loss", inputs, {"mse": 0.0})["loss"]


@every_lane
def test_gradients_of_tet_sdt_and_mse_have_their_closed_forms(lane: Lane) -> None:
    steps, batch, classes, rng = 5, 4, 7, generator(35)
    logits = single(rng.standard_normal((steps, batch, classes)))
    target = np.array([3, 0, 6, 3])
    hot, inputs = np.eye(classes)[target], {"logits": logits, "target": target}
    g = {"loss": np.full(batch, 1.0 / batch)}  # the objective is the mean over the batch

    def found(op: str, **attributes: Any) -> np.ndarray:
        return lane.vjp(op, inputs, attributes, g)["logits"]

    sdt = (softmax(logits.mean(0)) - hot) / (batch * steps)
    sdt = np.broadcast_to(sdt, logits.shape)
    near(found("sdt_loss", decay=1.0), sdt, lane, "sdt_loss", "gradient")
    tet = (softmax(logits) - hot) / (batch * steps)
    mse = 2 * (logits - 1.0) / (batch * steps * classes)
    for share in (0.0, 0.05, 1.0):
        total = (1 - share) * tet + share * mse
        near(found("tet_loss", mse=share, target_value=1.0), total, lane, "tet_loss", "gradient")


@every_lane
@pytest.mark.parametrize("bias", [True, False])
def test_folded_convolution_is_convolution_and_running_norm(lane: Lane, bias: bool) -> None:
    rng = generator(36)
    x, weight = single(rng.standard_normal((2, 3, 5, 5, 3))), single(rng.normal(size=(4, 3, 3, 3)))
    b, gamma, beta, mean = (single(rng.standard_normal(4)) for _ in range(4))
    var = single(rng.uniform(0.5, 2.0, 4))
    conv = {"stride": 1, "padding": 1, "groups": 1}
    given = {"bias": b} if bias else {}
    y = lane.run("conv2d", {"x": x, "weight": weight, **given}, conv)["y"]
    norm = {"mode": "running", "scale": 0.5, "eps": 1e-3}
    after = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
    wanted = lane.run("batch_norm", {"x": y, **after}, norm)["y"]
    folded, shift = fold(weight, b if bias else None, gamma, beta, mean, var, 1e-3, 0.5)
    found = lane.run("conv2d", {"x": x, "weight": folded, "bias": shift}, conv)["y"]
    # printed for float32, whose table allows one op 2e-6; here are two
    bound = PRINTED if lane.double else 1e-5
    assert np.max(np.abs(found - wanted)) < bound * max(1.0, np.max(np.abs(wanted)))
