"""Batches as a pure function of seed, epoch and batch index, the same on every backend."""

from __future__ import annotations

from collections import deque
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
from snnx.world import ALONE, World


class Batch(TypedDict):
    """What a session takes: x float32 [N, *F] or [T, N, *F], y int64 [N], index uint32 [N].

    `index` is the sample's position in its split, which names its random draws. `length` int64 [N]
    is there when the sequences are padded, `share` where other processes have the rest of the batch
    (`snnx.world.World.share`).
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    index: NDArray[np.uint32]
    length: NotRequired[NDArray[np.int64]]
    share: NotRequired[tuple[int, int]]


@dataclass(frozen=True)
class Batches:
    """The batches of one split of a data set.

    With `shuffle` the order of epoch e is `permutation(seed, "shuffle", split, N, e)`, otherwise
    that of the data. The last batch is shorter when N is no multiple of `batch_size`, and left out
    with `drop_last`.

    Without `augment`, x is what is stored divided by the data set's `full_scale`. With it, x is
    what the augmentation of this split makes of the stored values, by draws of (seed, epoch,
    index).

    `steps` cuts a batch into `micro` micro-batches of one update, and of each it takes the share of
    this process of `world`; `batch_size` counts all of them. So 1 and N processes see the same.

    Raises: ValueError if a batch would be empty or the split has none.
    """

    dataset: Source
    split: Split
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    augment: Augmentation | None = None
    world: World = ALONE
    micro: int = 1

    def __post_init__(self) -> None:
        samples = self.dataset.size(self.split)
        if self.batch_size < 1:
            raise ValueError(f"Batches: batch_size must be at least 1, got {self.batch_size}")
        if not 1 <= self.micro <= self.batch_size:
            raise ValueError(
                f"Batches: micro must lie in 1 .. batch_size ({self.batch_size}), got {self.micro}"
            )
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

    def epoch(self, epoch: int, start: int = 0, stride: int = 1) -> Iterator[Batch]:
        """The batches start, start + stride, ... of an epoch; a resumed run begins in its middle.

        Raises: ValueError if `start` lies beyond the epoch.
        """
        self._check(start)
        return self._taken(self._from(epoch, start, stride), epoch)

    def steps(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """What this process takes of the batches from `start` on: the micro-batches of each update.

        Raises: ValueError if `start` lies beyond the epoch.
        """
        self._check(start)
        return self._parts(epoch, start)

    def _parts(self, epoch: int, start: int) -> Iterator[list[Batch]]:
        shares: deque[tuple[int, int]] = deque()

        def wanted() -> Iterator[NDArray[np.int64]]:
            for positions in self._from(epoch, start):
                for part in self._cut(positions):
                    own, share = self.world.share(len(part))
                    shares.append(share)
                    yield part[own]

        source = self._taken(wanted(), epoch)
        for positions in self._from(epoch, start):
            parts = [next(source) for _ in self._cut(positions)]
            for part in parts:
                share = shares.popleft()
                if self.world.size > 1:
                    part["share"] = share
            yield parts

    def _check(self, start: int) -> None:
        if not 0 <= start <= len(self):
            raise ValueError(f"Batches: start must lie in 0 .. {len(self)}, got {start}")

    def _cut(self, positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The positions of each micro-batch; a short last batch may have fewer of them."""
        return np.array_split(positions, min(self.micro, len(positions)))

    def _from(self, epoch: int, start: int, stride: int = 1) -> Iterator[NDArray[np.int64]]:
        order, size = self.order(epoch), self.batch_size
        return (order[i * size : (i + 1) * size] for i in range(start, len(self), stride))

    def _taken(self, wanted: Iterator[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        if isinstance(self.dataset, Streamed):
            yield from self.dataset.stream(self, wanted, epoch)
        else:
            yield from (self.take(positions, epoch) for positions in wanted)
