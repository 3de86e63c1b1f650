"""DSR: a neuron layer whose backward is the mapping of its rates; and that mapping itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snnx_torch.losses import step_weights
from snnx_torch.scan import wide
from snnx_torch.sequence import sequence


def _bound_slope(attributes: Mapping[str, Any]) -> float:
    """Return the clamp's upper bound per unit of threshold."""
    return 1.0 if attributes["kind"] == "if" else 1.0 / attributes.get("dt", 1.0)


def _decay(attributes: Mapping[str, Any]) -> float:
    natural = math.exp(-attributes.get("dt", 1.0) / attributes.get("tau", 1.0))
    return attributes.get("decay", natural if attributes["kind"] == "lif" else 1.0)


def masks(mean: Tensor, threshold: Any, attributes: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return where the mean input lies inside the clamp and where above it."""
    limit = threshold * attributes.get("tau", 1.0) * _bound_slope(attributes)
    closed = attributes["kind"] == "if"
    inside = (mean >= 0.0) & (mean <= limit) if closed else (mean > 0.0) & (mean < limit)
    return inside, mean > limit


def rate_mapping(inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the clamped mean rate; its derivative is the exact one with the code's masks."""
    x, threshold = inputs["x"], inputs["threshold"]
    dtype = wide(x.dtype)
    threshold = threshold.to(dtype)
    mean = (step_weights(x, None, _decay(attributes), dtype) * x.to(dtype)).sum(dim=0)
    inside, above = masks(mean.detach(), threshold.detach(), attributes)
    z, bound = mean / attributes.get("tau", 1.0), threshold * _bound_slope(attributes)
    zero = torch.zeros_like(mean)
    y = torch.minimum(z.clamp(min=0.0), bound).detach()
    # The masks decide the gradient, also at the edges; each difference below is exactly 0.
    y = (
        y
        + torch.where(inside, z - z.detach(), zero)
        + torch.where(above, bound - bound.detach(), zero)
    )
    return {"y": y.to(x.dtype)}


class RateBackward(torch.autograd.Function):
    """apply(x, threshold, y, weights, rule): y forward; backward the released rule of DSR.

    Keeps two masks of one step, whatever the number of steps.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, threshold: Any, y: Tensor, weights: Tensor, rule: tuple[Any, ...]
    ) -> Tensor:
        kind, dt, tau, kappa = rule
        wide_x = x.to(weights.dtype)
        mean = (weights * wide_x).sum(dim=0) if x.shape[0] > 1 else wide_x[0]
        chosen = {"kind": kind, "dt": dt, "tau": tau}
        inside, above = masks(mean, threshold, chosen)
        ctx.tau, ctx.kappa, ctx.static = tau, kappa, x.shape[0] < y.shape[0]
        ctx.dtype, ctx.learned = x.dtype, isinstance(threshold, Tensor)
        ctx.save_for_backward(inside, above, weights)
        return y.view_as(y)  # a Function must not return its input itself

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g_y,) = grads
        inside, above, weights = ctx.saved_tensors
        steps = g_y.shape[0]
        collapsed = steps * (weights * g_y.to(weights.dtype)).sum(dim=0)
        zero = torch.zeros_like(collapsed)
        g_step = torch.where(inside, collapsed, zero) / (ctx.tau * steps)
        g_x = g_step[None] * steps if ctx.static else g_step[None].expand_as(g_y)
        g_threshold = None
        if ctx.learned:
            g_threshold = ctx.kappa * torch.where(above, collapsed, zero).sum()
        return g_x.to(ctx.dtype), g_threshold, None, None, None


def rate_neuron(inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run DSR's spiking layer: forward the neuron, backward the mapping of its rates."""
    unit, x = attributes["neuron"], inputs["x"]
    with torch.no_grad():
        outputs = sequence({k: v.detach() for k, v in inputs.items()}, attributes)
    steps, dtype = outputs["y"].shape[0], wide(x.dtype)
    threshold: Any = unit.threshold
    if "p.threshold" in inputs:
        threshold = inputs["p.threshold"].to(dtype)
    like = x.expand(steps, *x.shape[1:])
    weights = step_weights(like, None, unit.decay, dtype)
    rule = tuple(attributes[n] for n in ("kind", "dt", "tau", "kappa"))
    y = RateBackward.apply(x, threshold, outputs["y"], weights, rule)
    return {**outputs, "y": y}
