"""Weights of few bits: see `snnx.ops.quantize_weight`."""

from __future__ import annotations

import torch
from torch import Tensor

from snnx.ops.quantize_weight import levels


def quantized(weight: Tensor, bits: int | None) -> Tensor:
    """Return the weight on its grid, with the weight's own gradient; see `quantize_weight`."""
    if bits is None:
        return weight
    q, fixed = float(levels(bits)), weight.detach()
    step = fixed.abs().amax() / q
    step = torch.where(step > 0.0, step, torch.ones_like(step))
    # the difference is exactly 0 and carries the gradient
    return step * torch.round(fixed / step).clamp(-q, q) + (weight - fixed)
