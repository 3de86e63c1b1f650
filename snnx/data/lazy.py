"""Data sets that are decoded a batch at a time, because they do not fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np

from snnx.data.arrays import Array, DataError, Dataset, Label, Layout, Split
from snnx.data.draws import Draws
from snnx.data.files import fits

if TYPE_CHECKING:
    from snnx.data.augmented import Augmented
    from snnx.data.streamed import Streamed

Read: TypeAlias = Callable[[Any, Draws], Array]


@dataclass(frozen=True, eq=False)
class Lazy:
    """Samples that `read(item, draws)` decodes one by one, with their labels.

    An item names a sample (a path, or a tuple of plain values) and `read` gives [*F] in layout "NF"
    and [T, *F] in layout "TNF", of the same shape for all. `draws` are those of this sample alone;
    a reader may take its random crop or its random start from them (`random` says that it does).
    Decoding is done where it is asked for, in this process, or ahead in several (`Streamed`).

    `hash` covers the items' text, the labels and `version`, not the bytes of the files.

    Raises: DataError if a split is empty or items and labels differ in number.
    """

    items_train: Sequence[Any]
    y_train: Array
    items_test: Sequence[Any]
    y_test: Array
    read: Read
    name: str
    features: tuple[int, ...]
    version: str
    label: Label = "unstated"
    layout: Layout = "NF"
    full_scale: float = 1.0
    random: bool = False
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for split in get_args(Split):
            items, y = self.samples(split)
            if len(items) == 0 or len(items) != len(y):
                raise DataError(
                    f"data set {self.name!r}: {split} has {len(items)} samples and {len(y)} labels"
                )
            if int(y.min()) < 0:
                raise DataError(f"data set {self.name!r}: {split} has a negative label")

    def samples(self, split: Split) -> tuple[Sequence[Any], Array]:
        """Items and labels of a split.

        Raises: ValueError if there is no such split.
        """
        if split == "train":
            return self.items_train, self.y_train
        if split == "test":
            return self.items_test, self.y_test
        raise ValueError(f"data set {self.name!r}: split must be 'train' or 'test', got {split!r}")

    def size(self, split: Split) -> int:
        """The number of samples in a split."""
        return len(self.samples(split)[1])

    @property
    def classes(self) -> int:
        """The number of classes: the largest label plus one."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of version, items and labels."""
        digest = hashlib.sha256(f"snnx lazy data 1 {self.layout} {self.version}".encode())
        for split in get_args(Split):
            items, y = self.samples(split)
            for item, label in zip(items, y, strict=True):
                digest.update(f"\n{split} {_text(item)} {int(label)}".encode())
        return digest.hexdigest()

    @property
    def id(self) -> str:
        """The name and the first 12 digits of the hash."""
        return f"{self.name}@{self.hash[:12]}"

    def take(self, split: Split, draws: Draws) -> tuple[Array, Array, Array | None]:
        """x [N, *F] or [T, N, *F], y [N] and no lengths, of the samples at `draws.index`."""
        items, y = self.samples(split)
        decoded = [self.read(items[int(i)], draws.of(n)) for n, i in enumerate(draws.index)]
        return np.stack(decoded, axis=len(self.layout) - 2), y[draws.index], None

    def in_memory(self) -> Dataset:
        """The whole data set, decoded once.

        Raises: DataError if it does not fit, or if every epoch reads it anew.
        """
        if self.random:
            raise DataError(
                f"data set {self.name!r}: every epoch draws its samples anew, so it cannot be "
                "decoded once; use it from source()"
            )
        arrays: list[Array] = []
        for split in get_args(Split):
            items, y = self.samples(split)
            draws = Draws(0, 0, np.arange(len(items)), split)
            first = self.read(items[0], draws.of(0))
            fits(
                first.nbytes * len(items),
                f"data set {self.name!r}: {split}",
                "read it in batches, from source()",
            )
            axis = len(self.layout) - 2
            x = np.empty((*first.shape[:axis], len(items), *first.shape[axis:]), first.dtype)
            for n, item in enumerate(items):
                np.moveaxis(x, axis, 0)[n] = self.read(item, draws.of(n))
            arrays += [x, y]
        return Dataset(
            *arrays,
            name=self.name,
            label=self.label,
            layout=self.layout,
            full_scale=self.full_scale,
            source=self.source,
            licence=self.licence,
        )


Stored: TypeAlias = Dataset | Lazy
"""A data set in memory, or one decoded a batch at a time."""

Source: TypeAlias = "Stored | Augmented | Streamed"
"""What batches are made of."""


def _text(item: Any) -> str:
    """An item without the folders above its class, which differ from machine to machine."""
    parts = item if isinstance(item, tuple) else (item,)
    return " ".join("/".join(p.parts[-2:]) if hasattr(p, "parts") else str(p) for p in parts)
