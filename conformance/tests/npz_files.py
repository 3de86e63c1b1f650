"""Arrays of two tiny data sets, static and sequences, and the files that hold them."""

from pathlib import Path
from typing import Any

import numpy as np

from snnx.data import Dataset

ARRAYS: dict[str, Any] = {
    "x_train": np.arange(24, dtype=np.uint8).reshape(6, 2, 2),
    "y_train": np.array([0, 1, 2, 0, 1, 2]),
    "x_test": np.ones((2, 2, 2), np.uint8),
    "y_test": np.array([0, 3], np.int8),
}
SEQUENCES: dict[str, Any] = {
    "x_train": np.arange(5 * 4 * 3, dtype=np.float64).reshape(5, 4, 3),
    "y_train": np.array([0, 1, 0, 1]),
    "length_train": np.array([5, 1, 3, 2], np.uint8),
    "x_test": np.zeros((7, 2, 3)),
    "y_test": np.array([1, 0]),
    "length_test": np.array([7, 7]),
    "layout": np.array("TNF"),
}


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def sequences() -> Dataset:
    return Dataset(
        **{k: v for k, v in SEQUENCES.items() if k[:6] not in ("length", "layout")},
        name="sequences",
        layout="TNF",
        lengths_train=SEQUENCES["length_train"],
        lengths_test=SEQUENCES["length_test"],
    )
