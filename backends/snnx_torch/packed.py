"""Binary edges kept as bits: a convolution or linear map that keeps one bit of an input per value.

An edge that holds 0 or one scale only (`snnx.passes.mark_packed`) is kept for the gradient of the
weight as bits, eight values to a byte, and unpacked there. Outputs and gradients are those of the
ordinary rule, bit for bit.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Byte i of a word times this has bit i of the highest byte; no two products meet.
_GATHER = 0x0102040810204080


def pack(x: Tensor) -> Tensor:
    """Return [ceil(size / 8)] bytes: bit i of byte j tells whether value 8 j + i is not 0."""
    fired = (x != 0).reshape(-1).to(torch.uint8)
    lacking = -fired.numel() % 8
    if lacking:
        fired = F.pad(fired, (0, lacking))
    return ((fired.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


@lru_cache(maxsize=16)
def _table(dtype: torch.dtype, device: torch.device) -> Tensor:
    values = torch.arange(256, device=device)[:, None]
    return ((values >> torch.arange(8, device=device)) & 1).to(dtype)


def unpack(bits: Tensor, shape: torch.Size, scale: Tensor) -> Tensor:
    """Return the values of `pack`ed bits in the dtype of `scale`, 0 or `scale`."""
    rows = F.embedding(bits.to(torch.int32), _table(scale.dtype, scale.device))
    return rows.reshape(-1)[: math.prod(shape)].reshape(shape) * scale


def scale_of(x: Tensor, share: str) -> Tensor:
    """Return the scale of a binary sequence [..., C]: "unit" 1, else found in its values.

    It is the value farthest from 0: of shape [] for "layer" and [C] for "channel".
    """
    if share == "unit":
        return torch.ones((), dtype=x.dtype, device=x.device)
    if share == "layer":
        low, high = x.amin(), x.amax()
    else:
        axes = tuple(range(x.dim() - 1))
        low, high = x.amin(dim=axes), x.amax(dim=axes)
    return torch.where(high > 0, high, low)


class PackedConv2d(torch.autograd.Function):
    """apply(x, weight, bias or None, scale, stride, padding, groups) -> y; x [B, C, H, W]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor,
        stride: int,
        padding: int,
        groups: int,
    ) -> Tensor:
        ctx.shape, ctx.how, ctx.biased = x.shape, (stride, padding, groups), bias is not None
        # in the order of memory, which is channels_last
        ctx.save_for_backward(pack(x.permute(0, 2, 3, 1)), weight, scale)
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        bits, weight, scale = ctx.saved_tensors
        stride, padding, groups = ctx.how
        n, c, h, w = ctx.shape
        x = unpack(bits, torch.Size((n, h, w, c)), scale).permute(0, 3, 1, 2)
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.biased]
        sizes = [weight.shape[0]] if ctx.biased else None
        pair = ([stride] * 2, [padding] * 2, [1, 1])
        found = torch.ops.aten.convolution_backward(
            g, x, weight, sizes, *pair, False, [0, 0], groups, wanted
        )
        return (*found, None, None, None, None)


class PackedLinear(torch.autograd.Function):
    """apply(x, weight, bias or None, scale) -> y; x [..., I], weight [O, I]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
        ctx.shape, ctx.biased = x.shape, bias is not None
        ctx.save_for_backward(pack(x), weight, scale)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        bits, weight, scale = ctx.saved_tensors
        g = grads[0].reshape(-1, weight.shape[0])
        x = unpack(bits, ctx.shape, scale).reshape(-1, weight.shape[1])
        g_x = (g @ weight).reshape(ctx.shape) if ctx.needs_input_grad[0] else None
        return g_x, g.mT @ x, g.sum(dim=0) if ctx.biased else None, None
