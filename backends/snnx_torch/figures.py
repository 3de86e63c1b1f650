"""What a training step reports, on the device until somebody reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from snnx.batch import not_taken
from snnx_torch.arrays import to_numpy


@dataclass(frozen=True, slots=True)
class Pending:
    """A step under way: its losses and its report, on the device; its number and samples."""

    losses: list[Tensor]
    report: Tensor
    step: int
    samples: int


def figures(pending: Pending, alone: bool) -> dict[str, float]:
    """Wait for the step and return its figures.

    The losses are summed on the host in float64 where no other process holds a part of them.

    Raises: FloatingPointError where the step was not finite.
    """
    losses = np.concatenate([to_numpy(v).astype(np.float64) for v in pending.losses])
    finite, norm, correct, mean, votes = to_numpy(pending.report).tolist()
    loss = float(losses.sum()) / pending.samples if alone else mean
    if not finite:
        raise FloatingPointError(not_taken(pending.step, loss, norm))
    return {
        "loss": loss,
        "correct": int(correct),
        "samples": pending.samples,
        "gradient_norm": norm,
        "votes": votes,
    }
