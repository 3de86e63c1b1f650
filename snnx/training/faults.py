"""What is said of a step that failed: its batch, the first bad layer, the batch that fits."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from snnx.backend import Snapshot
from snnx.chunks import pieces
from snnx.data import Batch
from snnx.data.arrays import Layout
from snnx.mode import train_mode
from snnx.training.progress import Training

SHOWN = 8  # positions of samples that a message lists

Dials = Mapping[str, float | int]


class OutOfMemory(MemoryError):
    """A step that needs more memory than there is, with the batch that was seen to fit."""


def named(training: Training, parts: Sequence[Batch], number: int, epoch: int) -> str:
    """Return which batch of the run it is: its epoch, its number, and where its samples stand.

    Of a batch that several processes share, the samples are those of this one.
    """
    index = [int(i) for part in parts for i in part["index"]]
    shown = ", ".join(map(str, index[:SHOWN])) + (", ..." if len(index) > SHOWN else "")
    return (
        f"batch {number + 1} of epoch {epoch + 1}: {len(index)} samples of "
        f"{training.dataset.name!r} train, at positions {shown}"
    )


def first_not_finite(training: Training, parts: Sequence[Batch], dials: Dials) -> str:
    """Replay a step with taps and name the first layer whose output is not finite, in any process.

    Of several chunks of time, the first that has such a layer decides.
    """
    steps = training.program.steps
    found = [(chunk, place) for part in parts for chunk, place in _places(training, part, dials)]
    far = (np.iinfo(np.int64).max, len(steps))
    chunk, place = min([far, *found])
    rows = training.world.gather(np.array([chunk, place], np.int64))
    place = min(tuple(row) for row in rows.tolist())[1]
    if place < len(steps):
        step = steps[place]
        return f"the first output that is not finite is that of layer {step.path} {step.layer}"
    return "the output of every layer is finite, so the loss or a gradient overflowed"


def _places(training: Training, batch: Batch, dials: Dials) -> Iterator[tuple[int, int]]:
    """Yield (chunk, place of the first layer that is not finite) of a part, at most one."""
    mode = replace(train_mode(training.program), norm="frozen_batch")
    paths = [step.output for step in training.program.steps]
    plan, state = training.stage, None
    for chunk, (part, steps) in enumerate(pieces(training.program, batch, plan.steps, plan.chunk)):
        with np.errstate(all="ignore"):
            found = training.session.forward(
                cast(Any, part), dials, mode, paths, state=state, steps=steps
            )
        state = found.state
        wrong = [i for i, path in enumerate(paths) if not np.isfinite(found.taps[path]).all()]
        if wrong:
            yield chunk, wrong[0]
            return


def not_finite(snapshot: Snapshot) -> str | None:
    """Return the first path in a snapshot whose numbers are not all finite; None without one."""
    for arrays in (snapshot.parameters, snapshot.statistics, snapshot.moments):
        for path, array in arrays.items():
            if not np.isfinite(array).all():
                return path
    return None


def out_of_memory(
    training: Training, parts: Sequence[Batch], dials: Dials, error: MemoryError
) -> OutOfMemory:
    """Return the error of a step that did not fit, after halves of its batch were tried."""
    _let_go(error)
    batch = max(parts, key=lambda part: len(part["index"]))
    size, fits = len(batch["index"]), batch_that_fits(training, batch, dials)
    if fits:
        whole, micro = fits * len(parts) * training.world.size, len(parts) * -(-size // fits)
        remedy = (
            f"half of it and so on was tried: the gradients of {fits} samples fit; take "
            f"batch_size={whole}, or keep the batch and go on with micro_batches={micro}"
        )
    else:
        remedy = "not even the gradients of one sample fit; take a smaller T or model"
    return OutOfMemory(
        f"out of memory in a step of {size} samples at T={training.stage.steps} "
        f"({error or 'no more'}); {remedy}"
    )


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of a failed computation hold, or nothing else would fit beside it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


def batch_that_fits(training: Training, batch: Batch, dials: Dials) -> int:
    """Return the largest half, quarter, ... of a batch whose gradients fit; 0 where none does."""
    size, plan = len(batch["index"]) // 2, training.stage
    while size:
        first = _first(batch, size, training.dataset.layout)
        part, steps = next(pieces(training.program, first, plan.steps, plan.chunk))
        try:
            training.session.grads(cast(Any, part), dials, steps=steps)
        except MemoryError as failed:
            _let_go(failed)
            size //= 2
        else:
            return size
    return 0


def _first(batch: Batch, size: int, layout: Layout) -> dict[str, Any]:
    """Return the first samples of a batch."""
    x = batch["x"][:size] if layout == "NF" else batch["x"][:, :size]
    return {
        "x": x,
        **{k: np.asarray(v)[:size] for k, v in batch.items() if k not in ("x", "share")},
    }
