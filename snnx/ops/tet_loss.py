"""Temporal efficient training loss: the mean over steps of each step's cross entropy, per sample.

    ce[t] = logsumexp(O[t]) - O[t][target]
    loss  = (1 - mse) * mean over t of ce[t]  +  mse * mean over t, k of (O[t, k] - target_value)^2
    g_O[t] = ((1 - mse) * (softmax(O[t]) - onehot(target)) + mse * 2 (O[t] - target_value) / K)
             / length * g_loss

The means run over the valid steps t = 1 .. length. Every class has the same `target_value`.
Attributes: mse (0.05, the paper's lambda), target_value (1.0, the paper's phi).
The objective takes the mean over the global batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import log_softmax, one_hot, step_weights


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return loss [N]."""
    logits, mse = inputs["logits"], attrs.get("mse", 0.05)
    hot = one_hot(xp, inputs["target"], logits.shape[-1], logits)
    entropy = -xp.sum(hot[None, ...] * log_softmax(xp, logits), axis=-1)  # [T N]
    distance = logits - attrs.get("target_value", 1.0)
    square = xp.mean(distance * distance, axis=-1)
    weights = step_weights(xp, logits, inputs.get("length"), 1.0)[:, :, 0]
    return {"loss": xp.sum(weights * ((1.0 - mse) * entropy + mse * square), axis=0)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of logits."""
    logits, mse = inputs["logits"], attrs.get("mse", 0.05)
    classes = logits.shape[-1]
    hot = one_hot(xp, inputs["target"], classes, logits)
    error = xp.exp(log_softmax(xp, logits)) - hot[None, ...]
    distance = logits - attrs.get("target_value", 1.0)
    g = (1.0 - mse) * error + (2.0 * mse / classes) * distance
    weights = step_weights(xp, logits, inputs.get("length"), 1.0)
    return {"logits": weights * g * cotangents["loss"][None, :, None]}


def samples() -> Iterator[Sample]:
    """Yield the pure cross entropy, both of the paper's lambdas, the pure MSE, and lengths."""
    rng = generator(203)
    cases: list[tuple[str, tuple[int, int, int], list[int] | None, dict[str, float], float]] = [
        ("entropy", (5, 4, 7), None, {"mse": 0.0}, 1.0),
        ("cifar", (4, 3, 10), None, {"mse": 0.05}, 1.0),
        ("one-step", (1, 1, 2), None, {"mse": 0.001}, 1.0),
        ("large-logits", (3, 2, 5), None, {"mse": 0.0}, 100.0),
        ("half", (3, 2, 5), None, {"mse": 0.5, "target_value": 0.3}, 1.0),
        ("square", (3, 5, 3), None, {"mse": 1.0}, 1.0),
        ("lengths", (6, 4, 3), [1, 6, 3, 5], {"mse": 0.05}, 2.0),
    ]
    for name, shape, length, attributes, size in cases:
        inputs: dict[str, np.ndarray] = {
            "logits": size * rng.standard_normal(shape),
            "target": rng.integers(0, shape[2], shape[1]),
        }
        if length is not None:
            inputs["length"] = np.array(length)
        yield Sample(name, inputs, attributes, dtypes=("float32",))


TET_LOSS = Op(
    name="tet_loss",
    signature="logits[T N K], target[N], length[N]? -> loss[N]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("logits",),
    source="TET (Deng et al. 2022), the loss L_TOTAL of L_TET and L_MSE",
)
