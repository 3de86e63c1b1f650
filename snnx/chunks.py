"""Chunks of time: pieces of a sequence that are trained one after another (truncated BPTT).

The state is handed over from chunk to chunk, the gradient is cut there, and one update follows.
With L the loss of the whole output y and y_c that of chunk c, given the state it begins with,

    gradient = sum over c of (dL / dy_c) (dy_c / dparameters at fixed state)

so that only the paths through the handed-over state are missing: were they kept, this would be the
gradient of the whole. A loss that is a mean over steps (`Objective.per_step`) is known chunk by
chunk; one of the mean output needs all of y, so its chunks run twice, first without gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx.batch import check_input

if TYPE_CHECKING:
    from snnx.program import Program

BY_RATE = ("rate_neuron", "rate_block")  # ops whose gradient is one of rates over all of T


def check_chunk(program: Program, chunk: int | None) -> None:
    """Raise ValueError for a chunk that is no number of steps, or a network that has none."""
    if chunk is None:
        return
    if not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1:
        raise ValueError(f"chunk: a whole number of time steps >= 1, not {chunk!r}")
    for step in program.steps:
        if step.op in BY_RATE:
            raise ValueError(
                f"chunk = {chunk}: layer {step.path} {step.layer} takes its gradient from rates "
                "over all of T, so its time cannot be cut; leave chunk out"
            )


def spans(total: int, chunk: int | None) -> tuple[tuple[int, int], ...]:
    """Return (start, stop) of the chunks of T = `total` steps; the last may be shorter."""
    size = total if chunk is None else min(chunk, total)
    return tuple((start, min(start + size, total)) for start in range(0, total, size))


def share(clip: Any, length: Any, start: int, stop: int) -> tuple[Any, Any]:
    """Return the share [N] of its valid steps that a sample has in a chunk, and how many [N].

    How many is at least 1, since there is no mean over no step; the share is 0 there.
    `length` [N] is an array of any framework, `clip` that framework's.
    """
    inside = clip(length - start, 0, stop - start)
    return inside / length, clip(inside, 1, stop - start)


def piece(x: Any, start: int, stop: int) -> Any:
    """Return the steps start .. stop - 1 of x [T, N, *F]; one that is static [1, N, *F] stays."""
    return x if x.shape[0] == 1 else x[start:stop]


def pieces(
    program: Program, batch: Mapping[str, Any], steps: int | None, chunk: int | None
) -> Iterator[tuple[dict[str, Any], int | None]]:
    """Yield a batch's chunks of time, without its lengths, and T of each.

    `steps` is T of a static x. Without `chunk` all of it is one.
    """
    plain = {k: v for k, v in batch.items() if k != "length"}
    if chunk is None:
        yield plain, steps
        return
    x = np.asarray(batch["x"])
    static, total = check_input(program, x.shape, steps)
    for start, stop in spans(total, chunk):
        yield {**plain, "x": x if static else x[start:stop]}, stop - start
