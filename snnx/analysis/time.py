"""Accuracy against time, all of it from one forward run: no step depends on a later one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.backend import Session
from snnx.data import Batches
from snnx.data.arrays import Split
from snnx.ops import OPS

if TYPE_CHECKING:
    from snnx.data.lazy import Source

Floats = NDArray[np.float64]
Hits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TimeAccuracy:
    """Shares of samples classified right, [T] each.

    after[t]    by the readout of steps 0 .. t: the accuracy of evaluating with T = t + 1
    single[t]   by the output of step t alone; of the samples that are that long, NaN without one
    """

    after: Floats
    single: Floats
    samples: int


def accuracy_over_time(
    session: Session,
    dataset: Source,
    split: Split = "test",
    *,
    steps: int | None = None,
    batch_size: int = 64,
    dials: Mapping[str, float | int] | None = None,
    readout: Mapping[str, Any] | None = None,
) -> TimeAccuracy:
    """Return the accuracy of every shorter T and of every single step from one run of `steps`.

    `readout` is the objective's (`Objective.readout`), the plain mean unless given. Where a
    sequence is shorter than t, its own readout counts. Source: TET 5.1, Fig. 4A, Table 4.
    """
    after, single, valid, samples = 0.0, 0.0, 0.0, 0
    for batch in Batches(dataset, split, batch_size, shuffle=False).epoch(0):
        found: Any = session.forward(batch, dials or {}, steps=steps)  # type: ignore[arg-type]
        length = batch.get("length")
        hits, own, there = right_over_time(found.y, batch["y"], length, readout)
        after, single, valid = after + hits.sum(1), single + own.sum(1), valid + there.sum(1)
        samples += len(batch["y"])
    alone = np.full(np.shape(single), np.nan)
    np.divide(single, valid, out=alone, where=np.asarray(valid) > 0)
    return TimeAccuracy(np.asarray(after) / samples, alone, samples)


def right_over_time(
    y: NDArray[Any],
    target: NDArray[Any],
    length: NDArray[Any] | None = None,
    readout: Mapping[str, Any] | None = None,
) -> tuple[Hits, Hits, Hits]:
    """Return which samples are right after each step, at each step alone, and there at all.

    All are [T, N] of outputs y [T, N, K].
    """
    logits = np.asarray(y, np.float64)
    total, n = logits.shape[:2]
    there = np.ones((total, n), np.bool_)
    if length is not None:
        there = np.arange(total)[:, None] < length
    after = np.zeros((total, n), np.bool_)
    for t in range(1, total + 1):
        inputs = {"logits": logits[:t]}
        if length is not None:
            inputs["length"] = np.minimum(length, t)
        mean = OPS["readout"].forward(np, inputs, readout or {"decay": 1.0})["y"]
        after[t - 1] = mean.argmax(-1) == target
    return after, (logits.argmax(-1) == target) & there, there
