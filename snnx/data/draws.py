"""The random numbers of augmentation: a pure function of seed, epoch, sample and name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnx import random
from snnx.data.arrays import Split

PURPOSE = "augment"


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of the samples at the positions `index` [N] of a split, in one epoch.

        counter = (epoch, index[n], 0, i // 4),  key = (seed, key_hash("augment", "SPLIT/NAME"))
        word    = philox(counter, key)[i % 4]

    They depend on no batch split: two batches give a sample what one batch gives it.
    """

    seed: int
    epoch: int
    index: NDArray[Any]
    split: Split = "train"

    def __len__(self) -> int:
        return len(self.index)

    def uniform(self, name: str, count: int = 1) -> NDArray[np.float32]:
        """Uniform float32 in [0, 1), [N, count]."""
        path = f"{self.split}/{name}"
        return random.uniform(self.seed, PURPOSE, path, self.epoch, self.index, [0], count)[0]

    def integers(self, high: int, name: str, count: int = 1) -> NDArray[np.int64]:
        """Integers in [0, high), int64 [N, count]."""
        path = f"{self.split}/{name}"
        return random.integers(high, self.seed, PURPOSE, path, self.epoch, self.index, [0], count)[
            0
        ]

    def of(self, n: int) -> Draws:
        """The draws of the n-th sample alone."""
        return Draws(self.seed, self.epoch, self.index[n : n + 1], self.split)
