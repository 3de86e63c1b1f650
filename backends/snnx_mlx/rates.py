"""Differentiation on spike representation: the layer rule of DSR, and its clamp of rates."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

from snnx_mlx.arrays import custom_op, first_of, nested_sum
from snnx_mlx.sequence import Arrays, Attributes, Scan, run_scan


def rate_neuron(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Run DSR's spiking layer, whose backward is the mapping of its rates."""
    return run_scan(_RateScan, inputs, attributes)


def rate_mapping(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Clamp the weighted mean input to [0, bound], with the released code's masks backwards."""
    lif = attributes["kind"] == "lif"
    dt, tau = attributes.get("dt", 1.0), attributes.get("tau", 1.0)
    slope = 1.0 / dt if lif else 1.0
    decay = attributes.get("decay", math.exp(-dt / tau) if lif else 1.0)

    def mean(x: mx.array) -> tuple[mx.array, mx.array]:
        steps = x.shape[0]
        powers = [decay ** (steps - 1 - t) for t in range(steps)]
        w = mx.array([p / sum(powers) for p in powers]).reshape(-1, *[1] * (x.ndim - 1))
        return w, mx.sum(w * x.astype(mx.float32), axis=0)

    def forward(x: mx.array, threshold: mx.array) -> tuple[mx.array, ...]:
        bound = threshold.astype(mx.float32) * slope
        return (mx.clip(mean(x)[1] / tau, 0.0, bound).astype(x.dtype),)

    def backward(given: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, threshold = given
        w, m = mean(x)
        inside, above = masks(m, threshold.astype(mx.float32), attributes)
        g = cotangents[0].astype(mx.float32)
        return w * (inside * g / tau)[None], nested_sum(above * g, g.ndim) * slope

    return {"y": custom_op(forward, backward)(inputs["x"], inputs["threshold"])[0]}


class _RateScan(Scan):
    """Forward the neuron; backward, for the whole sequence, the layer rule of DSR's code.

    w[t] = decay^(T-t), S = sum w, I = sum_t w[t] x[t] / S, G = (T/S) sum_t w[t] g_y[t]
    g_x[t] = M_in G / (T tau),  g_threshold = kappa sum(M_above G)

    Kept is I alone, which has no steps.
    """

    attributes = ("kind", "dt", "tau", "kappa")

    def forward(self, *inputs: mx.array) -> tuple[mx.array, ...]:
        """Run the list of the step over time, and the weighted mean of the input."""
        given = self._named(inputs)
        rows, state, _ = self._walk(given)
        found = [mx.stack(rows[n]) for n in self.sequences]
        x = given["x"]
        mean = mx.sum(self._weights(x.ndim) * x.astype(mx.float32), axis=0)
        y = first_of(found[0].astype(x.dtype), [mean])
        return (y, *found[1:], *state.values(), mean)

    def _weights(self, axes: int) -> mx.array:
        weights = [self.unit.decay ** (self.steps - 1 - t) for t in range(self.steps)]
        return (mx.array(weights) / sum(weights)).reshape(-1, *[1] * (axes - 1))

    def backward(
        self,
        inputs: tuple[mx.array, ...],
        cotangents: tuple[mx.array, ...],
        outputs: tuple[mx.array, ...],
    ) -> tuple[mx.array, ...]:
        given, extra = self._named(inputs), self.extra
        w, mean = self._weights(given["x"].ndim), outputs[-1]
        collapsed = self.steps * mx.sum(w * cotangents[0].astype(mx.float32), axis=0)
        threshold = given.get("p.threshold", self.unit.threshold)
        inside, above = masks(mean, threshold, extra)
        g_x = inside * collapsed / (extra["tau"] * self.steps)
        g_x = mx.broadcast_to(g_x[None], (self.steps, *g_x.shape))
        sums = {"p.threshold": extra["kappa"] * above * collapsed}
        return self._gradients(given, g_x, {}, sums)


def masks(mean: mx.array, threshold: Any, attributes: Attributes) -> tuple[mx.array, mx.array]:
    """Return, as 0 and 1, where the mean input lies inside the clamp and where above it."""
    tau, dt = attributes.get("tau", 1.0), attributes.get("dt", 1.0)
    if attributes["kind"] == "if":
        limit = threshold * tau
        inside = mx.logical_and(mean >= 0.0, mean <= limit)
    else:
        limit = threshold * tau / dt
        inside = mx.logical_and(mean > 0.0, mean < limit)
    return inside.astype(mean.dtype), (mean > limit).astype(mean.dtype)
