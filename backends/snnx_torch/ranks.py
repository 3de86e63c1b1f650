"""The processes of a run on torch: NCCL between CUDA devices, gloo between CPUs."""

from __future__ import annotations

import atexit
import os
import re
import weakref
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from snnx.backend import BackendError, Batch
from snnx.batch import check_share
from snnx.world import ALONE, RankLost, World, joined, launched, timeout
from snnx_torch.precision import device_of
from snnx_torch.scan import narrow

SPARE = 60.0  # seconds by which torch's own time-out is later than snnx's, whose message is clearer
_GRAPHS: weakref.WeakSet[Any] = weakref.WeakSet()  # CUDA graphs, which may hold sums of NCCL


class Ranks:
    """A process group. Its sums and gathers have no gradient: who calls them writes it by hand."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of x over all processes, in the memory of x."""
        if torch.compiler.is_compiling():
            dist.all_reduce(x, group=self.group)
            return x
        try:
            dist.all_reduce(x, group=self.group)
        except RuntimeError as error:
            raise RankLost(_lost(self.rank, error)) from error
        return x

    def gather(self, x: Tensor) -> Tensor:
        """Return the x of all processes, [size, *x.shape]."""
        rows = [torch.empty_like(x) for _ in range(self.size)]
        if torch.compiler.is_compiling():
            dist.all_gather(rows, x, group=self.group)
            return torch.stack(rows)
        try:
            dist.all_gather(rows, x, group=self.group)
        except RuntimeError as error:
            raise RankLost(_lost(self.rank, error)) from error
        return torch.stack(rows)


def _lost(rank: int, error: RuntimeError) -> str:
    """Return gloo's or NCCL's finding without the place in their sources and their advice."""
    line = str(error).partition("\n")[0]
    found = re.sub(r"^\[[^]]*\.cc:\d+\] ", "", line).partition(". ")[0]
    return f"rank {rank}: another process of the run has died or hangs ({found})"


@dataclass(frozen=True, slots=True)
class Share:
    """A process' part of a batch: `count` of `total` samples; 0 where its sample stands in."""

    ranks: Ranks
    count: int
    total: int

    def values(self, x: Tensor) -> int:
        """Return over how many values of a channel the whole batch's x [T, N, *S, C] goes."""
        return x.numel() // (x.shape[1] * x.shape[-1]) * self.total

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance per channel over the whole batch, of x [T, N, *S, C].

        Each process gives its own mean m_r and variance v_r, and how many samples they count for:
        mean = sum w_r m_r,  var = sum w_r (v_r + (m_r - mean)^2),  w_r = count_r / total.
        """
        flat = x.reshape(-1, x.shape[-1])
        var, mean = torch.var_mean(flat, dim=0, correction=0)
        count = mean.new_full((1,), self.count)
        rows = self.ranks.gather(torch.cat([mean, var, count]))
        own = rows[:, :-1].reshape(self.ranks.size, 2, -1)
        weight = (rows[:, -1] / self.total)[:, None]
        mean = (weight * own[:, 0]).sum(0)
        return mean, (weight * (own[:, 1] + (own[:, 0] - mean).square())).sum(0)

    def sums(self, *own: Tensor) -> tuple[Tensor, ...]:
        """Return the sums of arrays [C] over all processes that count."""
        joint = torch.stack(own)
        return self.ranks.sum(joint if self.count else torch.zeros_like(joint)).unbind()

    def own(self, x: Tensor) -> Tensor:
        """Return x, or zeros where the sample stands in for none."""
        return x if self.count else torch.zeros_like(x)


def share_of(ranks: Ranks | None, batch: Batch) -> Share | None:
    """Return of what a batch is a part; None where the session has no other process."""
    share = check_share(batch, None if ranks is None else ranks.size)
    if ranks is None:
        return None
    n = len(batch["index"])
    return Share(ranks, *(share or (n, n)))


class SyncNorm(torch.autograd.Function):
    """apply(share, eps, x, weight, bias) -> y, mean, biased variance: `snnx.ops.batch_norm`.

    Mean, variance and the two means of its gradient go over the batch of all processes; the
    gradients of weight and bias are this process' part of a sum, like those of other weights.
    """

    @staticmethod
    def forward(ctx: Any, share: Share, eps: float, x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        wide = x.to(weight.dtype)
        mean, var = share.moments(wide)
        inverse = (var + eps).rsqrt()
        y = weight * ((wide - mean) * inverse) + bias
        ctx.share = share
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, var)
        return narrow(y, x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, mean, inverse = ctx.saved_tensors
        share: Share = ctx.share
        g = grads[0].to(weight.dtype)
        xhat = (x.to(weight.dtype) - mean) * inverse
        over = tuple(range(x.dim() - 1))
        g_bias, g_weight = share.own(g.sum(over)), share.own((g * xhat).sum(over))
        n = share.values(x)
        mean_g, mean_gx = (s / n for s in share.sums(g_bias, g_weight))
        g_x = share.own(weight * inverse * (g - mean_g - xhat * mean_gx))
        return None, None, g_x.to(x.dtype), g_weight, g_bias


def world(device: str | None = None) -> World:
    """Join the processes that torchrun started; see `snnx.backend.Backend.world`."""
    launch = launched()
    if launch is None:
        return ALONE
    if launch.backend != "torch":
        raise BackendError(
            f"torch: the processes were started by {launch.launcher}, which is {launch.backend}'s; "
            "start them with torchrun --nproc-per-node N -m snnx ..., or give -b "
            f"{launch.backend}"
        )
    seconds = timeout()
    kind = _own_device(device)
    if kind == "mps":
        raise BackendError(
            "torch: processes on MPS have no collectives; give -b mlx and start with mlx.launch, "
            'or device="cpu"'
        )
    if not dist.is_initialized():
        limit = timedelta(seconds=seconds + SPARE)
        try:
            dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=limit)
        except (RuntimeError, ValueError) as error:
            raise BackendError(
                f"torch: rank {launch.rank} did not find the other processes: "
                f"{str(error).splitlines()[0]}"
            ) from error
        atexit.register(leave)
    group = dist.group.WORLD
    # arrays of the host go their own way, without the device's queue
    host = Ranks(dist.new_group(backend="gloo") if kind == "cuda" else group)

    def gather(array: np.ndarray) -> np.ndarray:
        row = torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8)
        rows = host.gather(row).numpy()
        return np.frombuffer(rows.tobytes(), array.dtype).reshape(host.size, *array.shape)

    return joined(host.rank, host.size, group, gather)


def _own_device(name: str | None) -> str:
    """Make "cuda" this process' own device, and return the kind of device."""
    if name is not None and ":" in name:
        raise BackendError(
            f"torch: device {name!r} would be that of every process; give {name.split(':')[0]!r}, "
            "of which each process takes its own"
        )
    device = device_of(name)
    if device.type == "cuda":
        local, here = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= here:
            raise BackendError(
                f"torch: {local + 1} processes on a machine of {here} CUDA devices; start as many "
                "as there are: --nproc-per-node " + str(here)
            )
        torch.cuda.set_device(local)
    return device.type


def hold(graph: Any) -> None:
    """Note a recorded graph, which `leave` is to let go of."""
    _GRAPHS.add(graph)


def leave() -> None:
    """Leave the process group; no recorded step can be replayed after it.

    NCCL waits for ever to close a communicator whose sums stand in a graph that still lives, and
    at a process' end sessions live as long as the user's names for them.
    """
    if dist.is_initialized():
        for graph in list(_GRAPHS):
            graph.reset()
        _GRAPHS.clear()
        dist.destroy_process_group()
