"""Firing rates of every spiking layer over a data split, from any backend's session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.analysis.time import right_over_time
from snnx.backend import Session
from snnx.data import Batches
from snnx.data.arrays import Split
from snnx.program import Program, Shape

if TYPE_CHECKING:
    from snnx.data.lazy import Source

DEAD = 0.01  # a neuron that fires in less than this share of all valid steps is dead
SATURATED = 0.90  # one that fires in more than this share is saturated

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LayerRate:
    """The firing of one layer: shares of valid steps, between 0 and 1.

    per_neuron [*F] is each neuron's rate over all samples and valid steps. over_time [T] is the
    mean rate at each step, NaN where no sample is that long. `dead` and `saturated` are the shares
    of neurons below `DEAD` and above `SATURATED`.
    """

    path: str
    layer: str
    shape: Shape
    per_neuron: Floats
    over_time: Floats

    @property
    def neurons(self) -> int:
        """The number of neurons."""
        return self.per_neuron.size

    @property
    def rate(self) -> float:
        """Spikes per neuron and valid step."""
        return float(self.per_neuron.mean())

    @property
    def dead(self) -> float:
        """The share of neurons that hardly ever fire."""
        return float((self.per_neuron < DEAD).mean())

    @property
    def saturated(self) -> float:
        """The share of neurons that nearly always fire."""
        return float((self.per_neuron > SATURATED).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """The rates of all spiking layers over `samples` samples of `steps` time steps.

    accuracy [T] is the share of samples classified right when read out after 1, 2, ... steps (after
    its own length where a sequence is shorter); None for an objective without classes. It is that
    of evaluating with that T, since no step depends on a later one. single [T] is that of each
    step's output alone, of the samples that are that long.
    """

    layers: tuple[LayerRate, ...]
    samples: int
    steps: int
    accuracy: Floats | None
    single: Floats | None = None

    @property
    def spikes(self) -> float | None:
        """Spikes per neuron and valid step over all layers; None where nothing spikes."""
        neurons = sum(layer.neurons for layer in self.layers)
        fired = sum(layer.rate * layer.neurons for layer in self.layers)
        return fired / neurons if neurons else None


def firing_rates(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split = "test",
    *,
    batch_size: int = 64,
    dials: Mapping[str, float | int] | None = None,
    steps: int | None = None,
    samples: int | None = None,
    readout: Mapping[str, Any] | None = None,
) -> Rates:
    """Return the firing rates over a split, run batch by batch in evaluation mode.

    `samples` bounds how many are run (the first ones). `readout` is the objective's
    (`Objective.readout`); without it no accuracy is computed. Padded steps count nowhere.

    Raises: ValueError where `samples` or `batch_size` is below 1.
    """
    if samples is not None and samples < 1:
        raise ValueError(f"firing_rates: samples must be at least 1, not {samples}")
    spiking = program.spiking
    taps = [f"{step.path}.spike" for step in spiking]
    fired: dict[str, Floats] = {}
    fired_at: dict[str, Floats] = {}
    valid_at: Floats = np.zeros(0)
    right: Any = 0.0
    alone: Any = 0.0
    count = 0
    for batch in first_batches(dataset, split, batch_size, samples):
        out = session.forward(batch, dials or {}, taps=taps, steps=steps)
        total, n = out.y.shape[:2]
        length = batch.get("length")
        valid = np.ones((total, n)) if length is None else np.arange(total)[:, None] < length
        valid = valid.astype(np.float64)
        valid_at = valid.sum(1) + (valid_at if count else 0.0)
        for tap in taps:
            s = np.asarray(out.taps[tap], np.float64) * valid.reshape(
                total, n, *[1] * (out.taps[tap].ndim - 2)
            )
            fired[tap] = s.sum((0, 1)) + fired.get(tap, 0.0)
            fired_at[tap] = s.sum(tuple(range(1, s.ndim))) + fired_at.get(tap, 0.0)
        if readout is not None:
            after, single, _ = right_over_time(out.y, np.asarray(batch["y"]), length, readout)
            right, alone = right + after.sum(1), alone + single.sum(1)
        count += n
    layers = []
    for step, tap in zip(spiking, taps, strict=True):
        per_neuron = np.asarray(fired[tap] / valid_at.sum())
        at = np.full(len(valid_at), np.nan)
        np.divide(fired_at[tap], valid_at * per_neuron.size, out=at, where=valid_at > 0)
        layers.append(LayerRate(step.path, step.layer, step.shape, per_neuron, at))
    if readout is None:
        return Rates(tuple(layers), count, len(valid_at), None)
    at = np.full(len(valid_at), np.nan)
    np.divide(alone, valid_at, out=at, where=valid_at > 0)
    return Rates(tuple(layers), count, len(valid_at), np.asarray(right / count), at)


def first_batches(
    dataset: Source, split: Split, batch_size: int, samples: int | None
) -> Iterator[Any]:
    """Yield the first `samples` samples of a split (None: all) batch by batch.

    Raises: ValueError where `samples` is below 1.
    """
    if samples is not None and samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    batches = Batches(dataset, split, batch_size, shuffle=False)
    positions = np.arange(dataset.size(split))[:samples]
    for start in range(0, len(positions), batch_size):
        yield batches.take(positions[start : start + batch_size])
