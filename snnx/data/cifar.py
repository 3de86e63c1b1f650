"""CIFAR-10 and CIFAR-100 in their binary version; the Python version is a pickle and is refused.

A record is 1 label byte (CIFAR-10) or a coarse and a fine one (CIFAR-100), then 3072 bytes: the
red, green and blue plane of 32 x 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Array, DataError, Dataset
from snnx.data.files import exactly, find, fits, reading

PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class Variant:
    """Where the files are, what a record is, and which archive to get."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    folders: tuple[str, ...]
    label_bytes: int
    classes: int
    archive: str
    python_folder: str
    python_file: str


CIFAR10 = Variant(
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test=("test_batch.bin",),
    folders=("", "cifar-10-batches-bin"),
    label_bytes=1,
    classes=10,
    archive="cifar-10-binary.tar.gz",
    python_folder="cifar-10-batches-py",
    python_file="data_batch_1",
)
CIFAR100 = Variant(
    train=("train.bin",),
    test=("test.bin",),
    folders=("", "cifar-100-binary"),
    label_bytes=2,
    classes=100,
    archive="cifar-100-binary.tar.gz",
    python_folder="cifar-100-python",
    python_file="train",
)
VARIANTS = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def locate(root: Path, variant: Variant) -> dict[str, Path]:
    """The binary files that are in `root` or its usual folder.

    Raises: DataError if only the Python version is there.
    """
    found = {name: find(root, (name,), variant.folders) for name in variant.train + variant.test}
    there = {name: path for name, path in found.items() if path is not None}
    pickled = find(root, (variant.python_file,), ("", variant.python_folder))
    if not there and pickled is not None:
        raise DataError(
            f"{pickled}: is the Python version of the data, a pickle, which is never loaded; get "
            f'the "binary version (suitable for C programs)", {variant.archive}'
        )
    return there


def read_records(path: Path, variant: Variant) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [N, 32, 32, 3] and (fine) labels [N] of one file.

    Raises: DataError if the file is missing, no whole number of records, or has a label too large.
    """
    record = variant.label_bytes + PIXELS
    with reading(path) as file:
        size = path.stat().st_size
        if size == 0 or size % record:
            raise DataError(
                f"{path}: must be records of {record} bytes, got {size} bytes: it is truncated, "
                f"or not from {variant.archive}; unpack that archive again"
            )
        fits(size, str(path), "it is not the file it is named after")
        data = np.frombuffer(exactly(file, size, path, "the records"), np.uint8)
    records = data.reshape(-1, record)
    labels = records[:, variant.label_bytes - 1]
    if int(labels.max()) >= variant.classes:
        raise DataError(
            f"{path}: labels must lie in 0 .. {variant.classes - 1}, got {int(labels.max())} in "
            f"record {int(labels.argmax())}; is it from {variant.archive}?"
        )
    planes = records[:, variant.label_bytes :].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels.copy()


def cifar(root: Path, name: str, source: str, licence: str) -> Dataset:
    """50000 and 10000 colour images x [N, 32, 32, 3], bytes with `full_scale` 255.

    `name` is "cifar10" or "cifar100" (fine labels).

    Raises: DataError for a missing or damaged file, or if only the Python version is there.
    """
    variant = VARIANTS[name]
    found = locate(root, variant)
    missing = [part for part in variant.train + variant.test if part not in found]
    if missing:
        raise DataError(f"{root}: lacks {', '.join(missing)} (from {variant.archive})")
    arrays: list[Array] = []
    for parts in (variant.train, variant.test):
        x, y = zip(*(read_records(found[part], variant) for part in parts), strict=True)
        arrays += [np.concatenate(x), np.concatenate(y)]
    return Dataset(
        *arrays, name=name, label="real", full_scale=255.0, source=source, licence=licence
    )
