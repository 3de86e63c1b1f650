"""What a spawned process does: decode samples into shared memory, one task after another."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx.data.arrays import DataError
from snnx.data.ring import Ring, Shape

if TYPE_CHECKING:
    from snnx.data.augment import Augmentation

IDLE = -1
KEPT = 64 << 20
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt; an array above the second is handed back
# what a reader may raise for a file of others; all else is a fault of the code and ends the process
FROM_FILES = (DataError, OSError, ValueError, MemoryError)


@dataclass(frozen=True, slots=True)
class Task:
    """Samples start .. stop - 1 of a slot, whose positions in their split lie there already."""

    ring: str
    shape: Shape
    slot: int
    start: int
    stop: int
    split: Any
    seed: int
    epoch: int
    augment: Augmentation | None


@dataclass(frozen=True, slots=True)
class Done:
    """A task that ended, with the place of the first sample that failed and why, or None."""

    slot: int
    failed: int | None = None
    kind: str = ""
    reason: str = ""


def keep_memory() -> bool:
    """Let glibc keep up to KEPT bytes that were freed; return False where there is no glibc.

    Otherwise every large array of a sample is handed back to the system and asked for again, page
    by page, which costs as much as decoding a recording.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return all([mallopt(MMAP_THRESHOLD, KEPT // 2) == 1, mallopt(TRIM_THRESHOLD, KEPT) == 1])


def serve(number: int, source: Any, connection: Connection, board: str) -> None:
    """Take tasks until there are no more or the other side is gone.

    `board` names shared memory in which entry `number` holds the position of the sample that is
    being read, so that it can be named should this process die over it.
    """
    # the parent ends a run in order, and needs its workers until then
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_memory()
    memory = SharedMemory(board)
    ring: Ring | None = None
    try:
        while (task := connection.recv()) is not None:
            if ring is None or ring.name != task.ring:
                if ring is not None:
                    ring.close()
                ring = Ring(task.shape, task.ring)
            connection.send(_done(task, source, ring, partial(write, memory, number)))
    except (EOFError, ConnectionError):
        pass  # the parent is gone, and so is the work
    finally:
        memory.close()
        if ring is not None:
            ring.close()


def write(board: SharedMemory, number: int, position: int) -> None:
    """Put up the position that a process reads, in eight bytes of its own."""
    buffer: Any = board.buf
    buffer[8 * number : 8 * number + 8] = position.to_bytes(8, "little", signed=True)


def read(board: SharedMemory, number: int) -> int:
    """The position that a process reads, or IDLE."""
    buffer: Any = board.buf
    return int.from_bytes(buffer[8 * number : 8 * number + 8], "little", signed=True)


def _done(task: Task, source: Any, ring: Ring, say: Callable[[int], None]) -> Done:
    """Decode the samples of a task, one by one, so that memory is that of one sample."""
    from snnx.data.batches import Batches  # which imports what begins this process

    batches = Batches(source, task.split, 1, task.seed, augment=task.augment)
    x, rest = ring.slot(task.slot)
    for n in range(task.start, task.stop):
        position = rest[0, n : n + 1].copy()
        say(int(position[0]))
        try:
            one = batches.take(position, task.epoch)
            found = np.moveaxis(one["x"], len(source.layout) - 2, 0)[0]
            if found.shape != x.shape[1:]:
                raise DataError(f"the sample is {found.shape}, the first one {x.shape[1:]}")
        except FROM_FILES as error:
            say(IDLE)
            return Done(task.slot, n, type(error).__name__, str(error))
        x[n], rest[1, n] = found, one["y"][0]
        rest[2, n] = one["length"][0] if "length" in one else 0
    say(IDLE)
    return Done(task.slot)
