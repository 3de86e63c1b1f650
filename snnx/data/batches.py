"""Batches as a pure function of seed, epoch and batch index, the same on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Dataset, Split
from snnx.random import permutation


class Batch(TypedDict):
    """What a session takes: x float32 [N, *F] or [T, N, *F], y int64 [N], index uint32 [N].

    `index` is the sample's position in its split, which names its random draws. `length` int64 [N]
    is there when the sequences are padded.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    index: NDArray[np.uint32]
    length: NotRequired[NDArray[np.int64]]


@dataclass(frozen=True)
class Batches:
    """The batches of one split of a data set.

    With `shuffle` the order of epoch e is `permutation(seed, "shuffle", split, N, e)`, otherwise
    that of the data. The last batch is shorter when N is no multiple of `batch_size`, and left out
    with `drop_last`.

    Raises: ValueError if a batch would be empty or the split has none.
    """

    dataset: Dataset
    split: Split
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False

    def __post_init__(self) -> None:
        samples = self.dataset.size(self.split)
        if self.batch_size < 1:
            raise ValueError(f"Batches: batch_size must be at least 1, got {self.batch_size}")
        if self.drop_last and samples < self.batch_size:
            raise ValueError(
                f"Batches: drop_last leaves no batch, since {self.dataset.name!r} {self.split} has "
                f"{samples} samples and batch_size is {self.batch_size}"
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        samples = self.dataset.size(self.split)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The positions of all samples in the order in which an epoch takes them."""
        samples = self.dataset.size(self.split)
        if not self.shuffle:
            return np.arange(samples)
        return permutation(self.seed, "shuffle", self.split, samples, epoch)

    def take(self, positions: NDArray[np.int64]) -> Batch:
        """The batch of the samples at these positions."""
        x, y, lengths = self.dataset.arrays(self.split)
        axis = len(self.dataset.layout) - 2
        batch: Batch = {
            "x": np.take(x, positions, axis).astype(np.float32, order="C", copy=False),
            "y": y[positions].astype(np.int64),
            "index": positions.astype(np.uint32),
        }
        if lengths is not None:
            batch["length"] = lengths[positions].astype(np.int64)
        return batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches start, start + 1, ... of an epoch; a resumed run begins in its middle.

        Raises: ValueError if `start` lies beyond the epoch.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"Batches: start must lie in 0 .. {len(self)}, got {start}")
        return self._from(self.order(epoch), start)

    def _from(self, order: NDArray[np.int64], start: int) -> Iterator[Batch]:
        for i in range(start, len(self)):
            yield self.take(order[i * self.batch_size : (i + 1) * self.batch_size])
