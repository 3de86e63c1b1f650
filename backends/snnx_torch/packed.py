"""Products with a gradient of their own: binary inputs kept as bits, weight gradients set aside.

An edge that holds 0 or one scale only (`snnx.passes.mark_packed`) is kept for the gradient of the
weight as bits, eight values to a byte, and unpacked there. Outputs and gradients are those of the
ordinary rule, bit for bit.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from snnx_torch.capture import Side

# Byte i of a word times this has bit i of the highest byte; no two products meet.
_GATHER = 0x0102040810204080


def pack(x: Tensor) -> Tensor:
    """Return [ceil(size / 8)] bytes: bit i of byte j tells whether value 8 j + i is not 0."""
    fired = (x != 0).reshape(-1).to(torch.uint8)
    lacking = -fired.numel() % 8
    if lacking:
        fired = F.pad(fired, (0, lacking))
    return ((fired.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


def _table(dtype: torch.dtype, device: torch.device) -> Tensor:
    values = torch.arange(256, device=device)[:, None]
    return ((values >> torch.arange(8, device=device)) & 1).to(dtype)


_kept_table = cache(_table)  # made before a step is recorded, and never given back


def unpack(bits: Tensor, shape: torch.Size, scale: Tensor) -> Tensor:
    """Return the values of `pack`ed bits in the dtype of `scale`, 0 or `scale`."""
    table = _table if torch.compiler.is_compiling() else _kept_table
    rows = F.embedding(bits.to(torch.int32), table(scale.dtype, scale.device))
    return rows.reshape(-1)[: math.prod(shape)].reshape(shape) * scale


def scale_of(x: Tensor, share: str) -> Tensor:
    """Return the scale of a binary sequence [..., C]: "unit" 1, else found in its values.

    It is the value farthest from 0: of shape [] for "layer" and [C] for "channel".
    """
    if not torch.compiler.is_compiling():
        _kept_table(x.dtype, x.device)  # here: in the backward a second stream would make it
    if share == "unit":
        return torch.ones((), dtype=x.dtype, device=x.device)
    if share == "layer":
        low, high = x.amin(), x.amax()
    else:
        axes = tuple(range(x.dim() - 1))
        low, high = x.amin(dim=axes), x.amax(dim=axes)
    return torch.where(high > 0, high, low)


class Conv2d(torch.autograd.Function):
    """apply(x, weight, bias or None, scale or None, (stride, padding, groups), side) -> y.

    x [B, C, H, W] is kept as bits where there is a scale; weight and bias are rounded to its dtype.
    With a `side` the gradients of weight and bias are work for it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        how: tuple[int, int, int],
        side: Side | None,
    ) -> Tensor:
        ctx.shape, ctx.how, ctx.side = x.shape, how, side
        ctx.dtypes = [v.dtype for v in (weight, bias) if v is not None]
        low = weight.to(x.dtype)
        # bits in the order of memory, which is channels_last
        kept = [x] if scale is None else [pack(x.permute(0, 2, 3, 1)), scale]
        ctx.save_for_backward(low, *kept)
        stride, padding, groups = how
        low_bias = None if bias is None else bias.to(x.dtype)
        return F.conv2d(x, low, low_bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,), (low, *kept) = grads, ctx.saved_tensors
        stride, padding, groups = ctx.how
        biased, side, wants_x = len(ctx.dtypes) > 1, ctx.side, ctx.needs_input_grad[0]

        def pull(x: Tensor, wants: list[bool]) -> Any:
            sizes = [low.shape[0]] if biased else None
            pair = ([stride] * 2, [padding] * 2, [1, 1])
            return torch.ops.aten.convolution_backward(
                g, x, low, sizes, *pair, False, [0, 0], groups, wants
            )

        def input() -> Tensor:
            if len(kept) == 1:
                return kept[0]
            n, c, h, w = ctx.shape
            return unpack(kept[0], torch.Size((n, h, w, c)), kept[1]).permute(0, 3, 1, 2)

        def own(found: Any) -> tuple[Tensor, ...]:
            return tuple(v.to(d) for v, d in zip(found[1:], ctx.dtypes, strict=False))

        if side is None:
            found = pull(input(), [wants_x, ctx.needs_input_grad[1], biased])
            return (found[0], *own(found), *[None] * (5 - len(ctx.dtypes)))
        g_x = None
        if wants_x:  # first: others wait for it. Of its input it takes the shape alone
            options: Any = {"dtype": g.dtype, "device": g.device}
            like = torch.empty(ctx.shape, memory_format=torch.channels_last, **options)
            g_x = pull(like, [True, False, False])[0]
        numbers = side.run(lambda: own(pull(input(), [False, True, biased])), g, low, *kept)
        return (g_x, *numbers, *[None] * (5 - len(ctx.dtypes)))


class Linear(torch.autograd.Function):
    """apply(x, weight, bias or None, scale or None, side) -> y; x [..., I], weight [O, I].

    See `Conv2d`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        side: Side | None,
    ) -> Tensor:
        ctx.shape, ctx.side = x.shape, side
        ctx.dtypes = [v.dtype for v in (weight, bias) if v is not None]
        low = weight.to(x.dtype)
        ctx.save_for_backward(low, *([x] if scale is None else [pack(x), scale]))
        return F.linear(x, low, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        low, *kept = ctx.saved_tensors
        g = grads[0].reshape(-1, low.shape[0])
        g_x = (g @ low).reshape(ctx.shape) if ctx.needs_input_grad[0] else None

        def work() -> tuple[Tensor, ...]:
            x = kept[0] if len(kept) == 1 else unpack(kept[0], ctx.shape, kept[1])
            found = (g.mT @ x.reshape(-1, low.shape[1]), g.sum(dim=0))
            return tuple(v.to(d) for v, d in zip(found, ctx.dtypes, strict=False))

        numbers = work() if ctx.side is None else ctx.side.run(work, g, *kept)
        return (g_x, *numbers, *[None] * (4 - len(ctx.dtypes)))
