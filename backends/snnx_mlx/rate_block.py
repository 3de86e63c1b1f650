"""Products, residual sum and batch norm between DSR layers: see `snnx.ops.rate_block`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx_mlx.arrays import custom_op, first_of, nested_sum
from snnx_mlx.norm import moved
from snnx_mlx.quantize import quantized

NORM = ("norm_weight", "norm_bias", "running_mean", "running_var")
PRODUCT = ("x", "weight", "bias")
SKIP = ("skip", "skip_weight", "skip_bias")
STATIC = ("mode", "eps", "scale", "decay", "covariance", "stride", "padding", "groups", "share")


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


Options = tuple[tuple[str, Any], ...]


@lru_cache(maxsize=256)
def _block(names: tuple[str, ...], options: Options, skip: Options) -> Any:
    """Return the op (*names) -> y, mean, var, and what is kept, which does not grow with T."""
    how = dict(options)
    scale, running = how.get("scale", 1.0), how["mode"] == "running"
    exact = how.get("covariance", True) and not running
    share = None if running else how.get("share")
    branches: list[tuple[str, str, str, Mapping[str, Any]]] = [(*PRODUCT, how)]
    if "skip" in names:
        branches.append((*SKIP, dict(skip)))
    products = [b for b in branches if b[1] in names]

    def forward(*values: mx.array) -> tuple[mx.array, ...]:
        given = dict(zip(names, values, strict=True))
        z = mx.array(0.0)
        for x, weight, bias, own in branches:
            part = given[x]
            if weight in given:
                part = _product(part, given[weight].astype(part.dtype), own)
            z = z + part.astype(mx.float32)
            z = z + given[bias] if bias in given else z
        if share is not None:
            mean, var = share.moments(z)
        else:
            mean = given["running_mean"] if running else _over_space(z)
            centred = z - mean
            var = given["running_var"] if running else _over_space(centred * centred)
        inverse = 1.0 / mx.sqrt(var + how.get("eps", 1e-5))
        xhat = (z - mean) * inverse
        y = scale * given["norm_weight"] * xhat + given["norm_bias"]
        steps, decay = z.shape[0], how.get("decay", 1.0)
        powers = [decay ** (steps - 1 - t) for t in range(steps)]
        w = mx.array([p / sum(powers) for p in powers]).reshape(-1, *[1] * (z.ndim - 1))
        plain = mx.mean(xhat, axis=0)
        kept = [inverse, plain, mx.sum(w * xhat, axis=0)]
        for name, weight, _, own in products:
            x = given[name]
            x_mean = mx.mean(x.astype(mx.float32), axis=0, keepdims=True)
            kept.append(x_mean)
            if exact:
                about = (x - x_mean).astype(x.dtype), given[weight].astype(x.dtype)
                kept.append(_pull(*about, (xhat - plain).astype(x.dtype), own)[1])
        return (first_of(y, kept), mean, var, *kept)

    def backward(values: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        given = dict(zip(names, values, strict=True))
        inverse, plain, weighted = outputs[3:6]
        kept = iter(outputs[6:])
        steps = given["x"].shape[0]
        collapsed = mx.sum(cotangents[0], axis=0)
        factor = scale * given["norm_weight"] * inverse
        g_norm, g_norm_bias = (nested_sum(a, a.ndim - 1) for a in (collapsed * plain, collapsed))
        n = plain.size // plain.shape[-1]
        if share is not None:
            n = share.values(plain[None])
            g_norm, g_norm_bias = share.own(g_norm), share.own(g_norm_bias)
        sums = (g_norm, g_norm_bias) if share is None else share.sums(g_norm, g_norm_bias)
        c = mx.zeros_like(inverse) if running else sums[0] / n
        centred = collapsed if running else collapsed - sums[1] / n
        if share is not None:
            c, centred = share.own(c), share.own(centred)
        into, through = (factor * (centred - r * c) for r in (plain, weighted))
        # the norm of a batch takes a bias away
        g_bias = nested_sum(into, into.ndim - 1) if running else mx.zeros_like(factor)
        found = {
            "norm_weight": scale * g_norm,
            "norm_bias": g_norm_bias,
            "skip": through[None] / steps,
        }
        for name, weight, bias, own in products:
            x_mean, low = next(kept), given[weight]
            found[name] = _pull(x_mean, low, through[None] / steps, own)[0]
            found[weight] = _pull(x_mean, low, into[None], own)[1]
            found[bias] = g_bias
            if exact:
                along = (factor * c / steps).reshape(-1, *[1] * (low.ndim - 1))
                found[weight] = found[weight] - along * next(kept).astype(mx.float32)
        for name in ("x", "skip"):
            if name in given:
                found[name] = mx.broadcast_to(found[name], given[name].shape)
        return tuple(found[n] if n in found else mx.zeros_like(given[n]) for n in names)

    return custom_op(forward, backward)


def rate_block(
    inputs: Mapping[str, mx.array], attributes: Mapping[str, Any]
) -> dict[str, mx.array]:
    """Return y and the running statistics; the product in x's dtype, all else in float32."""
    if attributes.get("copies", 1) != 1:
        raise ValueError("rate_block: statistics per copy are not its own; copies must be 1")
    names = tuple(n for n in (*PRODUCT, *SKIP, *NORM) if n in inputs)
    spikes = ("x", "skip")
    given = {n: inputs[n] if n in spikes else inputs[n].astype(mx.float32) for n in names}
    skip: Mapping[str, Any] = attributes.get("skip", {})
    for name, how in (("weight", attributes), ("skip_weight", skip)):
        if name in given:
            given[name] = quantized(given[name], how.get("bits"))
    options = tuple((n, attributes[n]) for n in STATIC if n in attributes)
    other = tuple((n, skip[n]) for n in STATIC if n in skip)
    y, mean, var, *_ = _block(names, options, other)(*given.values())
    running = [given["running_mean"], given["running_var"]]
    if attributes["mode"] == "batch":
        running = moved(y, mean, var, running, attributes)
    y = y.astype(inputs["x"].dtype)
    return {"y": y, "running_mean": running[0], "running_var": running[1]}
