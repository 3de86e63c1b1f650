"""Convolution or linear map and batch norm between two DSR layers: see `snnx.ops.rate_block`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx_mlx.arrays import custom_op, nested_sum
from snnx_mlx.norm import moved
from snnx_mlx.quantize import quantized

NAMES = ("x", "weight", "bias", "norm_weight", "norm_bias", "running_mean", "running_var")
STATIC = ("mode", "eps", "scale", "decay", "covariance", "stride", "padding", "groups")


def _product(x: mx.array, weight: mx.array, how: Mapping[str, Any]) -> mx.array:
    if weight.ndim == 2:
        return mx.matmul(x, weight.T)
    stride, padding, groups = how.get("stride", 1), how.get("padding", 0), how.get("groups", 1)
    y = mx.conv2d(x.reshape(-1, *x.shape[-3:]), weight, stride, padding, groups=groups)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def _pull(
    x: mx.array, weight: mx.array, g: mx.array, how: Mapping[str, Any]
) -> tuple[mx.array, mx.array]:
    """Return the product's gradients of x and weight; what is not used is not computed."""
    _, (g_x, g_weight) = mx.vjp(lambda a, w: [_product(a, w, how)], [x, weight], [g])
    return g_x, g_weight


def _over_space(x: mx.array) -> mx.array:
    """Return the mean over all axes but the channels."""
    return nested_sum(x, x.ndim - 1) / (x.size // x.shape[-1])


@lru_cache(maxsize=256)
def _block(names: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> Any:
    """Return the op (*names) -> y, mean, var, and what is kept, which does not grow with T."""
    how = dict(options)
    scale, running = how.get("scale", 1.0), how["mode"] == "running"
    exact = how.get("covariance", True) and not running

    def forward(*values: mx.array) -> tuple[mx.array, ...]:
        given = dict(zip(names, values, strict=True))
        x, weight = given["x"], given["weight"]
        low = weight.astype(x.dtype)
        z = _product(x, low, how).astype(mx.float32)
        z = z + given["bias"] if "bias" in given else z
        mean = given["running_mean"] if running else _over_space(z)
        centred = z - mean
        var = given["running_var"] if running else _over_space(centred * centred)
        inverse = 1.0 / mx.sqrt(var + how.get("eps", 1e-5))
        xhat = centred * inverse
        y = scale * given["norm_weight"] * xhat + given["norm_bias"]
        steps, decay = x.shape[0], how.get("decay", 1.0)
        powers = [decay ** (steps - 1 - t) for t in range(steps)]
        w = mx.array([p / sum(powers) for p in powers]).reshape(-1, *[1] * (z.ndim - 1))
        plain = mx.mean(xhat, axis=0)
        x_mean = mx.mean(x.astype(mx.float32), axis=0, keepdims=True)
        kept = [inverse, plain, mx.sum(w * xhat, axis=0), x_mean]
        if exact:
            about = (x - x_mean).astype(x.dtype), low, (xhat - plain).astype(x.dtype)
            kept.append(_pull(*about, how)[1].astype(mx.float32))
        return (y, mean, var, *kept)

    def backward(values: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        given = dict(zip(names, values, strict=True))
        inverse, plain, weighted, x_mean = outputs[3:7]
        steps, weight = given["x"].shape[0], given["weight"]
        collapsed = mx.sum(cotangents[0], axis=0)
        factor = scale * given["norm_weight"] * inverse
        c = mx.zeros_like(inverse) if running else _over_space(collapsed * plain)
        centred = collapsed if running else collapsed - _over_space(collapsed)
        into, through = (factor * (centred - r * c) for r in (plain, weighted))
        g_x = _pull(x_mean, weight, through[None] / steps, how)[0]
        g_weight = _pull(x_mean, weight, into[None], how)[1]
        if exact:
            along = (factor * c / steps).reshape(-1, *[1] * (weight.ndim - 1))
            g_weight = g_weight - along * outputs[7]
        found = {
            "x": mx.broadcast_to(g_x, given["x"].shape),
            "weight": g_weight,
            # the norm of a batch takes a bias away
            "bias": nested_sum(into, into.ndim - 1) if running else mx.zeros_like(factor),
            "norm_weight": scale * nested_sum(collapsed * plain, plain.ndim - 1),
            "norm_bias": nested_sum(collapsed, plain.ndim - 1),
        }
        return tuple(found[n] if n in found else mx.zeros_like(given[n]) for n in names)

    return custom_op(forward, backward)


def rate_block(
    inputs: Mapping[str, mx.array], attributes: Mapping[str, Any]
) -> dict[str, mx.array]:
    """Return y and the running statistics; the product in x's dtype, all else in float32."""
    if attributes.get("copies", 1) != 1:
        raise ValueError("rate_block: statistics per copy are not its own; copies must be 1")
    names = tuple(n for n in NAMES if n in inputs)
    given = {n: inputs[n] if n == "x" else inputs[n].astype(mx.float32) for n in names}
    given["weight"] = quantized(given["weight"], attributes.get("bits"))
    options = tuple((n, attributes[n]) for n in STATIC if n in attributes)
    y, mean, var, *_ = _block(names, options)(*given.values())
    running = [given["running_mean"], given["running_var"]]
    if attributes["mode"] == "batch":
        running = moved(y, mean, var, running, attributes)
    y = y.astype(inputs["x"].dtype)
    return {"y": y, "running_mean": running[0], "running_var": running[1]}
