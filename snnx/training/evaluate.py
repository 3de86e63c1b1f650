"""Evaluation: accuracy, loss and firing rates of a session on one split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from snnx.backend import Session
from snnx.chunks import pieces
from snnx.data import Batches
from snnx.mode import EVAL
from snnx.objective import Objective
from snnx.ops import OPS
from snnx.program import Program
from snnx.world import ALONE, World

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
    world: World = ALONE,
) -> Evaluation:
    """Return how the session does on a split; nothing of it is changed.

    `pause` is called before every batch, and may end the evaluation by an exception. With `chunk`,
    T is run in chunks of that many steps, which give what the whole gives.

    The processes of a world share the batches out, each batch whole, so that the figures are those
    of one process bit for bit; all of them get the figures, and call `pause` together.
    """
    batches = Batches(dataset, split, batch_size, shuffle=False)
    samples, first = dataset.size(split), min(world.rank, len(batches))
    losses = np.zeros(len(batches))
    hits, labels = np.zeros(samples, np.uint8), np.zeros(samples, np.int64)
    paths = [step.path for step in program.spiking]
    rates = np.zeros(len(paths))
    source = batches.epoch(0, first, world.size)
    for i in range(world.rank, world.rank + len(batches), world.size):
        pause()
        batch = next(source, None)
        if batch is None:  # of the last round, which not every process has
            continue
        taps = [f"{path}.spike" for path in paths] if i == 0 else []
        y, means = _in_chunks(session, program, batch, dials or {}, taps, steps, chunk)
        valid = {"length": batch["length"]} if "length" in batch else {}
        each = OPS[objective.op].forward(
            np, {"logits": y, "target": batch["y"], **valid}, objective.attributes
        )
        losses[i] = each["loss"].sum()
        mean = OPS["readout"].forward(np, {"logits": y, **valid}, objective.readout)["y"]
        place = batch["index"]
        hits[place], labels[place] = mean.argmax(-1) == batch["y"], batch["y"]
        for k, tap in enumerate(taps):
            rates[k] = _rate(means[tap], batch.get("length"))
    # what a process has not seen is 0 there
    losses, hits, labels, rates = (
        world.gather(a).sum(0, dtype=a.dtype) for a in (losses, hits, labels, rates)
    )
    hit = hits.astype(bool)
    of_class = [hit[labels == c] for c in range(program.output_shape[-1])]
    return Evaluation(
        float(hit.mean()),
        sum(losses.tolist()) / samples,
        samples,
        dict(zip(paths, rates.tolist(), strict=True)),
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
    state, whole = None, chunk is None
    for part, size in pieces(program, batch, steps, chunk):
        options: Any = {"state": state, "steps": size, "hand_over": not whole}
        found = session.forward(cast(Any, part), dials, EVAL, taps, **options)
        outputs.append(np.asarray(found.y, np.float64))
        for tap, spikes in found.taps.items():
            means[tap].append(spikes.reshape(*spikes.shape[:2], -1).mean(-1, dtype=np.float64))
        state = None if whole else found.state
    return np.concatenate(outputs), {tap: np.concatenate(m) for tap, m in means.items()}


def _rate(per_step: np.ndarray, length: np.ndarray | None) -> float:
    """Return the mean of spikes per neuron [T, N] over valid steps."""
    if length is None:
        return float(per_step.mean())
    valid = np.arange(len(per_step))[:, None] < length
    return float(per_step[valid].mean())
