"""Batch norm from the spec (`snnx.ops.batch_norm`), not `mlx.nn.BatchNorm`.

Statistics and arithmetic are float32 whatever the input is. Sums are nested per axis: MLX on CPU
adds in one accumulator and would lose digits over T, N, H, W at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx_mlx.arrays import custom_op, nested_sum
from snnx_mlx.ranks import Share


def _mean(x: mx.array) -> mx.array:
    """Return the mean over all but the copies' axis and the channels: [1, copies, 1, ..., C]."""
    total = x
    for axis in (*reversed(range(2, x.ndim - 1)), 0):
        total = mx.sum(total, axis=axis, keepdims=True)
    return total / (x.size // (x.shape[1] * x.shape[-1]))


@lru_cache(maxsize=64)
def _normalise(eps: float, scale: float, copies: int) -> Any:
    """Return the op (x, weight, bias) -> (y, mean, var, inverse) on this batch's statistics."""

    def split(x: mx.array) -> mx.array:
        return x.reshape(x.shape[0], copies, -1, *x.shape[2:]).astype(mx.float32)

    def forward(x: mx.array, weight: mx.array, bias: mx.array) -> tuple[mx.array, ...]:
        wide = split(x)
        mean = _mean(wide)
        centred = wide - mean
        var = _mean(centred * centred)
        inverse = 1.0 / mx.sqrt(var + eps)
        y = scale * weight * (centred * inverse) + bias
        return y.reshape(x.shape).astype(x.dtype), mean, var, inverse

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, weight, _ = inputs
        _, mean, _, inverse = outputs
        xhat = (split(x) - mean) * inverse
        g = split(cotangents[0])
        mean_g, mean_gx = _mean(g), _mean(g * xhat)
        g_x = scale * weight * inverse * (g - mean_g - xhat * mean_gx)
        count = x.size // (copies * x.shape[-1])
        total = [nested_sum(m * count, m.ndim - 1) for m in (mean_gx, mean_g)]
        return g_x.reshape(x.shape), scale * total[0], total[1]

    return custom_op(forward, backward)


@lru_cache(maxsize=64)
def _synchronised(eps: float, scale: float, share: Share) -> Any:
    """Return the op (x, weight, bias) -> (y, mean, var, inverse), statistics of the whole batch.

    The gradients of weight and bias are this process' part of a sum, like those of other weights.
    """

    def forward(x: mx.array, weight: mx.array, bias: mx.array) -> tuple[mx.array, ...]:
        wide = x.astype(mx.float32)
        mean, var = share.moments(wide)
        inverse = 1.0 / mx.sqrt(var + eps)
        y = scale * weight * ((wide - mean) * inverse) + bias
        return y.astype(x.dtype), mean, var, inverse

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, weight, _ = inputs
        _, mean, _, inverse = outputs
        xhat = (x.astype(mx.float32) - mean) * inverse
        g = cotangents[0].astype(mx.float32)
        g_bias, g_xhat = (share.own(nested_sum(a, a.ndim - 1)) for a in (g, g * xhat))
        n = share.values(x)
        mean_g, mean_gx = (total / n for total in share.sums(g_bias, g_xhat))
        g_x = share.own(scale * weight * inverse * (g - mean_g - xhat * mean_gx))
        return g_x, scale * g_xhat, g_bias

    return custom_op(forward, backward)


@lru_cache(maxsize=64)
def _affine(eps: float, scale: float) -> Any:
    """Return the op (x, weight, bias, mean, var) -> y on given statistics, which are constants."""

    def forward(
        x: mx.array, weight: mx.array, bias: mx.array, mean: mx.array, var: mx.array
    ) -> tuple[mx.array, ...]:
        inverse = 1.0 / mx.sqrt(var + eps)
        y = scale * weight * ((x.astype(mx.float32) - mean) * inverse) + bias
        return (y.astype(x.dtype),)

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, weight, _, mean, var = inputs
        inverse = 1.0 / mx.sqrt(var + eps)
        g = cotangents[0].astype(mx.float32)
        xhat = (x.astype(mx.float32) - mean) * inverse
        g_weight = scale * nested_sum(g * xhat, g.ndim - 1)
        g_bias = nested_sum(g, g.ndim - 1)
        zeros = (mx.zeros_like(mean), mx.zeros_like(var))
        return (scale * weight * inverse * g, g_weight, g_bias, *zeros)

    return custom_op(forward, backward)


def batch_norm(
    inputs: Mapping[str, mx.array], attributes: Mapping[str, Any]
) -> dict[str, mx.array]:
    """Return y and the running statistics after this batch."""
    x, mode, copies = inputs["x"], attributes["mode"], attributes.get("copies", 1)
    eps, scale = attributes.get("eps", 1e-5), attributes.get("scale", 1.0)
    if mode not in ("batch", "frozen_batch", "running"):
        raise ValueError(f"batch_norm: mode {mode!r} is none of batch, frozen_batch, running")
    if x.shape[1] % copies:
        raise ValueError(f"batch_norm: {copies} copies do not divide the batch axis {x.shape[1]}")
    weight, bias = (inputs[n].astype(mx.float32) for n in ("weight", "bias"))
    running = [inputs[n].astype(mx.float32) for n in ("running_mean", "running_var")]
    if mode == "running":
        (y,) = _affine(eps, scale)(x, weight, bias, *running)
    else:
        share = attributes.get("share")
        own = _normalise(eps, scale, copies) if share is None else _synchronised(eps, scale, share)
        y, mean, var, _ = own(x, weight, bias)
        if mode == "batch" and copies == 1:
            running = moved(x, mean, var, running, attributes)
    return {"y": y, "running_mean": running[0], "running_var": running[1]}


def moved(
    x: mx.array, mean: mx.array, var: mx.array, running: list[mx.array], attrs: Mapping[str, Any]
) -> list[mx.array]:
    """Return the running statistics after this batch: the variance unbiased, without gradient."""
    share = attrs.get("share")
    count = math.prod(x.shape[:-1]) if share is None else share.values(x)
    count *= attrs.get("repeat", 1)
    if count == 1:
        raise ValueError(
            "batch_norm: one value per channel has no unbiased variance; give more samples or "
            'steps, or use mode "running"'
        )
    momentum = attrs.get("momentum", 0.1)
    unbiased = var * (count / (count - 1))
    new = [mx.stop_gradient(a).reshape(x.shape[-1]) for a in (mean, unbiased)]
    return [(1 - momentum) * old + momentum * a for old, a in zip(running, new, strict=True)]
