"""Losses and gradients of one part of a step, whole or in chunks of time: see `snnx.chunks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snnx.chunks import piece, share, spans
from snnx_torch import core
from snnx_torch.prepare import Prepared

if TYPE_CHECKING:
    from snnx_torch.ranks import Share
    from snnx_torch.train_step import TrainStep

Tensors = Mapping[str, Tensor]
Learnt = tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]


def learnt(
    step: TrainStep,
    prepared: Prepared,
    leaves: Tensors,
    statistics: Tensors,
    part: Tensors,
    dials: Tensors,
    steps: int,
    divisor: int,
    of: Share | None,
) -> Learnt:
    """Return losses [N], y, the gradients of the losses' sum / `divisor`, and new statistics.

    `of` says of what the part is a share.
    """
    if len(spans(steps, step.chunk)) > 1:
        return _truncated(step, prepared, leaves, statistics, part, dials, steps, divisor, of)
    arrays = (statistics, part["x"], None, dials, part["index"])
    out = core.play(prepared, leaves, *arrays, steps, share=step.synchronised(of))
    y, moved = out.y, _cut(out.statistics)
    del out  # the final states need not outlive the forward pass
    losses = step.counted(step.losses(y, part), of)
    found = step.gradients(losses.sum() / divisor, leaves)
    return losses.detach(), y.detach(), found, moved


def _truncated(
    step: TrainStep,
    prepared: Prepared,
    leaves: Tensors,
    statistics: Tensors,
    part: Tensors,
    dials: Tensors,
    steps: int,
    divisor: int,
    of: Share | None,
) -> Learnt:
    cuts, norms = spans(steps, step.chunk), step.synchronised(of)

    def play(start: int, stop: int, state: Any, moved: Tensors) -> core.Result:
        x, index = piece(part["x"], start, stop), part["index"]
        arrays = (moved, x, state, dials, index)
        return core.play(prepared, leaves, *arrays, stop - start, share=norms)

    g_whole, losses = None, None
    if not step.objective.per_step:
        state, outputs = None, []
        with torch.no_grad():
            for start, stop in cuts:
                out = play(start, stop, state, statistics)
                state = out.state
                outputs.append(out.y)
        y = torch.cat(outputs).requires_grad_()
        losses = step.counted(step.losses(y, part), of)
        (g_whole,) = torch.autograd.grad(losses.sum() / divisor, [y])
    state, outputs, moved = None, [], dict(statistics)
    grads: dict[str, Tensor] = {}
    for start, stop in cuts:
        out = play(start, stop, state, moved)
        if g_whole is not None:
            new = step.gradients(out.y, leaves, g_whole[start:stop])
        else:
            each = _share_of_losses(step, out.y, part, start, stop, steps)
            each = step.counted(each, of)
            new = step.gradients(each.sum() / divisor, leaves)
            losses = each.detach() if losses is None else losses + each.detach()
        grads = {k: grads[k] + g if k in grads else g for k, g in new.items()}
        state = {k: v if k == "t" else tuple(_detached(v)) for k, v in out.state.items()}
        outputs.append(out.y.detach())
        moved = _cut(out.statistics)
    if losses is None:
        raise ValueError("a step needs at least one time step")
    return losses.detach(), torch.cat(outputs), grads, moved


def _share_of_losses(
    step: TrainStep, y: Tensor, part: Tensors, start: int, stop: int, steps: int
) -> Tensor:
    """Return what a chunk adds to each sample's loss, a mean over all its valid steps."""
    if "length" not in part:
        return step.losses(y, part) * ((stop - start) / steps)
    weight, inside = share(torch.clamp, part["length"].to(step.dtype), start, stop)
    return step.losses(y, {**part, "length": inside}) * weight


def _detached(arrays: tuple[Tensor, ...]) -> list[Tensor]:
    return [array.detach() for array in arrays]


def _cut(arrays: Tensors) -> dict[str, Tensor]:
    return {k: v.detach() for k, v in arrays.items()}
