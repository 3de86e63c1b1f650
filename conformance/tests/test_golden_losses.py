"""Golden values of the losses, worked by hand."""

from __future__ import annotations

import math

import numpy as np

from snnx.ops._xp import one_hot
from tests.spec_calls import forward, vjp

# Softmax of the steps: (3/4, 1/4) and (1/4, 3/4); of their mean: (1/2, 1/2).
LOGITS = np.array([[[math.log(3.0), 0.0]], [[0.0, math.log(3.0)]]])
TARGET = np.array([0])


def test_sdt_loss_of_a_pair_worked_by_hand() -> None:
    loss = forward("sdt_loss", logits=LOGITS, target=TARGET)["loss"]
    g = vjp("sdt_loss", [1.0], logits=LOGITS, target=TARGET)["logits"]
    np.testing.assert_allclose(loss, [math.log(2.0)], atol=1e-15)
    np.testing.assert_allclose(g[:, 0], [[-0.25, 0.25], [-0.25, 0.25]], atol=1e-15)


def test_tet_loss_of_a_pair_worked_by_hand() -> None:
    phi, log3 = 1.0, math.log(3.0)
    entropy = (math.log(4.0 / 3.0) + math.log(4.0)) / 2.0
    square = ((log3 - phi) ** 2 + phi**2) / 2.0
    near, far = 2.0 * (log3 - phi) / 4.0, -2.0 * phi / 4.0
    g_entropy = np.array([[-0.125, 0.125], [-0.375, 0.375]])
    g_square = np.array([[near, far], [far, near]])
    for mse in (0.0, 0.05, 1.0):
        a = {"mse": mse, "target_value": phi}
        loss = forward("tet_loss", a, logits=LOGITS, target=TARGET)["loss"]
        g = vjp("tet_loss", [1.0], a, logits=LOGITS, target=TARGET)["logits"]
        np.testing.assert_allclose(loss, [(1 - mse) * entropy + mse * square], atol=1e-15)
        np.testing.assert_allclose(g[:, 0], (1 - mse) * g_entropy + mse * g_square, atol=1e-15)


def test_tet_defaults_are_those_of_the_paper() -> None:
    given = forward("tet_loss", {"mse": 0.05, "target_value": 1.0}, logits=LOGITS, target=TARGET)
    assert forward("tet_loss", logits=LOGITS, target=TARGET)["loss"] == given["loss"]


def test_closed_form_loss_gradients() -> None:
    rng = np.random.default_rng(21)
    steps, batch, classes = 5, 4, 7
    logits, target = rng.standard_normal((steps, batch, classes)), np.array([3, 0, 6, 3])
    g = np.full(batch, 1.0 / batch)  # the objective is the mean over the batch

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x)
        return e / e.sum(-1, keepdims=True)

    hot = np.eye(classes)[target]
    inputs = {"logits": logits, "target": target}
    found = vjp("sdt_loss", g, **inputs)["logits"]
    wanted = (softmax(logits.mean(0)) - hot) / (batch * steps)
    assert np.max(np.abs(found - wanted)) < 1e-12
    found = vjp("tet_loss", g, {"mse": 0.0}, **inputs)["logits"]
    assert np.max(np.abs(found - (softmax(logits) - hot) / (batch * steps))) < 1e-12
    found = vjp("tet_loss", g, {"mse": 1.0}, **inputs)["logits"]
    assert np.max(np.abs(found - 2 * (logits - 1.0) / (batch * steps * classes))) < 1e-12


def test_sdt_is_at_most_tet_and_the_gap_is_that_of_logsumexp() -> None:
    rng = np.random.default_rng(22)
    logits, target = 3.0 * rng.standard_normal((6, 9, 5)), rng.integers(0, 5, 9)
    sdt = forward("sdt_loss", logits=logits, target=target)["loss"]
    tet = forward("tet_loss", {"mse": 0.0}, logits=logits, target=target)["loss"]
    gap = np.log(np.exp(logits).sum(-1)).mean(0) - np.log(np.exp(logits.mean(0)).sum(-1))
    assert np.all(sdt <= tet)
    np.testing.assert_allclose(tet - sdt, gap, atol=1e-13)
    same = np.broadcast_to(logits[:1], logits.shape)  # equality where all steps agree
    sdt = forward("sdt_loss", logits=same, target=target)["loss"]
    tet = forward("tet_loss", {"mse": 0.0}, logits=same, target=target)["loss"]
    np.testing.assert_allclose(sdt, tet, atol=1e-14)


def test_labels_and_steps_are_counted_beyond_what_16_bits_hold() -> None:
    like = np.zeros(1, np.float16)  # whose integers end at 2048
    assert np.flatnonzero(one_hot(np, np.array([2051]), 3000, like)[0]) == [2051]
    logits = np.zeros((2052, 2, 1), np.float16)
    length = np.array([2051, 2052])
    weights = vjp("readout", np.ones((2, 1), np.float16), logits=logits, length=length)["logits"]
    np.testing.assert_array_equal((weights > 0).sum(0)[:, 0], length)


def test_padded_steps_count_nothing() -> None:
    rng = np.random.default_rng(23)
    logits, target, length = rng.standard_normal((5, 2, 3)), np.array([2, 0]), np.array([2, 5])
    other = logits.copy()
    other[2:, 0] = 77.0
    for name, a in (("sdt_loss", {"decay": 0.9}), ("tet_loss", {}), ("rate_mse_loss", {})):
        inputs = {"target": target, "length": length}
        first = forward(name, a, logits=logits, **inputs)["loss"]
        alone = forward(name, a, logits=logits[:2, :1], target=target[:1])["loss"]
        np.testing.assert_array_equal(forward(name, a, logits=other, **inputs)["loss"], first)
        np.testing.assert_allclose(first[:1], alone, rtol=1e-14)
        g = vjp(name, np.ones(2), a, logits=logits, **inputs)["logits"]
        assert not np.any(g[2:, 0])
