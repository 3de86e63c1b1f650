"""Products with a gradient of their own: binary inputs kept as bits, weight gradients set aside.

An edge that holds 0 or one scale only is kept for the gradient of the weight as its bits
(`snnx_torch.bits`), and unpacked there. Outputs and gradients are those of the ordinary rule, bit
for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnx_torch.bits import ready, unpack

if TYPE_CHECKING:
    from snnx_torch.capture import Side

# the bits of x and its scale where it is not 1, or None; the language of what unpacks them
Kept = tuple[Tensor | None, Tensor | None, str]


def _held(x: Tensor, kept: Kept) -> list[Tensor]:
    """Return what stands for x in the backward."""
    bits, scale, language = kept
    if bits is None:
        return [x]
    ready(x.dtype, x.device, language)
    return [bits] if scale is None else [bits, scale]


def _again(ctx: Any, shape: Sequence[int], dtype: torch.dtype, kept: Sequence[Tensor]) -> Tensor:
    """Return x, whose leading axis holds the steps, in the order of the bits."""
    bits, scale, steps = kept[0], kept[1] if len(kept) > 1 else None, kept[0].shape[0]
    parted = (steps, shape[0] // steps, *shape[1:])
    return unpack(bits, scale, parted, dtype, ctx.language).reshape(shape)


class Conv2d(torch.autograd.Function):
    """apply(x, weight, bias or None, kept, (stride, padding, groups), side) -> y.

    x [B, C, H, W] is kept as it is, or as what `kept` holds of it; weight and bias are rounded to
    its dtype. With a `side` the gradients of weight and bias are work for it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kept: Kept,
        how: tuple[int, int, int],
        side: Side | None,
    ) -> Tensor:
        ctx.shape, ctx.how, ctx.side, ctx.language = x.shape, how, side, kept[2]
        ctx.dtypes = [v.dtype for v in (weight, bias) if v is not None]
        low = weight.to(x.dtype)
        ctx.packed = kept[0] is not None
        ctx.save_for_backward(low, *_held(x, kept))
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
            if not ctx.packed:
                return kept[0]
            n, c, h, w = ctx.shape  # the bits are in the order of memory, which is channels_last
            return _again(ctx, (n, h, w, c), low.dtype, kept).permute(0, 3, 1, 2)

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
    """apply(x, weight, bias or None, kept, side) -> y; x [..., I], weight [O, I].

    See `Conv2d`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kept: Kept,
        side: Side | None,
    ) -> Tensor:
        ctx.shape, ctx.side, ctx.language = x.shape, side, kept[2]
        ctx.dtypes = [v.dtype for v in (weight, bias) if v is not None]
        low = weight.to(x.dtype)
        ctx.packed = kept[0] is not None
        ctx.save_for_backward(low, *_held(x, kept))
        return F.linear(x, low, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        low, *kept = ctx.saved_tensors
        g = grads[0].reshape(-1, low.shape[0])
        g_x = (g @ low).reshape(ctx.shape) if ctx.needs_input_grad[0] else None

        def work() -> tuple[Tensor, ...]:
            x = _again(ctx, ctx.shape, low.dtype, kept) if ctx.packed else kept[0]
            found = (g.mT @ x.reshape(-1, low.shape[1]), g.sum(dim=0))
            return tuple(v.to(d) for v, d in zip(found, ctx.dtypes, strict=False))

        numbers = work() if ctx.side is None else ctx.side.run(work, g, *kept)
        return (g_x, *numbers, *[None] * (4 - len(ctx.dtypes)))
