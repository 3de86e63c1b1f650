"""The processes of a run on MLX: ring, JACCL or NCCL, whichever mlx.launch chose.

The gradient of MLX's own collectives is not that of a sum over processes (`all_sum` hands the
cotangent on as it is), so that no collective stands where MLX differentiates: they are called in
hand-written gradients, and after them.

MLX evaluates a graph in an order of its own, which depends on shapes too, and a process with fewer
samples would meet the others in another collective of the same size. So each depends on the one
before it, in the order of the program, and what does not count is multiplied by 0, not left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from snnx.backend import BackendError, Batch
from snnx.batch import check_share
from snnx.world import ALONE, RankLost, World, joined, launched, patience
from snnx_mlx.arrays import nested_sum


class Ranks:
    """A group of processes, and the last collective of the step that is being built."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.rank, self.size = group.rank(), group.size()
        self._last: mx.array | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Build a step inside: its collectives are a chain of their own."""
        self._last = None
        try:
            yield
        finally:
            self._last = None

    def sum(self, x: mx.array) -> mx.array:
        """Return the sum of x over all processes."""
        return self._after(mx.distributed.all_sum(self._next(x), group=self.group))

    def gather(self, x: mx.array) -> mx.array:
        """Return the x of all processes, [size, *x.shape]."""
        return self._after(mx.distributed.all_gather(self._next(x)[None], group=self.group))

    def _next(self, x: mx.array) -> mx.array:
        return x if self._last is None else mx.depends([x], [self._last])[0]

    def _after(self, y: mx.array) -> mx.array:
        self._last = y
        return y


@dataclass(frozen=True, slots=True)
class Share:
    """A process' part of a batch: `count` of `total` samples; 0 where its sample stands in."""

    ranks: Ranks
    count: int
    total: int

    def values(self, x: mx.array) -> int:
        """Return over how many values of a channel the whole batch's x [T, N, *S, C] goes."""
        return x.size // (x.shape[1] * x.shape[-1]) * self.total

    def moments(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """Return mean and biased variance per channel over the whole batch, of x [T, N, *S, C].

        Each process gives its own mean m_r and variance v_r, and how many samples they count for:
        mean = sum w_r m_r,  var = sum w_r (v_r + (m_r - mean)^2),  w_r = count_r / total.
        """
        n, axes = x.size // x.shape[-1], x.ndim - 1
        mean = nested_sum(x, axes) / n
        centred = x - mean
        var = nested_sum(centred * centred, axes) / n
        count = mx.array([float(self.count)])
        rows = self.ranks.gather(mx.concatenate([mean, var, count]))
        own = rows[:, :-1].reshape(self.ranks.size, 2, -1)
        weight = (rows[:, -1] / self.total)[:, None]
        mean = mx.sum(weight * own[:, 0], axis=0)
        off = own[:, 0] - mean
        return mean, mx.sum(weight * (own[:, 1] + off * off), axis=0)

    def sums(self, *own: mx.array) -> tuple[mx.array, ...]:
        """Return the sums of arrays [C] over all processes that count."""
        joint = self.ranks.sum(mx.stack([self.own(a) for a in own]))
        return tuple(joint[i] for i in range(len(own)))

    def own(self, x: mx.array) -> mx.array:
        """Return x, or zeros where the sample stands in for none."""
        return x * float(bool(self.count))


def share_of(ranks: Ranks | None, batch: Batch) -> Share | None:
    """Return of what a batch is a part; None where the session has no other process."""
    share = check_share(batch, None if ranks is None else ranks.size)
    if ranks is None or ranks.size == 1:
        return None
    n = len(batch["index"])
    return Share(ranks, *(share or (n, n)))


def world(device: mx.Device) -> World:
    """Join the processes that mlx.launch started; see `snnx.backend.Backend.world`."""
    launch = launched()
    if launch is None:
        return ALONE
    if launch.backend != "mlx":
        raise BackendError(
            f"mlx: the processes were started by {launch.launcher}, which is {launch.backend}'s; "
            f"start them with mlx.launch -n N -- snnx ..., or give -b {launch.backend}"
        )
    finding = patience(launch.rank).waiting("the beginning, where they find each other")
    try:
        with finding:
            group = mx.distributed.init(strict=True)
    except RuntimeError as error:
        raise BackendError(
            f"mlx: rank {launch.rank} did not find the other processes: {error}"
        ) from error
    return joined(group.rank(), group.size(), group, HostGather(group, device))


class HostGather:
    """Gathers arrays of the host; `turn` counts how often.

    A process that has lost another one is given bytes that nobody sent, and MLX may not say so. So
    each row begins with its turn, its rank and its length, which are checked.
    """

    def __init__(self, group: Any, device: mx.Device) -> None:
        self.group, self.device, self.turn = group, device, 0
        self.rank, self.size = group.rank(), group.size()

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Return the arrays of all processes, [size, *shape]. Raises: RankLost."""
        self.turn += 1
        wanted = np.array([[self.turn, r, array.nbytes] for r in range(self.size)], np.uint32)
        row = np.frombuffer(wanted[self.rank].tobytes() + array.tobytes(), np.uint8)
        with mx.stream(self.device), lost(self.rank):
            given = mx.distributed.all_gather(mx.array(row)[None], group=self.group)
            rows = np.array(given).reshape(self.size, -1)
        head = wanted[0].nbytes
        heads = np.frombuffer(rows[:, :head].tobytes(), np.uint32).reshape(wanted.shape)
        unlike = np.flatnonzero((heads != wanted).any(1)).tolist()
        if unlike:
            raise RankLost(
                f"rank {self.rank}: another process of the run has died: in exchange {self.turn} "
                f"nothing came of ranks {unlike}"
            )
        return np.frombuffer(rows[:, head:].tobytes(), array.dtype).reshape(-1, *array.shape)


@contextmanager
def lost(rank: int) -> Iterator[None]:
    """Raise RankLost inside for the error with which MLX says that another process has gone."""
    try:
        yield
    except RuntimeError as error:
        # MLX has no type of its own for it; the text begins with the communication's name
        if str(error).startswith(("[ring]", "[jaccl]", "[nccl]")):
            raise RankLost(f"rank {rank}: another process of the run has died ({error})") from error
        raise
