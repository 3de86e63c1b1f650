"""A data set with what a run does to it before training: augmentation, and samples held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Array, DataError, Label, Layout, Split
from snnx.data.augment import Augmentation
from snnx.data.draws import Draws
from snnx.data.lazy import Lazy, Stored
from snnx.random import permutation

HELD_OUT = "validation"  # what the name of a data set whose test split is held out ends in


class Wrapped:
    """A data set around another, whose name, shapes and identity are those of the other."""

    base: Any

    @property
    def name(self) -> str:
        """The name of the stored data."""
        return self.base.name

    @property
    def label(self) -> Label:
        """What the stored data are."""
        return self.base.label

    @property
    def layout(self) -> Layout:
        """The axes of x."""
        return self.base.layout

    @property
    def features(self) -> tuple[int, ...]:
        """The shape *F of one sample at one time step; no augmentation changes it."""
        return self.base.features

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.base.classes

    @property
    def hash(self) -> str:
        """The hash of the stored data."""
        return self.base.hash

    @property
    def id(self) -> str:
        """The name and the first 12 digits of the hash."""
        return self.base.id

    @property
    def source(self) -> str:
        """Where the stored data are from."""
        return self.base.source

    @property
    def licence(self) -> str:
        """The licence of the stored data."""
        return self.base.licence

    def size(self, split: Split) -> int:
        """The number of samples in a split."""
        return self.base.size(split)


@dataclass(frozen=True, eq=False)
class Augmented(Wrapped):
    """A data set whose samples are what an augmentation makes of the stored ones.

    Training samples are drawn anew every epoch; those of the test split get the test part. Whoever
    asks for a batch gets them so: training, evaluation, and what a method measures. `hash` and
    `id` are those of the stored data; the recipe names the augmentation.
    """

    base: Stored
    augmentation: Augmentation
    full_scale: float = 1.0

    def take(self, split: Split, draws: Draws) -> tuple[Array, Array, Array | None]:
        """x, y and the lengths, or None, of the samples at `draws.index`, augmented."""
        x, y, lengths = self.base.take(split, draws)
        return self.augmentation(x, draws), y, lengths


def held_out(dataset: Stored, share: float) -> Stored:
    """The data set with a share of its training split in place of the test split.

    For choices, which the test split must not see. The samples are those at the first
    round(share N) places of a fixed permutation of the training split, the same in every run; the
    name then ends in "-validation".

    Raises: DataError where share is not above 0 and below 1, or leaves one of the two empty.
    """
    samples = dataset.size("train")
    count = round(share * samples) if 0 < share < 1 else 0
    if not 0 < count < samples:
        raise DataError(
            f"data set {dataset.name!r}: validation is a share of the {samples} training samples "
            f"that leaves some on both sides, not {share}"
        )
    order = permutation(0, "validation", "train", samples, 0)
    out, kept = np.sort(order[:count]), np.sort(order[count:])
    name = f"{dataset.name}-{HELD_OUT}"
    if isinstance(dataset, Lazy):
        items, y = dataset.samples("train")
        return replace(
            dataset,
            items_train=[items[int(i)] for i in kept],
            y_train=y[kept],
            items_test=[items[int(i)] for i in out],
            y_test=y[out],
            name=name,
        )
    x, y, lengths = dataset.arrays("train")

    def some(places: NDArray[np.int64]) -> tuple[Array, Array, Array | None]:
        picked = None if lengths is None else lengths[places]
        return np.take(x, places, len(dataset.layout) - 2), y[places], picked

    train, test = some(kept), some(out)
    return replace(
        dataset,
        x_train=train[0],
        y_train=train[1],
        lengths_train=train[2],
        x_test=test[0],
        y_test=test[1],
        lengths_test=test[2],
        name=name,
    )
