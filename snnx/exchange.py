"""What crosses between the neutral loop and a session: NumPy arrays and small records of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import numpy as np


class _Needed(TypedDict):
    x: np.ndarray
    y: np.ndarray
    index: np.ndarray


class Batch(_Needed, total=False):
    """x [N, *F] (static) or [T, N, *F]; y [N]; index [N]: positions in the data set; length [N].

    `share` makes it one process' part of a batch: (samples that count, samples of the whole
    batch); 0 count where the sample stands in (`snnx.world.World.share`).
    """

    length: np.ndarray
    share: tuple[int, int]


Dials = Mapping[str, float | int]
Arrays = Mapping[str, "np.ndarray"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a session saves: canonical NumPy arrays by path, and the count of updates.

    moments are named PATH.MOMENT. Weights are [O, kH, kW, I / groups] and [O, I]; learned numbers
    are raw (before their transform).
    """

    parameters: Arrays
    statistics: Arrays
    moments: Arrays = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True, slots=True)
class Forward:
    """What `Session.forward` returns: the output [T, N, *K], tapped edges, states, statistics."""

    y: np.ndarray
    taps: Arrays
    state: Mapping[str, Any]
    statistics: Arrays


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one training step: its peak, what stands all the time, and what is kept.

    `standing` are parameters, statistics and moments; `kept`, by the path of the program's step
    that made it, is what lives from the forward to the backward pass.
    """

    peak: int
    standing: int
    kept: Mapping[str, int]
