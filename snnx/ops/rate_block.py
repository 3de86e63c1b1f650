"""rate_block: product, residual sum and batch norm between DSR layers, by means over time.

    z = product(x, weight, bias) + r         conv2d for a weight of 4 axes, linear for one of 2
    r = skip, or product(skip, skip_weight, skip_bias), or nothing
    y = batch_norm(z, norm_weight, norm_bias)

A DSR layer above gives a gradient g_y that is the same at every step, and one below only takes the
weighted sum of g_x over time. So its gradients need no step by itself. With means over time m, and
mw weighted by decay^(T-t), xhat the normalised z, G = sum_t g_y[t] [N *S O], sg = sqrt(var + eps),
k = scale norm_weight, c = mean(G m(xhat)) and mean(G) over batch and space:

    into(r)  = k / sg (G - mean(G) - r c)
    g_x[t]   = product's gradient of x at into(mw(xhat)) / T               the same for every t
    g_weight = product's gradient of weight at x = m(x), g = into(m(xhat))
               - k c / (sg T) C,    C = sum_t product's gradient at x[t] - m(x), xhat[t] - m(xhat)
    g_bias   = 0 (running statistics: sum k / sg G)
    g_norm_weight = scale sum(G m(xhat)),   g_norm_bias = sum G

and the same for the product of skip; without a product g_skip[t] = into(mw(xhat)) / T. Each C is a
covariance over time, summed in the forward pass; what is kept does not grow with T. With running
statistics c and mean(G) are 0. `covariance` False drops C: another, cheaper algorithm, not a
rounding. Given such g_y, sum_t decay^(T-t) g_x[t] and all else equal those of the ops one after the
other; for another g_y this is no derivative, so that identity checks it.

Attributes: those of batch_norm (copies 1 only) and of conv2d or linear; skip (a mapping, empty):
those of the product of skip; decay (1.0), that of the DSR layers below; covariance (True). A static
x (T = 1) stands for `repeat` steps, and skip is static as x is.
Raises: ValueError for copies above 1, or where batch_norm does.
Source: DSR (Meng et al. 2022) Sec. 4 with the batch norm of its code; methods.md 5.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops import batch_norm
from snnx.ops._cases import generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import step_weights
from snnx.ops.conv2d import CONV2D
from snnx.ops.linear import LINEAR

NORM = {"weight": "norm_weight", "bias": "norm_bias"}
STATISTICS = ("running_mean", "running_var")


def product_of(weight: Array) -> Op:
    """Return conv2d or linear, by the axes of the weight."""
    return CONV2D if weight.ndim == 4 else LINEAR


def branches(inputs: Arrays, attrs: Attributes) -> Iterator[tuple[str, Arrays, Attributes]]:
    """Yield prefix, inputs (x, weight?, bias?) and attributes of every branch of the sum."""
    names = ("weight", "bias")
    yield "", {n: inputs[n] for n in ("x", *names) if n in inputs}, attrs
    if "skip" in inputs:
        own = {n: inputs[f"skip_{n}"] for n in names if f"skip_{n}" in inputs}
        yield "skip_", {"x": inputs["skip"], **own}, attrs.get("skip", {})


def _z(xp: Any, inputs: Arrays, attrs: Attributes) -> Array:
    if attrs.get("copies", 1) != 1:
        raise ValueError("rate_block: statistics per copy are not its own; copies must be 1")
    z: Array = 0.0
    for _, given, how in branches(inputs, attrs):
        z = z + (
            product_of(given["weight"]).forward(xp, given, how)["y"]
            if "weight" in given
            else given["x"]
        )
    return z


def _norm_inputs(inputs: Arrays, z: Array) -> dict[str, Array]:
    found = {name: inputs[own] for name, own in NORM.items()}
    return {"x": z, **found, **{n: inputs[n] for n in STATISTICS}}


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [T N *S O] and the running statistics after this batch."""
    return batch_norm.forward(xp, _norm_inputs(inputs, _z(xp, inputs, attrs)), attrs)


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of every branch's input, weight and bias, and of the norm's two."""
    z = _z(xp, inputs, attrs)
    xhat, inverse, _, _ = batch_norm.normalised(xp, _norm_inputs(inputs, z), attrs)
    xhat, inverse = xp.reshape(xhat, tuple(z.shape)), xp.reshape(inverse, (z.shape[-1],))
    collapsed = xp.sum(cotangents["y"], axis=0)
    plain = xp.mean(xhat, axis=0)
    weighted = xp.sum(step_weights(xp, xhat, None, attrs.get("decay", 1.0)) * xhat, axis=0)
    over = tuple(range(plain.ndim - 1))
    c, mean = xp.mean(collapsed * plain, axis=over), xp.mean(collapsed, axis=over)
    if attrs["mode"] == "running":
        c, mean = 0.0 * c, 0.0 * mean
    factor = attrs.get("scale", 1.0) * inputs["norm_weight"] * inverse
    into_plain, into_weighted = (factor * (collapsed - mean - r * c) for r in (plain, weighted))
    steps = z.shape[0]
    found = {
        "norm_weight": attrs.get("scale", 1.0) * xp.sum(collapsed * plain, axis=over),
        "norm_bias": xp.sum(collapsed, axis=over),
    }
    for prefix, given, how in branches(inputs, attrs):
        x, name = given["x"], "skip" if prefix else "x"
        if "weight" not in given:
            found[name] = xp.broadcast_to(into_weighted[None, ...] / steps, tuple(x.shape))
            continue
        op, weight = product_of(given["weight"]), given["weight"]
        x_mean = xp.mean(x, axis=0, keepdims=True)

        def pull(x: Array, g: Array, op: Op = op, weight: Array = weight, how: Any = how) -> Any:
            return op.vjp(xp, {"x": x, "weight": weight}, how, {}, {"y": g})

        g_x = pull(x_mean, into_weighted[None, ...] / steps)["x"]
        found[name] = xp.broadcast_to(g_x, tuple(x.shape))
        g_weight = pull(x_mean, into_plain[None, ...])["weight"]
        if attrs.get("covariance", True):
            covariance = pull(x - x_mean, xhat - plain)["weight"]
            along = (slice(None), *(None,) * (weight.ndim - 1))
            g_weight = g_weight - (factor * c / steps)[along] * covariance
        found[f"{prefix}weight"] = g_weight
        if "bias" in given:
            total = xp.sum(into_plain, axis=over)
            found[f"{prefix}bias"] = total if attrs["mode"] == "running" else 0.0 * total
    return found


def samples() -> Iterator[Sample]:
    """Yield both products, decays, every mode, a static input, no covariance, residual sums."""
    rng = generator(307)
    conv = {"stride": 1, "padding": 1, "groups": 1}
    cases: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any], bool]] = [
        ("conv", (4, 2, 4, 5, 2), (3, 3, 3, 2), {"mode": "batch", **conv}, False),
        (
            "conv-groups",
            (3, 2, 5, 4, 4),
            (4, 3, 3, 2),
            {"mode": "batch", "stride": 2, "padding": 1, "groups": 2, "scale": 0.5},
            True,
        ),
        ("linear", (5, 4, 6), (3, 6), {"mode": "batch", "momentum": 0.25}, True),
        ("linear-decay", (5, 4, 6), (3, 6), {"mode": "batch", "decay": 0.7}, False),
        (
            "conv-decay",
            (4, 2, 4, 3, 2),
            (3, 3, 3, 2),
            {"mode": "batch", "decay": 0.9, **conv},
            True,
        ),
        ("cheap", (5, 4, 6), (3, 6), {"mode": "batch", "covariance": False}, False),
        ("frozen", (4, 2, 3, 3, 2), (3, 1, 1, 2), {"mode": "frozen_batch"}, False),
        ("running", (4, 3, 5), (2, 5), {"mode": "running", "decay": 0.8}, True),
        ("static", (1, 4, 6), (3, 6), {"mode": "batch", "repeat": 5}, True),
        ("sum", (4, 2, 4, 3, 3), (3, 3, 3, 3), {"mode": "batch", "decay": 0.9, **conv}, True),
        (
            "sum-product",
            (3, 2, 3, 3, 2),
            (3, 3, 3, 2),
            {"mode": "batch", **conv, "skip": {"stride": 2, "padding": 0, "groups": 1}},
            False,
        ),
        ("sum-linear", (4, 3, 5), (2, 5), {"mode": "running", "decay": 0.7, "skip": {}}, True),
    ]
    for name, shape, kernel, attributes, bias in cases:
        channels = kernel[:1]
        inputs: dict[str, Any] = {
            "x": rng.uniform(0.0, 1.0, shape),
            "weight": rng.standard_normal(kernel),
            "norm_weight": rng.uniform(0.5, 1.5, channels),
            "norm_bias": rng.standard_normal(channels),
            "running_mean": rng.standard_normal(channels),
            "running_var": rng.uniform(0.5, 2.0, channels),
        }
        if bias:
            inputs["bias"] = rng.standard_normal(channels)
        if name == "sum":
            inputs["skip"] = rng.uniform(0.0, 1.0, shape)
        elif name == "sum-product":
            inputs["skip"] = rng.uniform(0.0, 1.0, (3, 2, 6, 6, 4))
            inputs["skip_weight"] = rng.standard_normal((3, 1, 1, 4))
        elif name == "sum-linear":
            inputs["skip"] = rng.uniform(0.0, 1.0, (4, 3, 6))
            inputs["skip_weight"] = rng.standard_normal((2, 6))
            inputs["skip_bias"] = rng.standard_normal(channels)
        y = forward(np, inputs, attributes)["y"]
        g = np.broadcast_to(rng.standard_normal(y.shape[1:]), y.shape)  # as a DSR layer gives it
        yield Sample(name, inputs, attributes, dtypes=("float32",), cotangents={"y": g})


RATE_BLOCK = Op(
    name="rate_block",
    signature=(
        "x[T N *F], weight[O *K], bias[O]?, skip[T N *G]?, skip_weight[O *L]?, skip_bias[O]?, "
        "norm_weight[O], norm_bias[O], running_mean[O], running_var[O] "
        "-> y[T N *S O], running_mean[O], running_var[O]"
    ),
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(forward=1e-5, gradient=2e-5),
    differentiable=(
        "x",
        "weight",
        "bias",
        "skip",
        "skip_weight",
        "skip_bias",
        "norm_weight",
        "norm_bias",
    ),
    source="DSR (Meng et al. 2022) Sec. 4, batch norm as in the released code",
    smooth=False,
)
