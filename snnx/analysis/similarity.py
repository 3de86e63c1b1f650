"""How far a noisy or smooth network is from the spiking network inside it.

All three figures run one network twice or once over a split, with running statistics throughout,
and compare the activations s (before `emit`) of its spiking layers:

    dead ratio        share of a layer's neurons without a spike in all T steps, mean over samples
    smoothing error   1 - cos(a, s):  a of mode "smooth", s of mode "spike", per sample
    similarity        cos(a, s):      a of mode "mixed" with the mask of training, mean over layers

The cosine is taken over neurons and time; of two silent layers it is 1, of one silent layer 0.
Source: ASGL 5.5, B.7, B.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from snnx.analysis.rates import first_batches
from snnx.backend import Session
from snnx.data.arrays import Split
from snnx.mode import EVAL, Mode
from snnx.program import Program

if TYPE_CHECKING:
    from snnx.data.lazy import Source

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Cosines [samples] of each spiking layer between two runs of one network."""

    layers: Mapping[str, Floats]

    @property
    def per_layer(self) -> dict[str, float]:
        """The mean over samples of each layer."""
        return {path: float(cosines.mean()) for path, cosines in self.layers.items()}

    @property
    def per_sample(self) -> Floats:
        """The mean over layers of each sample, [samples]."""
        return np.mean(list(self.layers.values()), axis=0)

    @property
    def mean(self) -> float:
        """The mean over layers and samples."""
        return float(self.per_sample.mean())

    @property
    def deviation(self) -> float:
        """The standard deviation over samples of their means over layers."""
        return float(self.per_sample.std())


def dead_ratio(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split = "train",
    *,
    batch_size: int = 64,
    dials: Mapping[str, float | int] | None = None,
    steps: int | None = None,
    samples: int | None = None,
) -> dict[str, float]:
    """Return, by layer, the share of neurons silent for a whole sample, mean over samples."""
    taps = _taps(program)
    silent = dict.fromkeys(taps, 0.0)
    count = 0
    for batch in first_batches(dataset, split, batch_size, samples):
        out = session.forward(batch, dials or {}, EVAL, taps, steps=steps)
        valid = _valid(batch, *out.y.shape[:2])
        for tap in taps:
            fired = ((_flat(out.taps[tap]) != 0) & valid).any(0)  # [N, F]
            silent[tap] += float((~fired).mean(1).sum())
        count += valid.shape[1]
    return {tap.removesuffix(".spike"): total / count for tap, total in silent.items()}


def smoothing_error(
    session: Session, program: Program, dataset: Source, split: Split = "test", **options: Any
) -> dict[str, float]:
    """Return, by layer, 1 - cos between the activations of modes "smooth" and "spike".

    `options` are those of `similarity`, without `fire`.
    """
    found = similarity(session, program, dataset, split, fire="smooth", **options)
    return {path: 1.0 - mean for path, mean in found.per_layer.items()}


def similarity(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split = "test",
    *,
    fire: Literal["mixed", "smooth"] = "mixed",
    batch_size: int = 64,
    dials: Mapping[str, float | int] | None = None,
    steps: int | None = None,
    samples: int | None = None,
) -> Similarity:
    """Return the cosines between a network in mode `fire` and the spiking network inside it.

    The mask of "mixed" is drawn with the bits of evaluation, under the dials that are given.

    Raises: ValueError for a network without spiking layers.
    """
    taps = _taps(program)
    if not taps:
        raise ValueError("similarity: the network has no spiking layer to compare")
    found: dict[str, list[Floats]] = {tap: [] for tap in taps}
    for batch in first_batches(dataset, split, batch_size, samples):
        a, s = (
            session.forward(batch, dials or {}, mode, taps, steps=steps)
            for mode in (Mode(fire=fire), EVAL)
        )
        valid = _valid(batch, *s.y.shape[:2])
        for tap in taps:
            found[tap].append(_cosines(_flat(a.taps[tap]) * valid, _flat(s.taps[tap]) * valid))
    return Similarity({t.removesuffix(".spike"): np.concatenate(c) for t, c in found.items()})


def _taps(program: Program) -> list[str]:
    return [f"{step.path}.spike" for step in program.spiking]


def _flat(values: NDArray[Any]) -> Floats:
    """Return [T, N, *F] as [T, N, F] in float64."""
    return np.asarray(values, np.float64).reshape(*values.shape[:2], -1)


def _valid(batch: Mapping[str, Any], steps: int, n: int) -> NDArray[np.bool_]:
    """Return [T, N, 1], False where a step of a sample is padding."""
    length = batch.get("length")
    valid = np.full((steps, n), True) if length is None else np.arange(steps)[:, None] < length
    return valid[..., None]


def _cosines(a: Floats, b: Floats) -> Floats:
    """Return the cosine of each sample over time and neurons, [N]."""
    inner, aa, bb = ((u * v).sum((0, 2)) for u, v in ((a, b), (a, a), (b, b)))
    silent = ((aa == 0) & (bb == 0)).astype(np.float64)
    norm = np.sqrt(aa * bb)
    return np.divide(inner, norm, out=silent, where=norm > 0)
