"""MedlyDB: monophonic stems of ten instruments as spikes, one MAT file of spike times.

    TrainData, TestData   structs of
        ptn      N x 384 cells: the spike times of each channel of each sample, empty for none
        Labels   N numbers 1 .. 10
        Tmax     N numbers, or one: how long the samples last, in the unit of the spike times

The spikes are those of Gu et al. 2019 (STCA), who coded short pieces of the stems of MedleyDB
(Bittner et al. 2014) by sparse representation. No public copy of the file is known, and ASGL's
paper does not say its unit of time. The layout is that which public readers of such files expect;
it was not seen here in the file itself. Another one is refused; arrays of your own are FILE.npz.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Array, DataError, Split
from snnx.data.draws import Draws
from snnx.data.files import find
from snnx.data.lazy import Lazy
from snnx.data.mat import read_mat

CHANNELS = 384
CLASSES = 10
FILE = "medlydb.mat"
STRUCTS: dict[Split, str] = {"train": "TrainData", "test": "TestData"}
LAYOUT = (
    "expects structs TrainData and TestData with ptn (N x 384 cells of spike times), Labels (N "
    "numbers 1 .. 10) and Tmax (N numbers or one)"
)


@dataclass(frozen=True, eq=False)
class Patterns:
    """The spikes of all samples, end to end: sample n has those from offsets[n] to offsets[n + 1].

    times float64, channels uint16, labels int64 [N] from 0, offsets int64 [N + 1]; `last` is the
    largest Tmax.
    """

    times: NDArray[np.float64]
    channels: NDArray[np.uint16]
    labels: NDArray[np.int64]
    offsets: NDArray[np.int64]
    last: float


def read_medlydb(path: Path) -> dict[Split, Patterns]:
    """Both splits of the MAT file.

    Raises: DataError if the file is missing, damaged, or holds another layout, a label outside of
    1 .. 10, or a time that is negative, not finite or after Tmax.
    """
    found = read_mat(path)
    return {split: _patterns(path, name, found.get(name)) for split, name in STRUCTS.items()}


def _patterns(path: Path, name: str, fields: Any) -> Patterns:
    if not isinstance(fields, Mapping) or not {"ptn", "Labels", "Tmax"} <= fields.keys():
        raise DataError(f"{path}: has no struct {name} of ptn, Labels and Tmax; {LAYOUT}")
    cells = fields["ptn"]
    labels, last = (_numbers(path, name, fields, key) for key in ("Labels", "Tmax"))
    if not _is_cells(cells) or cells.shape[1] != CHANNELS or not len(cells):
        shape = getattr(cells, "shape", type(cells).__name__)
        raise DataError(f"{path}: {name}.ptn is {shape}, not N x {CHANNELS} cells; {LAYOUT}")
    if len(labels) != len(cells) or len(last) not in (1, len(cells)):
        raise DataError(
            f"{path}: {name} has {len(cells)} samples, {len(labels)} Labels and {len(last)} Tmax; "
            f"{LAYOUT}"
        )
    if not np.isin(labels, np.arange(1, CLASSES + 1)).all():
        raise DataError(f"{path}: {name}.Labels must be whole numbers in 1 .. {CLASSES}")
    if not (np.isfinite(last) & (last > 0)).all():
        raise DataError(f"{path}: {name}.Tmax must be above 0 and finite")
    times, channels, counts = [], [], []
    for row in cells:
        sample = [_times(path, name, cell) for cell in row]
        times += sample
        channels += [np.full(len(t), k, np.uint16) for k, t in enumerate(sample)]
        counts.append(sum(map(len, sample)))
    flat, longest = np.concatenate(times), float(last.max())
    if not (np.isfinite(flat) & (flat >= 0) & (flat <= longest)).all():
        raise DataError(f"{path}: {name}.ptn holds a time outside of 0 .. Tmax ({longest:g})")
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(counts, np.int64))])
    return Patterns(flat, np.concatenate(channels), labels.astype(np.int64) - 1, offsets, longest)


def _is_cells(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 2


def _numbers(path: Path, name: str, fields: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    value = fields[key]
    if not isinstance(value, np.ndarray) or value.dtype == object or max(value.shape) != value.size:
        raise DataError(f"{path}: {name}.{key} must be a row or column of numbers; {LAYOUT}")
    return value.reshape(-1).astype(np.float64)


def _times(path: Path, name: str, cell: Any) -> NDArray[np.float64]:
    if not isinstance(cell, np.ndarray) or cell.dtype == object:
        raise DataError(f"{path}: {name}.ptn has a cell that holds no numbers; {LAYOUT}")
    return cell.reshape(-1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Occupied:
    """A sample as uint8 [T, 384]: 1 in the steps round(time / width) in which a channel fires."""

    patterns: dict[Split, Patterns]
    steps: int
    width: float

    def __call__(self, item: tuple[Split, int], draws: Draws) -> Array:
        split, number = item
        found = self.patterns[split]
        part = slice(int(found.offsets[number]), int(found.offsets[number + 1]))
        step = np.round(found.times[part] / self.width).astype(np.int64)
        x = np.zeros((self.steps, CHANNELS), np.uint8)
        inside = step < self.steps
        x[step[inside], found.channels[part][inside]] = 1
        return x


def medlydb(
    root: Path,
    name: str,
    source: str,
    licence: str,
    steps: int = 500,
    width: float | None = None,
) -> Lazy:
    """MedleyDB's spikes as x [T, N, 384], 0 or 1, in 10 classes.

    `width` is that of a step, in the unit of the file; without one the largest Tmax of both splits
    falls into the last step: width = Tmax / (steps - 1). Spikes after the last step are left out.

    Raises: DataError if the file is missing, damaged or of another layout.
    """
    if steps < 2 or (width is not None and not width > 0):
        raise DataError(f"MedlyDB: steps is at least 2 and width above 0, got {steps} and {width}")
    path = find(root, (FILE,))
    if path is None:
        raise DataError(f"{root}: lacks {FILE}")
    patterns = read_medlydb(path)
    if width is None:
        width = max(found.last for found in patterns.values()) / (steps - 1)
    digest = hashlib.sha256()
    for found in patterns.values():
        for array in (found.times, found.channels, found.offsets):
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    train, test = patterns["train"].labels, patterns["test"].labels
    return Lazy(
        [("train", i) for i in range(len(train))],
        train,
        [("test", i) for i in range(len(test))],
        test,
        read=Occupied(patterns, steps, width),
        name=name,
        features=(CHANNELS,),
        version=f"medlydb 1 {steps} {width!r} {digest.hexdigest()}",
        label="real",
        layout="TNF",
        source=f"{source}; {steps} steps of {width:g} in the file's unit of time",
        licence=licence,
    )
