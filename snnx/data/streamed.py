"""A data set whose batches are decoded ahead by a pool of processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import DataError, Split
from snnx.data.augmented import Wrapped
from snnx.data.pool import PATIENCE, Pool, named
from snnx.data.ring import Ring, Shape
from snnx.data.worker import Done, Task

if TYPE_CHECKING:
    from snnx.data.batches import Batch, Batches
    from snnx.data.lazy import Stored


@dataclass(eq=False)
class Streamed(Wrapped):
    """A data set that `workers` spawned processes decode, at most `prefetch` batches ahead.

    Batches are those of the data set itself, bit for bit, for any number of workers, and begin
    anywhere in an epoch: a batch is a function of seed, epoch and positions alone. The samples of
    a batch are divided among all processes and decoded into shared memory, which holds `prefetch`
    batches; where they are full, decoding waits. So at most prefetch + 1 batches are held, the one
    handed out included. The pool begins with the first batch, and serves one epoch at a time.

    What a reader raises for a file is raised here as DataError when its batch is due. A process
    that dies is one at once, naming the sample that it was at; so are `patience` seconds without
    any. A data set in memory is copied into every process.
    """

    base: Stored | Any
    workers: int
    prefetch: int = 3
    patience: float = PATIENCE
    _pool: Pool | None = field(default=None, init=False, repr=False)
    _streams: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("workers", "prefetch"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise DataError(f"{name}: a whole number of at least 1, not {value!r}")

    @property
    def full_scale(self) -> float:
        """What a batch divides by."""
        return self.base.full_scale

    def take(self, split: Split, draws: Any) -> Any:
        """x, y and the lengths, or None, of the samples at `draws.index`, decoded here."""
        return self.base.take(split, draws)

    def close(self) -> None:
        """End the processes; the next epoch begins new ones."""
        if self._pool is not None and not self._pool.closed:
            self._pool.close()
        self._pool = None

    def stream(
        self, batches: Batches, wanted: Iterator[NDArray[np.int64]], epoch: int
    ) -> Iterator[Batch]:
        """Yield the batches of the samples at the `wanted` positions.

        Raises: DataError for a sample that cannot be decoded, a process that died, or where another
        epoch was begun meanwhile.
        """
        positions = next(wanted, None)
        if positions is None:
            return
        one = batches.take(positions[:1], epoch)
        axis = len(self.layout) - 2
        sample = tuple(np.moveaxis(one["x"], axis, 0).shape[1:])
        if self._pool is None or self._pool.closed:
            self._pool = Pool(self.base, self.workers, self.patience)
        pool = self._pool
        pool.settle(batches.split)  # of an epoch that was left in its middle
        self._streams += 1
        run = _Run(self._streams, pool, batches, epoch, "length" in one)
        ring = Ring(Shape(self.prefetch, batches.batch_size, sample))
        free, due = deque(range(self.prefetch)), deque[_Slot]()
        try:
            while True:
                while free and positions is not None:
                    due.append(run.begin(ring, free.popleft(), positions))
                    positions = next(wanted, None)
                if not due:
                    return
                head = due.popleft()
                if self._streams != run.number:
                    raise DataError("workers: another epoch was begun; one goes at a time")
                while head.left:
                    for done in pool.receive(batches.split):
                        for slot in (head, *due):
                            slot.take(done)
                if head.failed is not None:
                    raise DataError(run.failure(head))
                batch = run.batch(ring, head, axis)
                free.append(head.number)
                if positions is not None:  # before the batch is used, so that they have work
                    due.append(run.begin(ring, free.popleft(), positions))
                    positions = next(wanted, None)
                yield batch
        finally:
            if self._streams == run.number and not pool.closed:
                pool.settle(batches.split)
            ring.close()


@dataclass(slots=True)
class _Slot:
    """A batch under way: how many tasks are left of it, and its first failure."""

    number: int
    positions: NDArray[np.int64]
    left: int
    failed: Done | None = None

    def take(self, done: Done) -> None:
        """Count a task that ended, if it is of this slot."""
        if done.slot != self.number:
            return
        self.left -= 1
        if done.failed is not None and (
            self.failed is None or done.failed < (self.failed.failed or 0)
        ):
            self.failed = done


@dataclass(frozen=True, slots=True)
class _Run:
    """What all batches of one epoch have in common."""

    number: int
    pool: Pool
    batches: Batches
    epoch: int
    lengths: bool

    def begin(self, ring: Ring, slot: int, positions: NDArray[np.int64]) -> _Slot:
        """Divide a batch among the processes."""
        count, workers, batches = len(positions), len(self.pool), self.batches
        ring.slot(slot)[1][0, :count] = positions
        cuts = [count * w // workers for w in range(workers + 1)]
        found = _Slot(slot, positions, 0)
        for worker in range(workers):
            start, stop = cuts[worker], cuts[worker + 1]
            if start < stop:
                place = (ring.name, ring.shape, slot, start, stop)
                what = (batches.split, batches.seed, self.epoch, batches.augment)
                self.pool.send(worker, Task(*place, *what))
                found.left += 1
        return found

    def batch(self, ring: Ring, slot: _Slot, axis: int) -> Batch:
        """A decoded batch, copied out of the slot."""
        count = len(slot.positions)
        x, rest = ring.slot(slot.number)
        found: Batch = {
            "x": np.moveaxis(x[:count], 0, axis).copy(),
            "y": rest[1, :count].copy(),
            "index": slot.positions.astype(np.uint32),
        }
        if self.lengths:
            found["length"] = rest[2, :count].copy()
        return found

    def failure(self, slot: _Slot) -> str:
        """What is said of a sample that could not be decoded."""
        failed = slot.failed
        if failed is None or failed.failed is None:
            raise ValueError(f"slot {slot.number}: has not failed")
        if failed.kind == "DataError":
            return failed.reason
        position = int(slot.positions[failed.failed])
        place = named(self.pool.source, self.batches.split, position)
        return f"{place}: {failed.kind}: {failed.reason}"
