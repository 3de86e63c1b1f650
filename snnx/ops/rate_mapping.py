"""Rate mapping of differentiation on spike representation (DSR): a neuron layer seen as a clamp.

    w[t] = decay^(T - t),  t = 1 .. T;   xbar = sum over t of w[t] x[t] / sum of w[t]
    y = clamp(xbar / tau, 0, b),         b = threshold (IF),  threshold / dt (LIF)

x is the input current of the layer, before any decay or gain. y is what the weighted mean of the
layer's outputs (threshold * s, or threshold / dt * s) approximates. The vjp is the exact one:

    g_x[t]      = inside * g_y / tau * w[t] / sum(w)
    g_threshold = sum(above * g_y) * db/dthreshold,      db/dthreshold = 1 (IF), 1 / dt (LIF)
    IF   inside = 0 <= xbar <= threshold * tau           above = xbar > threshold * tau
    LIF  inside = 0 <  xbar <  threshold * tau / dt      above = xbar > threshold * tau / dt

The masks differ at their edges as in the released code. What a DSR layer trains with is not this
vjp but `released_backward`, the layer rule of that code.

Attributes: kind ("if" or "lif"), dt (1.0), tau (1.0), decay (for "if" 1.0, for "lif"
exp(-dt / tau)), and kappa for `released_backward`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import step_weights

KINDS = ("if", "lif")


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [N *F]."""
    x, threshold = inputs["x"], inputs["threshold"]
    z = xp.sum(_weights(xp, x, attrs) * x, axis=0) / attrs.get("tau", 1.0)
    bound = threshold * _bound_slope(attrs)
    z = xp.where(z > 0.0, z, xp.zeros_like(z))
    return {"y": xp.where(z < bound, z, xp.zeros_like(z) + bound)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of x and threshold, of the clamp itself."""
    x, g = inputs["x"], cotangents["y"]
    weights = _weights(xp, x, attrs)
    inside, above = masks(xp, xp.sum(weights * x, axis=0), inputs["threshold"], attrs)
    g_x = weights * (inside * g / attrs.get("tau", 1.0))[None, ...]
    return {"x": g_x, "threshold": xp.sum(above * g) * _bound_slope(attrs)}


def masks(xp: Any, mean: Array, threshold: Array, attrs: Attributes) -> tuple[Array, Array]:
    """Return, as 0 and 1, where the mean input lies inside the clamp and where above it."""
    limit = threshold * attrs.get("tau", 1.0) * _bound_slope(attrs)
    inside = (
        (mean >= 0.0) & (mean <= limit) if attrs["kind"] == "if" else (mean > 0.0) & (mean < limit)
    )
    return xp.astype(inside, mean.dtype), xp.astype(mean > limit, mean.dtype)


def released_backward(
    xp: Any, x: Array, threshold: Array, attrs: Attributes, g_out: Array
) -> tuple[Array, Array]:
    """Return the gradients of x [T N *F] and threshold [] by the layer rule of the DSR code.

        G           = T * sum over t of w[t] g_out[t] / sum of w[t]
        g_x[t]      = inside * G / (tau * T)                 the same for every t, unweighted
        g_threshold = kappa * sum over batch and neurons of above * G

    g_out [T N *F] is the gradient of the emitted sequence. kappa: attribute, 1 for "if" and dt for
    "lif" by default; the ImageNet code of IF has 0.001. For LIF it is dt^2 times the slope 1 / dt.
    Source: DSR (Meng et al. 2022), released code, as in methods.md 5.2.
    """
    steps = x.shape[0]
    weights = _weights(xp, x, attrs)
    collapsed = steps * xp.sum(weights * g_out, axis=0)
    inside, above = masks(xp, xp.sum(weights * x, axis=0), threshold, attrs)
    g_x = inside * collapsed / (attrs.get("tau", 1.0) * steps)
    kappa = attrs.get("kappa", 1.0 if attrs["kind"] == "if" else attrs.get("dt", 1.0))
    return xp.broadcast_to(g_x[None, ...], tuple(x.shape)), kappa * xp.sum(above * collapsed)


def if_constant_rate(
    xp: Any, current: Array, threshold: float, steps: int, fire_fraction: float = 1.0
) -> Array:
    """Return the mean output of an IF neuron under a constant current, in closed form.

        r = threshold / T * clamp(floor(T * current / threshold + 1 - fire_fraction), 0, T)

    The neuron emits threshold * s, fires at fire_fraction * threshold (0 < fire_fraction <= 1) and
    subtracts threshold. Source: DSR Eq. 18 and 21 for any fire_fraction, as in methods.md 5.6.
    """
    count = xp.floor(steps * current / threshold + (1.0 - fire_fraction))
    return threshold / steps * xp.clip(count, 0.0, float(steps))


def _bound_slope(attrs: Attributes) -> float:
    """Return the clamp's upper bound per unit of threshold."""
    if attrs["kind"] not in KINDS:
        raise ValueError(f"rate_mapping: kind {attrs['kind']!r} is not one of {KINDS}")
    return 1.0 if attrs["kind"] == "if" else 1.0 / attrs.get("dt", 1.0)


def _weights(xp: Any, x: Array, attrs: Attributes) -> Array:
    """Return w[t] / sum(w), ready to multiply x."""
    default = (
        math.exp(-attrs.get("dt", 1.0) / attrs.get("tau", 1.0)) if attrs["kind"] == "lif" else 1.0
    )
    return step_weights(xp, x, None, attrs.get("decay", default))


def samples() -> Iterator[Sample]:
    """Yield both kinds below, inside and above the clamp, and means exactly on its edges."""
    rng = generator(206)
    paper = {"kind": "lif", "dt": 0.05, "tau": 1.0}
    for name, shape, threshold, attributes in [
        ("if", (5, 3, 4, 1, 3), 0.5, {"kind": "if"}),
        ("if-one-step", (1, 1, 7), 0.7, {"kind": "if"}),
        ("lif", (20, 2, 5), 0.03, paper),
        ("lif-tau", (5, 3, 7), 0.1, {"kind": "lif", "dt": 0.1, "tau": 2.0}),
    ]:
        x = rng.standard_normal(shape)
        x = x + rng.uniform(-1.0, 1.5, shape[1:])
        yield Sample(f"{name}-normal", {"x": x, "threshold": np.array(threshold)}, attributes)
    x = dyadic(rng, (4, 3, 5), 0.5, 2.0)
    g = {"y": dyadic(rng, (3, 5))}
    inputs = {"x": x, "threshold": np.array(0.5)}
    yield Sample("if-dyadic", inputs, {"kind": "if"}, "exact", cotangents=g)
    edges = np.array([-0.5, 0.0, 0.25, 0.5, 0.75]).reshape(1, 1, 5) + np.zeros((2, 1, 1))
    g = {"y": np.array([[1.0, 0.5, -1.0, 2.0, 0.25]])}
    inputs = {"x": edges, "threshold": np.array(0.5)}
    yield Sample("if-edges", inputs, {"kind": "if"}, "tie", cotangents=g)
    inputs = {"x": edges, "threshold": np.array(0.25)}
    attributes = {"kind": "lif", "dt": 0.5, "tau": 1.0, "decay": 1.0}
    yield Sample("lif-edges", inputs, attributes, "tie", cotangents=g)


RATE_MAPPING = Op(
    name="rate_mapping",
    signature="x[T N *F], threshold[] -> y[N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(low_gradient=8.0),  # a power per weight, then their sum, in 16 bits
    differentiable=("x", "threshold"),
    source="DSR (Meng et al. 2022) Sec. 3.3, Propositions 1 and 2",
)
