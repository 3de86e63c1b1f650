"""Batch normalisation per channel over time, batch and space; tdBN with `scale`.

    n     = T * N * prod(S) values of a channel
    mu    = mean(x),  var = mean((x - mu)^2)          (biased)
    xhat  = (x - mu) / sqrt(var + eps)
    y     = scale * weight * xhat + bias              scale = alpha * v_th in tdBN
    running_mean' = (1 - momentum) * running_mean + momentum * mu
    running_var'  = (1 - momentum) * running_var  + momentum * var * m / (m - 1),   m = n * repeat

    g_x      = scale * weight / sqrt(var + eps) * (g - mean(g) - xhat * mean(g * xhat))
    g_weight = scale * sum(g * xhat);   g_bias = sum(g)

Attributes:
  mode      "batch" (as above); "frozen_batch": the batch's statistics normalise, the running ones
            stay as they are; "running": the running statistics normalise and are constants, so
            that g_x = scale * weight / sqrt(running_var + eps) * g
  momentum  0.1, the weight of the new value
  eps       1e-5
  scale     1.0
  repeat    1; a static input is stored once and stands for `repeat` equal steps: mean and biased
            variance are those of one, and only the factor m / (m - 1) knows of the others
  copies    1; the axis N is [copies * N'], copy after copy, and each copy has its own statistics.
            Running statistics are defined for one copy only and otherwise stay as they are

The running statistics pass no gradient.
Raises: ValueError where mode is "batch", copies is 1 and m is 1, since m / (m - 1) is not defined.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample

MODES = ("batch", "frozen_batch", "running")


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y and the running statistics after this batch."""
    weight = attrs.get("scale", 1.0) * inputs["weight"]
    xhat, _, mean, var = normalised(xp, inputs, attrs)
    x, running_mean, running_var = inputs["x"], inputs["running_mean"], inputs["running_var"]
    if attrs["mode"] == "batch" and attrs.get("copies", 1) == 1:
        momentum, count = attrs.get("momentum", 0.1), _count(x, attrs)
        if count == 1:
            raise ValueError(
                "batch_norm: one value per channel has no unbiased variance; give more samples or "
                'steps, or use mode "running"'
            )
        mean = xp.reshape(mean, (x.shape[-1],))
        unbiased = xp.reshape(var, (x.shape[-1],)) * (count / (count - 1))
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * unbiased
    y = xp.reshape(weight * xhat + inputs["bias"], tuple(x.shape))
    return {"y": y, "running_mean": running_mean, "running_var": running_var}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of x, weight and bias."""
    scale, x = attrs.get("scale", 1.0), inputs["x"]
    xhat, inverse, _, _ = normalised(xp, inputs, attrs)
    g = xp.reshape(cotangents["y"], tuple(xhat.shape))
    g_xhat = g * xhat
    inner = g
    if attrs["mode"] != "running":
        mean = xp.mean(g, axis=(0, 2), keepdims=True)
        inner = g - mean - xhat * xp.mean(g_xhat, axis=(0, 2), keepdims=True)
    return {
        "x": xp.reshape(scale * inputs["weight"] * inverse * inner, tuple(x.shape)),
        "weight": scale * xp.sum(g_xhat, axis=(0, 1, 2)),
        "bias": xp.sum(g, axis=(0, 1, 2)),
    }


def fold(
    weight: Array,
    bias: Array | None,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    eps: float = 1e-5,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    """Return weight and bias of the convolution or linear map that contains its running-mode norm.

        factor = scale * gamma / sqrt(var + eps)
        weight' = weight * factor (along the first axis);  bias' = beta + (bias - mean) * factor

    Source: TET Eq. 6 generalised (methods.md 8.1).
    """
    factor = scale * gamma / (var + eps) ** 0.5
    along = factor[(slice(None), *(None,) * (weight.ndim - 1))]
    return weight * along, beta + ((0.0 - mean) if bias is None else (bias - mean)) * factor


def normalised(xp: Any, inputs: Arrays, attrs: Attributes) -> tuple[Array, Array, Array, Array]:
    """Return xhat [T, copies, rest, C], 1 / sqrt(var + eps), mean and variance."""
    mode, copies = attrs["mode"], attrs.get("copies", 1)
    if mode not in MODES:
        raise ValueError(f"batch_norm: mode {mode!r} is not one of {MODES}")
    x = inputs["x"]
    if x.shape[1] % copies:
        raise ValueError(f"batch_norm: {copies} copies do not divide the batch axis {x.shape[1]}")
    x = xp.reshape(x, (x.shape[0], copies, -1, x.shape[-1]))
    if mode == "running":
        mean, var = inputs["running_mean"], inputs["running_var"]
        centred = x - mean
    else:
        mean = xp.mean(x, axis=(0, 2), keepdims=True)
        centred = x - mean
        var = xp.mean(centred * centred, axis=(0, 2), keepdims=True)
    inverse = 1.0 / xp.sqrt(var + attrs.get("eps", 1e-5))
    return centred * inverse, inverse, mean, var


def _count(x: Array, attrs: Attributes) -> int:
    """Return how many values of a channel the statistics stand for."""
    count = attrs.get("repeat", 1)
    for size in x.shape[:-1]:
        count *= size
    return count


def samples() -> Iterator[Sample]:
    """Yield every mode, tdBN's scale, a repeated static input, copies, and no spatial axes."""
    rng = generator(103)
    cases: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
        ("batch", (3, 2, 5, 3, 4), {"mode": "batch"}),
        ("batch-flat", (2, 7, 5), {"mode": "batch", "momentum": 0.25, "eps": 1e-3}),
        ("tdbn", (2, 3, 3, 3, 2), {"mode": "batch", "scale": 0.5}),
        ("static", (1, 3, 3, 1, 2), {"mode": "batch", "repeat": 4}),
        ("single-step", (1, 1, 3, 5, 3), {"mode": "batch"}),
        ("frozen", (2, 3, 5, 1, 3), {"mode": "frozen_batch", "scale": 0.7}),
        ("copies", (2, 6, 3, 3, 2), {"mode": "frozen_batch", "copies": 3}),
        ("copies-batch", (1, 4, 3, 3, 2), {"mode": "batch", "copies": 2}),
        ("running", (2, 3, 3, 5, 4), {"mode": "running", "scale": 1.5}),
        ("running-single", (1, 1, 6), {"mode": "running"}),
    ]
    for name, shape, attributes in cases:
        channels = shape[-1:]
        inputs = {
            "x": 1.0 + 2.0 * rng.standard_normal(shape),
            "weight": rng.uniform(0.5, 1.5, channels),
            "bias": rng.standard_normal(channels),
            "running_mean": rng.standard_normal(channels),
            "running_var": rng.uniform(0.5, 2.0, channels),
        }
        # Only y has a cotangent: the running statistics pass no gradient.
        yield Sample(name, inputs, attributes, cotangents={"y": rng.standard_normal(shape)})


BATCH_NORM = Op(
    name="batch_norm",
    signature=(
        "x[T N *S C], weight[C], bias[C], running_mean[C], running_var[C] "
        "-> y[T N *S C], running_mean[C], running_var[C]"
    ),
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(forward=1e-5, low=4.0, low_gradient=8.0),
    differentiable=("x", "weight", "bias"),
    source="Ioffe and Szegedy 2015; tdBN: Zheng et al. 2021, in Li et al. 2021 (Dspike) Eq. 4-5",
)
