"""Evaluation: accuracy, loss and firing rates of a session on one split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx.backend import Session
from snnx.chunks import pieces
from snnx.data import Batches
from snnx.mode import EVAL
from snnx.objective import Objective
from snnx.ops import OPS
from snnx.program import Program

if TYPE_CHECKING:
    from snnx.data.lazy import Source


@dataclass(frozen=True, slots=True)
class Evaluation:
    """accuracy and loss over all samples; rates: spikes per neuron and step of each spiking layer.

    Rates are those of the first batch. per_class holds the accuracy of each class, NaN for one
    without samples.
    """

    accuracy: float
    loss: float
    samples: int
    rates: Mapping[str, float]
    per_class: tuple[float, ...]

    @property
    def rate(self) -> float | None:
        """Mean of the layers' rates; None without spiking layers."""
        return float(np.mean(list(self.rates.values()))) if self.rates else None


def evaluate(
    session: Session,
    program: Program,
    objective: Objective,
    dataset: Source,
    split: Any = "test",
    *,
    batch_size: int = 64,
    steps: int | None = None,
    dials: Mapping[str, float | int] | None = None,
    pause: Callable[[], None] = lambda: None,
    chunk: int | None = None,
) -> Evaluation:
    """Return how the session does on a split; nothing of it is changed.

    `pause` is called before every batch, and may end the evaluation by an exception. With `chunk`,
    T is run in chunks of that many steps, which give what the whole gives.
    """
    batches = Batches(dataset, split, batch_size, shuffle=False)
    loss, right, labels = 0.0, [], []
    rates: dict[str, float] = {}
    for i, batch in enumerate(batches.epoch(0)):
        pause()
        taps = [f"{step.path}.spike" for step in program.spiking] if i == 0 else []
        y, means = _in_chunks(session, program, batch, dials or {}, taps, steps, chunk)
        valid = {"length": batch["length"]} if "length" in batch else {}
        losses = OPS[objective.op].forward(
            np, {"logits": y, "target": batch["y"], **valid}, objective.attributes
        )
        loss += float(losses["loss"].sum())
        mean = OPS["readout"].forward(np, {"logits": y, **valid}, objective.readout)["y"]
        right.append(mean.argmax(-1) == batch["y"])
        labels.append(batch["y"])
        for tap, per_step in means.items():
            rates[tap.removesuffix(".spike")] = _rate(per_step, batch.get("length"))
    hit = np.concatenate(right)
    true = np.concatenate(labels)
    of_class = [hit[true == c] for c in range(program.output_shape[-1])]
    return Evaluation(
        float(hit.mean()),
        loss / len(hit),
        len(hit),
        rates,
        tuple(float(h.mean()) if len(h) else float("nan") for h in of_class),
    )


def _in_chunks(
    session: Session,
    program: Program,
    batch: Mapping[str, Any],
    dials: Mapping[str, float | int],
    taps: Sequence[str],
    steps: int | None,
    chunk: int | None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the output in float64 and each tap's mean over features [T, N], chunk by chunk."""
    outputs: list[np.ndarray] = []
    means: dict[str, list[np.ndarray]] = {tap: [] for tap in taps}
    state = None
    for part, size in pieces(program, batch, steps, chunk):
        found = session.forward(part, dials, EVAL, taps, state=state, steps=size)  # type: ignore[arg-type]
        outputs.append(np.asarray(found.y, np.float64))
        for tap, spikes in found.taps.items():
            means[tap].append(spikes.reshape(*spikes.shape[:2], -1).mean(-1, dtype=np.float64))
        state = found.state
    return np.concatenate(outputs), {tap: np.concatenate(m) for tap, m in means.items()}


def _rate(per_step: np.ndarray, length: np.ndarray | None) -> float:
    """Return the mean of spikes per neuron [T, N] over valid steps."""
    if length is None:
        return float(per_step.mean())
    valid = np.arange(len(per_step))[:, None] < length
    return float(per_step[valid].mean())
