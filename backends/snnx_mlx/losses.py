"""The readout and the per-sample losses; padded steps of a sequence count nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

Arrays = Mapping[str, mx.array]
Attributes = Mapping[str, Any]


def _weights(x: mx.array, length: mx.array | None, decay: float) -> mx.array:
    """Return the weights of a mean over the valid steps, [T, N or 1, 1, ...], of sum 1 over T."""
    steps = x.shape[0]
    t = mx.arange(steps, dtype=mx.int32)[:, None]
    last = mx.array([steps - 1]) if length is None else length.astype(mx.int32) - 1
    age = last[None, :] - t
    powers = mx.array([decay**k for k in range(steps)])  # on the host: MLX's power is coarser
    w = mx.where(age >= 0, mx.take(powers, mx.maximum(age, 0)), 0.0)
    w = w / mx.sum(w, axis=0, keepdims=True)
    return w.reshape(*w.shape, *[1] * (x.ndim - 2)).astype(x.dtype)


def _time_mean(x: mx.array, inputs: Arrays, decay: float = 1.0) -> mx.array:
    return mx.sum(_weights(x, inputs.get("length"), decay) * x, axis=0)


def _one_hot(target: mx.array, classes: int, like: mx.array) -> mx.array:
    return (target[:, None] == mx.arange(classes, dtype=target.dtype)).astype(like.dtype)


def _cross_entropy(logits: mx.array, hot: mx.array) -> mx.array:
    """Return logsumexp(logits) - logits[target], the maximum taken out first."""
    shifted = logits - mx.stop_gradient(mx.max(logits, axis=-1, keepdims=True))
    return mx.log(mx.sum(mx.exp(shifted), axis=-1)) - mx.sum(hot * shifted, axis=-1)


def readout(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the mean logits over the valid steps."""
    return {"y": _time_mean(inputs["logits"], inputs, attributes.get("decay", 1.0))}


def sdt_loss(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the cross entropy of the mean logits."""
    mean = _time_mean(inputs["logits"], inputs, attributes.get("decay", 1.0))
    hot = _one_hot(inputs["target"], mean.shape[-1], mean)
    return {"loss": _cross_entropy(mean, hot)}


def tet_loss(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the mean over steps of cross entropy and squared distance from one target value."""
    logits, mse = inputs["logits"], attributes.get("mse", 0.05)
    entropy = _cross_entropy(logits, _one_hot(inputs["target"], logits.shape[-1], logits))
    distance = logits - attributes.get("target_value", 1.0)
    square = mx.mean(distance * distance, axis=-1)
    return {"loss": _time_mean((1.0 - mse) * entropy + mse * square, inputs)}


def rate_mse_loss(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the squared error of the mean output against a high or low rate."""
    mean = _time_mean(inputs["logits"], inputs)
    high, low = attributes.get("high", 1.0), attributes.get("low", 0.0)
    distance = mean - (low + (high - low) * _one_hot(inputs["target"], mean.shape[-1], mean))
    return {"loss": mx.mean(distance * distance, axis=-1)}


def mse_loss(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the squared error of the mean output against target values."""
    distance = _time_mean(inputs["output"], inputs) - inputs["target_values"]
    square = (distance * distance).reshape(distance.shape[0], -1)
    return {"loss": mx.mean(square, axis=-1)}
