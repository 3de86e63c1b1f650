"""Spiking Heidelberg Digits: HDF5 files of spike times and channels, binned while they are read."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnx.data.apart import read_apart
from snnx.data.arrays import Array, DataError, Split
from snnx.data.draws import Draws
from snnx.data.files import extra, find, fits
from snnx.data.lazy import Lazy

CHANNELS = 700
CLASSES = 20
MOST_RATIO = 1 << 14  # of a list to its stored form: deflate's 1032, and 16 bytes for one
FILES: dict[Split, str] = {"train": "shd_train.h5", "test": "shd_test.h5"}


@dataclass(frozen=True, eq=False)
class Spikes:
    """The spikes of all samples, end to end: sample n has the spikes offsets[n] to offsets[n + 1].

    times float32 in seconds, units uint16, labels int64 [N], offsets int64 [N + 1].
    """

    times: NDArray[np.float32]
    units: NDArray[np.uint16]
    labels: NDArray[np.int64]
    offsets: NDArray[np.int64]


def read_shd(path: Path) -> Spikes:
    """The spikes/times, spikes/units and labels of an SHD file (.h5).

    A damaged heap can keep the HDF5 library in an endless loop that no signal of Python ends, so
    another process reads the file, within 20 s and a second for every 4 MiB.

    Raises: DataError without h5py, or if the file is missing, no HDF5, lacks one of the three, or
    holds lengths that differ, a unit above 699, a label above 19, a time that is negative or NaN or
    a structure that does not end.
    """
    times, units, labels, offsets = read_apart(lists, path, "HDF5 structure")
    return Spikes(times, units, labels, offsets)


def lists(path: Path) -> tuple[NDArray[Any], ...]:
    """The four arrays of `Spikes`, read by the process that asks.

    Raises: DataError as `read_shd`; it may not return.
    """
    h5py = extra("h5py", "reading HDF5 files")
    try:
        with h5py.File(path, "r") as file:
            times, units = (
                _dataset(h5py, file, ("spikes", key), path) for key in ("times", "units")
            )
            for key, node in (("times", times), ("units", units)):
                kind = h5py.check_vlen_dtype(node.dtype)
                if kind is None or np.dtype(kind).kind not in "uif":
                    raise DataError(
                        f"{path}: spikes/{key} must hold lists of numbers, got {node.dtype}"
                    )
            labels = np.asarray(_dataset(h5py, file, ("labels",), path)[:])
            if not times.shape == units.shape == labels.shape or labels.ndim != 1:
                raise DataError(
                    f"{path}: spikes/times, spikes/units and labels must be equally long lists, "
                    f"got shapes {times.shape}, {units.shape} and {labels.shape}"
                )
            all_times, all_units = times[:], units[:]
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: is no HDF5 file, truncated or damaged ({error}); unpack it if it is a .gz, "
            "or get it again"
        ) from error
    counts = np.array([len(t) for t in all_times], np.int64)
    if len(counts) == 0:
        raise DataError(f"{path}: holds no samples")
    if [len(u) for u in all_units] != counts.tolist():
        raise DataError(f"{path}: a sample has other numbers of times and of units")
    if labels.dtype.kind not in "ui" or int(labels.min()) < 0 or int(labels.max()) >= CLASSES:
        raise DataError(f"{path}: labels must be whole numbers in 0 .. 19")
    flat_units = np.concatenate([np.asarray(u) for u in all_units])
    flat_times = np.concatenate([np.asarray(t, np.float32) for t in all_times])
    if flat_units.dtype.kind not in "ui" and not (flat_units == np.floor(flat_units)).all():
        raise DataError(f"{path}: spikes/units must be whole numbers")
    if len(flat_units) and not 0 <= int(flat_units.min()) <= int(flat_units.max()) < CHANNELS:
        raise DataError(
            f"{path}: spikes/units must lie in 0 .. 699, "
            f"got {int(flat_units.min())} to {int(flat_units.max())}"
        )
    if not (np.isfinite(flat_times) & (flat_times >= 0)).all():
        raise DataError(f"{path}: spikes/times holds a time that is negative or not finite")
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return flat_times, flat_units.astype(np.uint16), labels.astype(np.int64), offsets


def _dataset(h5py: Any, file: Any, keys: tuple[str, ...], path: Path) -> Any:
    """A data set stored in this very file; links to other files are not followed."""
    node = file
    for key in keys:
        link = node.get(key, getlink=True) if hasattr(node, "keys") else None
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{path}: lacks {'/'.join(keys)}, stored in the file itself")
        node = node[key]
    if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual:
        raise DataError(f"{path}: {'/'.join(keys)} must be a data set stored in the file itself")
    declared = math.prod(node.shape or (0,)) * 16
    if declared > MOST_RATIO * node.id.get_storage_size() + MOST_RATIO:
        raise DataError(
            f"{path}: {'/'.join(keys)} of shape {node.shape} is far larger than what is stored of "
            "it; the file is damaged"
        )
    fits(declared, f"{path}: {'/'.join(keys)} of shape {node.shape}", "the file is damaged")
    return node


@dataclass(frozen=True, eq=False)
class Binned:
    """The spikes of a sample counted in `steps` bins of `width` seconds, uint8 [T, 700].

    bin = floor(time / width); spikes after the last bin are left out. With `clip` a bin is 0 or 1.

    Raises: DataError if a bin holds more than 255 spikes.
    """

    spikes: dict[Split, Spikes]
    steps: int
    width: float
    clip: bool

    def __call__(self, item: tuple[Split, int], draws: Draws) -> Array:
        split, number = item
        spikes = self.spikes[split]
        part = slice(int(spikes.offsets[number]), int(spikes.offsets[number + 1]))
        step = np.floor(spikes.times[part].astype(np.float64) / self.width).astype(np.int64)
        inside = step < self.steps
        place = step[inside] * CHANNELS + spikes.units[part][inside]
        x = np.bincount(place, minlength=self.steps * CHANNELS).reshape(self.steps, CHANNELS)
        if self.clip:
            x = np.minimum(x, 1)
        elif int(x.max()) > np.iinfo(np.uint8).max:
            raise DataError(f"SHD {split} sample {number}: {int(x.max())} spikes in one bin")
        return x.astype(np.uint8)


def shd(
    root: Path,
    name: str,
    source: str,
    licence: str,
    steps: int = 250,
    width: float = 0.0056,
    clip: bool = False,
) -> Lazy:
    """SHD as x [T, N, 700], spikes counted in `steps` bins of `width` seconds, in 20 classes.

    The papers do not say the width, nor whether several spikes of a bin count once: 250 bins of
    5.6 ms (1.4 s) and counts are our choice. Published numbers of samples differ by version.

    Raises: DataError if a file is missing or damaged.
    """
    if steps < 1 or not width > 0:
        raise DataError(f"SHD: steps and width must be positive, got {steps} and {width}")
    spikes: dict[Split, Spikes] = {}
    digest = hashlib.sha256()
    for split, file in FILES.items():
        path = find(root, (file,))
        if path is None:
            raise DataError(f"{root}: lacks {file} (unpack {file}.gz)")
        spikes[split] = read_shd(path)
        for array in (spikes[split].times, spikes[split].units):
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return Lazy(
        [("train", i) for i in range(len(spikes["train"].labels))],
        spikes["train"].labels,
        [("test", i) for i in range(len(spikes["test"].labels))],
        spikes["test"].labels,
        read=Binned(spikes, steps, width, clip),
        name=name,
        features=(CHANNELS,),
        version=f"shd 1 {steps} {width!r} {clip} {digest.hexdigest()}",
        label="real",
        layout="TNF",
        source=f"{source}; {steps} bins of {width * 1e3:g} ms, {'0 or 1' if clip else 'counts'}",
        licence=licence,
    )
