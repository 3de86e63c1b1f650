"""Batches under way in shared memory: a fixed number of slots that processes fill together."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from snnx.data.arrays import Array, DataError

SHARED = Path("/dev/shm")  # where Linux keeps shared memory; full, it kills who writes to it
ALIGN = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """What a slot holds: `batch` samples of float32 `sample`, and index, y and length of each."""

    slots: int
    batch: int
    sample: tuple[int, ...]

    @property
    def x_bytes(self) -> int:
        """Bytes of the samples of one slot, rounded up."""
        size = 4 * self.batch * math.prod(self.sample)
        return -(-size // ALIGN) * ALIGN

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        return self.x_bytes + 8 * 3 * self.batch

    @property
    def total_bytes(self) -> int:
        """Bytes of all slots."""
        return self.slots * self.slot_bytes


class Ring:
    """The slots, of which the process that has `created` them ends their life.

    Raises: DataError where shared memory has not the room.
    """

    def __init__(self, shape: Shape, name: str | None = None) -> None:
        self.shape, self.created = shape, name is None
        if name is None:
            _room(shape)
            self.memory = SharedMemory(create=True, size=shape.total_bytes)
        else:
            self.memory = SharedMemory(name)

    @property
    def name(self) -> str:
        """The name by which another process finds it."""
        return self.memory.name

    def slot(self, number: int) -> tuple[Array, Array]:
        """x [batch, *sample], and rows index, y, length [3, batch], which are written in place."""
        shape, begin = self.shape, number * self.shape.slot_bytes
        x = np.ndarray((shape.batch, *shape.sample), np.float32, self.memory.buf, begin)
        rest = np.ndarray((3, shape.batch), np.int64, self.memory.buf, begin + shape.x_bytes)
        return x, rest

    def close(self) -> None:
        """Let go of the memory; it is freed when the last process has."""
        # an exception under way may still show the arrays; it lets go of them when it ends
        with suppress(BufferError):
            self.memory.close()
        if self.created:
            self.memory.unlink()


def _room(shape: Shape) -> None:
    if not SHARED.is_dir():
        return
    found = os.statvfs(SHARED)
    free = found.f_bavail * found.f_frsize
    if shape.total_bytes > free:
        raise DataError(
            f"workers: {shape.slots} batches of {shape.batch} samples of {shape.sample} take "
            f"{shape.total_bytes / 2**20:.0f} MiB of shared memory, and {SHARED} has "
            f"{free / 2**20:.0f} MiB left; take a smaller batch_size or prefetch, or give the "
            "container more (docker run --shm-size)"
        )
