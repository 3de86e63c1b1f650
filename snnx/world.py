"""The processes of one run: which of them this is, and what it takes of a batch.

A launcher (`torchrun`, `mlx.launch`) starts one command several times and says so in the
environment. A backend's `world` joins those processes; `ALONE` is a process that nobody launched.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnx.installed import BackendError
from snnx.launch import Launch as Launch
from snnx.launch import launched as launched
from snnx.patience import Patience

TIMEOUT = "SNNX_TIMEOUT"
DEFAULT_TIMEOUT = 600.0


class RankLost(RuntimeError):
    """Another process of the run has died, hangs, or runs something else."""


def timeout(environment: Mapping[str, str] | None = None) -> float:
    """Return for how many seconds a process waits for the others: SNNX_TIMEOUT, else 600.

    Raises: BackendError where it is no positive number.
    """
    found = os.environ if environment is None else environment
    text = found.get(TIMEOUT, str(DEFAULT_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise BackendError(f"{TIMEOUT}: expects a number of seconds above 0, not {text!r}")
    return seconds


def _alone(array: np.ndarray) -> np.ndarray:
    return array[None]


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run. rank: which this is, of `size`.

    `group` is what `Backend.session` takes; None in a process that nobody launched. `collect` is
    the backend's part of `gather`, `patience` what ends a process that waits too long.
    """

    rank: int = 0
    size: int = 1
    group: Any = None
    collect: Callable[[np.ndarray], np.ndarray] = _alone
    patience: Patience | None = None

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Return the arrays of all processes, of one shape and dtype, as [size, *shape].

        Every process has to call it in the same place.
        """
        with self.waiting("an exchange of figures"):
            return self.collect(array)

    def waiting(self, place: str) -> AbstractContextManager[None]:
        """Return the context in which a process may wait for the others, but not for ever."""
        return nullcontext() if self.patience is None else self.patience.waiting(place)

    def share(self, samples: int) -> tuple[slice, tuple[int, int]]:
        """Return this process' part of a batch, and (samples that count, samples of the batch).

        Parts are contiguous and differ by one sample at most. A process without a sample takes the
        first as a stand-in, which counts for nothing: all must run the same collectives.
        """
        first, last = (samples * r // self.size for r in (self.rank, self.rank + 1))
        if first == last:
            return slice(0, 1), (0, samples)
        return slice(first, last), (last - first, samples)

    def check_alike(self, what: str, text: str) -> None:
        """Raise RankLost where the processes do not all have the same `text`."""
        own = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
        rows = self.gather(own)
        unlike = [r for r in range(self.size) if not np.array_equal(rows[r], rows[0])]
        if unlike:
            raise RankLost(
                f"{what}: differs between the processes; rank 0 and ranks {unlike} do not have "
                "the same. Give every machine the same snnx, the same files and the same command"
            )


ALONE = World()


def patience(rank: int, size: int | None = None) -> Patience:
    """Return what ends this process where it waits longer than was asked for."""
    return Patience(timeout(), f"rank {rank}" + ("" if size is None else f" of {size}"))


def joined(rank: int, size: int, group: Any, collect: Callable[[np.ndarray], np.ndarray]) -> World:
    """Return the world of processes that found each other, with the patience that was asked for.

    Raises: RankLost where those that it found are not those of one launch.
    """
    world = World(rank, size, group, collect, patience(rank, size))
    _check_one_launch(world)
    return world


def _check_one_launch(world: World) -> None:
    """Raise RankLost where this process is linked to processes of another launch.

    Two launches on the same ports may link their processes crosswise, and each then computes with
    the other's numbers. Every process draws a token; in one launch all see the same row of them.
    """
    own = np.frombuffer(np.uint64(world.rank).tobytes() + os.urandom(24), np.uint64)
    rows = world.gather(own)
    ranks_seen = rows[:, 0].tolist()
    digest = np.frombuffer(hashlib.sha256(rows.tobytes()).digest(), np.uint8)
    seen = world.gather(digest)
    if ranks_seen != list(range(world.size)) or (seen != digest).any():
        raise RankLost(
            f"rank {world.rank} of {world.size}: is linked to processes of another launch, which "
            "uses the same ports; start again, each launch on ports of its own "
            "(mlx.launch --starting-port N)"
        )
