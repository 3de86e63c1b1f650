"""Loss and gradients of one part of a step in chunks of time: see `snnx.chunks`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from mlx.utils import tree_map

from snnx.chunks import piece, share, spans
from snnx.mode import Run

if TYPE_CHECKING:
    from snnx_mlx.ranks import Share
    from snnx_mlx.train_step import TrainStep

Tree = dict[str, mx.array]


def value_and_grad(function: Callable[[Tree], Any], parameters: Tree) -> tuple[Any, Tree]:
    """Return what a function gives, whose first is a loss, and the loss's gradients."""
    if not parameters:
        return function(parameters), {}
    return mx.value_and_grad(function)(parameters)


def truncated(
    step: TrainStep,
    how: Run,
    parameters: Tree,
    statistics: Tree,
    batch: Tree,
    samples: int,
    of: Share | None = None,
    **more: Any,
) -> tuple[mx.array, Tree, mx.array, Tree]:
    """Return the batch's share of the mean loss over `samples`, gradients, y, statistics."""
    more["share"] = step.synchronised(of)
    cuts = spans(how.steps, step.chunk)

    def play(values: Tree, moved: Tree, start: int, stop: int, state: Any) -> Any:
        part = {**batch, "x": piece(batch["x"], start, stop)}
        return step.run(Run(how.mode, stop - start), values, moved, part, state=state, **more)

    value, g_whole = mx.array(0.0), None
    if not step.objective.per_step:
        state, outputs = None, []
        for start, stop in cuts:
            out = play(parameters, statistics, start, stop, state)
            state = out.state
            outputs.append(out.y)

        def of_output(y: mx.array) -> mx.array:
            return _counted(mx.sum(step.losses(batch, y)) / samples, of)

        value, g_whole = mx.value_and_grad(of_output)(mx.concatenate(outputs))
    grads: Tree = {}
    state, outputs, moved = None, [], statistics

    def loss(values: Tree, moved: Tree, start: int, stop: int, state: Any) -> tuple[Any, ...]:
        out = play(values, moved, start, stop, state)
        if g_whole is not None:
            one = mx.sum(out.y * g_whole[start:stop])  # its gradient in y is that slice
        else:
            one = _share_of_loss(step, batch, out.y, start, stop, how.steps) / samples
            one = _counted(one, of)
        return one, out.y, out.state, out.statistics

    for start, stop in cuts:
        one = partial(loss, moved=moved, start=start, stop=stop, state=state)
        (part, y, state, moved), new = value_and_grad(one, parameters)
        grads = {k: grads[k] + g if k in grads else g for k, g in new.items()}
        part, y, state, moved = _after(list(grads.values()), (part, y, state, moved))
        value = value if g_whole is not None else value + part
        outputs.append(y)
    return value, grads, mx.concatenate(outputs), moved


def _counted(loss: mx.array, of: Share | None) -> mx.array:
    return loss if of is None else of.own(loss)


def _after(arrays: list[mx.array], tree: Any) -> Any:
    """Return the tree, to be had only once the arrays are computed.

    Otherwise MLX runs all chunks forward first, on the way to the loss, and keeps each for later.
    """
    return tree_map(lambda leaf: mx.depends(leaf, arrays), tree) if arrays else tree


def _share_of_loss(
    step: TrainStep, batch: Tree, y: mx.array, start: int, stop: int, steps: int
) -> mx.array:
    """Return what a chunk adds to the sum of the losses, each a mean over all its valid steps."""
    if "length" not in batch:
        return mx.sum(step.losses(batch, y)) * ((stop - start) / steps)
    weight, inside = share(mx.clip, batch["length"], start, stop)
    return mx.sum(step.losses({**batch, "length": inside}, y) * weight)
