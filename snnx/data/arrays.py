"""A data set in memory, checked when it is made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from snnx.data.draws import Draws

Layout: TypeAlias = Literal["NF", "TNF"]
Split: TypeAlias = Literal["train", "test"]
Label: TypeAlias = Literal["real", "semi-synthetic", "synthetic", "unstated"]
Array: TypeAlias = NDArray[Any]

FLOAT32_MAX = np.float64(np.finfo(np.float32).max)


class DataError(ValueError):
    """Data that is missing, damaged, or not what a data set must be."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test arrays with their name, origin and licence.

    Layout "NF" is static input x [N, *F], which a model repeats over its time steps; "TNF" is a
    sequence x [T, N, *F], in which `lengths` [N] may give the valid steps of each padded sample.
    Labels y [N] are classes 0, 1, ... Any real numeric dtype may be stored; batches are float32.
    A batch holds x / `full_scale`: 255 for images of bytes; 1 leaves values as they are.

    `label` says what the data are, and goes into every result: "real", "semi-synthetic" (real
    recordings, simulated sensor), "synthetic", or "unstated" where nobody said.

    Raises: DataError that names the array and what is wrong with it.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    name: str
    label: Label = "unstated"
    layout: Layout = "NF"
    lengths_train: Array | None = None
    lengths_test: Array | None = None
    source: str = ""
    licence: str = ""
    full_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise DataError(
                f"data set {self.name!r}: layout must be 'NF' (x is [N, *F]) or 'TNF' "
                f"(x is [T, N, *F]), got {self.layout!r}"
            )
        if self.label not in get_args(Label):
            raise DataError(
                f"data set {self.name!r}: label must be one of {', '.join(get_args(Label))}, "
                f"got {self.label!r}"
            )
        if not 0.0 < self.full_scale < float("inf"):
            raise DataError(
                f"data set {self.name!r}: full_scale must be a positive number, "
                f"got {self.full_scale}"
            )
        for split in get_args(Split):
            _check_split(self, split)
        train, test = (self.arrays(split)[0].shape for split in get_args(Split))
        axes = len(self.layout) - 1
        if train[axes:] != test[axes:]:
            raise DataError(
                f"data set {self.name!r}: x_train has features {train[axes:]} and x_test "
                f"{test[axes:]}; they must be the same"
            )

    def arrays(self, split: Split) -> tuple[Array, Array, Array | None]:
        """x, y and the lengths, or None, of one split.

        Raises: ValueError if there is no such split.
        """
        if split == "train":
            return self.x_train, self.y_train, self.lengths_train
        if split == "test":
            return self.x_test, self.y_test, self.lengths_test
        raise ValueError(f"data set {self.name!r}: split must be 'train' or 'test', got {split!r}")

    def size(self, split: Split) -> int:
        """The number of samples in a split."""
        return len(self.arrays(split)[1])

    def take(self, split: Split, draws: Draws) -> tuple[Array, Array, Array | None]:
        """x, y and the lengths, or None, of the samples at `draws.index`, as they are stored."""
        x, y, lengths = self.arrays(split)
        positions = draws.index
        some = None if lengths is None else lengths[positions]
        return np.take(x, positions, len(self.layout) - 2), y[positions], some

    @property
    def features(self) -> tuple[int, ...]:
        """The shape *F of one sample at one time step: what a model's `Input` must say."""
        return self.x_train.shape[len(self.layout) - 1 :]

    @cached_property
    def classes(self) -> int:
        """The number of classes: the largest label plus one."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of layout, scale, dtypes, shapes, little-endian bytes of all arrays."""
        digest = hashlib.sha256(f"snnx data 1 {self.layout}".encode())
        if self.full_scale != 1.0:
            digest.update(f" / {self.full_scale!r}".encode())
        for split in get_args(Split):
            for name, array in zip(("x", "y", "lengths"), self.arrays(split), strict=True):
                if array is None:
                    continue
                stored = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
                digest.update(f"\n{split} {name} {stored.dtype.str} {stored.shape}\n".encode())
                digest.update(stored.tobytes())
        return digest.hexdigest()

    @property
    def id(self) -> str:
        """The name and the first 12 digits of the hash."""
        return f"{self.name}@{self.hash[:12]}"


def _check_split(data: Dataset, split: Split) -> None:
    """The laws of one split's arrays."""
    x, y, lengths = data.arrays(split)
    where = f"data set {data.name!r}: "
    for name, array in (("x", x), ("y", y), ("lengths", lengths)):
        if not (isinstance(array, np.ndarray) or (name == "lengths" and array is None)):
            raise DataError(
                f"{where}{name}_{split} must be a NumPy array, got {type(array).__name__}"
            )

    if x.dtype.kind not in "buif":
        raise DataError(
            f"{where}x_{split} must hold real numbers, got dtype {x.dtype}; "
            "convert it, for example with .astype('float32')"
        )
    axes = len(data.layout)
    if x.ndim < axes:
        form = "[N, *F]" if data.layout == "NF" else "[T, N, *F]"
        raise DataError(
            f"{where}x_{split} has layout {data.layout!r} and must be {form} with at least {axes} "
            f"axes, got shape {x.shape}"
        )
    if 0 in x.shape:
        raise DataError(f"{where}x_{split} is empty: shape {x.shape}")
    if x.dtype.kind == "f":
        _check_finite(x, f"{where}x_{split}", data.layout)

    samples = x.shape[axes - 2]
    if y.ndim != 1 or len(y) != samples:
        raise DataError(
            f"{where}y_{split} must be [{samples}], one label for each sample of x_{split} "
            f"(layout {data.layout!r}, shape {x.shape}), got shape {y.shape}"
        )
    if y.dtype.kind not in "ui":
        raise DataError(f"{where}y_{split} must hold integer class labels, got dtype {y.dtype}")
    if int(y.min()) < 0:
        raise DataError(
            f"{where}y_{split} has the negative label {int(y.min())} at position "
            f"{int(y.argmin())}; classes are counted from 0"
        )

    if lengths is None:
        return
    if data.layout != "TNF":
        raise DataError(
            f"{where}lengths_{split} belong to sequences; x_{split} has the static layout 'NF'"
        )
    if lengths.shape != (samples,) or lengths.dtype.kind not in "ui":
        raise DataError(
            f"{where}lengths_{split} must be [{samples}] integers, "
            f"got {lengths.dtype} of shape {lengths.shape}"
        )
    if int(lengths.min()) < 1 or int(lengths.max()) > x.shape[0]:
        raise DataError(
            f"{where}lengths_{split} must lie in 1 .. T = {x.shape[0]}, "
            f"got {int(lengths.min())} to {int(lengths.max())}"
        )


def _check_finite(x: Array, where: str, layout: Layout) -> None:
    """Every value is finite in float32, in which batches are made."""
    # Slice by slice, since a mask as large as the data may not fit beside it.
    for first, part in enumerate(x):
        finite = np.abs(part) <= FLOAT32_MAX
        if not finite.all():
            position = (first, *(int(i) for i in np.argwhere(~finite)[0]))
            axes = ", ".join([*layout[:-1], "*F"])
            raise DataError(
                f"{where} holds {x[position]} at position {position} ([{axes}]), "
                "which is not a finite float32 number; remove or replace such values"
            )
