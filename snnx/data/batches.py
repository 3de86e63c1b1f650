"""Batches as a pure function of seed, epoch and batch index, the same on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Split
from snnx.data.augment import Augmentation
from snnx.data.draws import Draws
from snnx.data.lazy import Source
from snnx.data.streamed import Streamed
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

    Without `augment`, x is what is stored divided by the data set's `full_scale`. With it, x is
    what the augmentation of this split makes of the stored values, by draws of (seed, epoch,
    index).

    Raises: ValueError if a batch would be empty or the split has none.
    """

    dataset: Source
    split: Split
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    augment: Augmentation | None = None

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

    def take(self, positions: NDArray[np.int64], epoch: int = 0) -> Batch:
        """The batch of the samples at these positions, as an epoch sees them."""
        draws = Draws(self.seed, epoch, positions, self.split)
        x, y, lengths = self.dataset.take(self.split, draws)
        if self.augment is not None:
            x = self.augment(x, draws)
        x = x.astype(np.float32, order="C", copy=False)
        if self.augment is None and self.dataset.full_scale != 1.0:
            x = x / np.float32(self.dataset.full_scale)
        batch: Batch = {"x": x, "y": y.astype(np.int64), "index": positions.astype(np.uint32)}
        if lengths is not None:
            batch["length"] = lengths.astype(np.int64)
        return batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches start, start + 1, ... of an epoch; a resumed run begins in its middle.

        Raises: ValueError if `start` lies beyond the epoch.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"Batches: start must lie in 0 .. {len(self)}, got {start}")
        return self._from(epoch, start)

    def _from(self, epoch: int, start: int) -> Iterator[Batch]:
        order, size = self.order(epoch), self.batch_size
        wanted = (order[i * size : (i + 1) * size] for i in range(start, len(self)))
        if isinstance(self.dataset, Streamed):
            yield from self.dataset.stream(self, wanted, epoch)
        else:
            yield from (self.take(positions, epoch) for positions in wanted)
