"""Weights of few bits: see `snnx.ops.quantize_weight`."""

from __future__ import annotations

import mlx.core as mx

from snnx.ops.quantize_weight import levels


def quantized(weight: mx.array, bits: int | None) -> mx.array:
    """Return the weight on its grid, with the weight's own gradient."""
    if bits is None:
        return weight
    q, fixed = float(levels(bits)), mx.stop_gradient(weight)
    step = mx.max(mx.abs(fixed)) / q
    step = mx.where(step > 0.0, step, mx.ones_like(step))
    # the difference is exactly 0 and carries the gradient
    return step * mx.clip(mx.round(fixed / step), -q, q) + (weight - fixed)
