"""IDX files: MNIST and Fashion-MNIST, gzipped or not.

An IDX file is two zero bytes, a type byte (8: unsigned bytes), the number of axes, each axis as a
big-endian uint32, and the values.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import DataError, Dataset
from snnx.data.files import at_end, exactly, find, fits, reading

UNSIGNED_BYTE = 8
FOLDERS = ("", "raw", "data", "MNIST/raw", "FashionMNIST/raw", "package/data")
SIDE = 28
CLASSES = 10
PARTS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def spellings(part: str) -> tuple[str, ...]:
    """The names under which one of the four files is found: with - or . before idx, .gz or not."""
    dotted = part.replace("-idx", ".idx")
    return (part, f"{part}.gz", dotted, f"{dotted}.gz")


def locate(root: Path) -> dict[str, Path]:
    """The files of `PARTS` that are in `root` or a usual folder below it."""
    found = {part: find(root, spellings(part), FOLDERS) for part in PARTS.values()}
    return {part: path for part, path in found.items() if path is not None}


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The bytes of an IDX file with this number of axes.

    Raises: DataError if the file is missing, is no IDX file of bytes, has another number of axes,
    asks for more memory than there is, ends early or goes on.
    """
    with reading(path) as file:
        magic = exactly(file, 4, path, "the IDX magic number")
        if magic[:2] != b"\0\0":
            raise DataError(f"{path}: is no IDX file: it begins with {magic.hex()}, not with 0000")
        if magic[2] != UNSIGNED_BYTE or magic[3] != axes:
            raise DataError(
                f"{path}: must hold unsigned bytes (type 8) in {axes} axes, "
                f"got type {magic[2]} in {magic[3]} axes"
            )
        shape = struct.unpack(f">{axes}I", exactly(file, 4 * axes, path, "the IDX header"))
        size = math.prod(shape)
        if size == 0:
            raise DataError(f"{path}: is empty: shape {shape}")
        fits(size, f"{path} of shape {shape}", "the header is probably damaged")
        data = exactly(file, size, path, f"an array of shape {shape}")
        at_end(file, path, f"an array of shape {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def mnist_like(root: Path, name: str, source: str, licence: str) -> Dataset:
    """60000 and 10000 grey images x [N, 28, 28, 1], bytes with `full_scale` 255, in 10 classes.

    Raises: DataError for a missing or damaged file, other sizes than 28 x 28, or a label above 9.
    """
    found = locate(root)
    missing = [part for part in PARTS.values() if part not in found]
    if missing:
        raise DataError(f"{root}: lacks {', '.join(missing)} (each may end in .gz)")
    arrays = {
        key: read_idx(found[part], 3 if key.startswith("x") else 1) for key, part in PARTS.items()
    }
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        images, labels = found[PARTS[f"x_{split}"]], found[PARTS[f"y_{split}"]]
        if x.shape[1:] != (SIDE, SIDE):
            raise DataError(f"{images}: images must be 28 x 28, got {x.shape[1]} x {x.shape[2]}")
        if len(x) != len(y):
            raise DataError(
                f"{labels}: holds {len(y)} labels for the {len(x)} images of {images.name}"
            )
        if int(y.max()) >= CLASSES:
            raise DataError(
                f"{labels}: labels must lie in 0 .. 9, got {int(y.max())} at {int(y.argmax())}"
            )
    return Dataset(
        arrays["x_train"][..., None],
        arrays["y_train"],
        arrays["x_test"][..., None],
        arrays["y_test"],
        name=name,
        label="real",
        full_scale=255.0,
        source=source,
        licence=licence,
    )
