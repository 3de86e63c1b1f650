"""Batch norm's own passes over memory as operators: near one read of x, and one read and write.

snnx::norm_moments(x) -> mean, biased variance        of [..., C], per channel, in float32
snnx::norm_settled(g, x, slope, level) -> g - (x slope + level)
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnx.emit.norm import norm_pass
from snnx_torch.kernels.loading import function, interpreting, on
from snnx_torch.kernels.operator import fake, operator

SLAB = 64  # channels of a program
BLOCK = 8192  # values of a block that is added up: 32 for each of 256 threads
MOVED = 4096  # values of a block that is written
PROGRAMS = 264  # two for each of 132 multiprocessors
JOINED = 8  # channels of a program that joins the others
INTERPRETED = 32  # values of a block where Triton interprets: rows one by one, not as a tree


def _blocks(channels: int, size: int) -> tuple[int, int]:
    """Return the rows and channels of a block of `size` values."""
    slab = min(1 << (channels - 1).bit_length(), SLAB)
    return max((min(size, INTERPRETED) if interpreting() else size) // slab, 1), slab


@operator("norm_moments")
def norm_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance per channel."""
    x = x.contiguous()
    channels = x.shape[-1]
    rows = x.numel() // channels
    block, slab = _blocks(channels, BLOCK)
    slabs = -(-channels // slab)
    programs = max(min(PROGRAMS // slabs, -(-rows // block)), 1)
    turns = -(-rows // (block * programs))
    form = {"dtype": torch.float32, "device": x.device}
    means, squares = (torch.empty((programs, channels), **form) for _ in range(2))
    counts = torch.empty((programs,), **form)
    mean, var = (torch.empty((channels,), **form) for _ in range(2))
    options = {"enable_fp_fusion": False, "num_warps": 8}
    parts = (means, squares, counts)
    first, second = function(norm_pass("moments")), function(norm_pass("joined"))
    join = {"ROWS": 1 << (programs - 1).bit_length(), "SLAB": JOINED, "num_warps": 4}
    with on(x.device):
        first[(programs, slabs)](
            x, *parts, rows, channels, programs, turns, ROWS=block, SLAB=slab, **options
        )
        second[(-(-channels // JOINED),)](
            *parts, mean, var, channels, programs, **join, enable_fp_fusion=False
        )
    return mean, var


@fake(norm_moments)
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    made = x.new_empty((x.shape[-1],), dtype=torch.float32)
    return made, torch.empty_like(made)


@operator("norm_settled")
def norm_settled(g: Tensor, x: Tensor, slope: Tensor, level: Tensor) -> Tensor:
    """Return g - (x slope + level) in the dtype of g, computed in float32."""
    g, x = g.contiguous(), x.contiguous()
    channels = x.shape[-1]
    rows = x.numel() // channels
    block, slab = _blocks(channels, MOVED)
    found = torch.empty_like(g)
    run = function(norm_pass("settled"))
    options = {"enable_fp_fusion": False, "num_warps": 4}
    grid = (-(-rows // block), -(-channels // slab))
    with on(x.device):
        run[grid](g, x, slope, level, found, rows, channels, ROWS=block, SLAB=slab, **options)
    return found


@fake(norm_settled)
def _(g: Tensor, x: Tensor, slope: Tensor, level: Tensor) -> Tensor:
    return torch.empty_like(g, memory_format=torch.contiguous_format)


def moments(x: Tensor, copies: int) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of a sequence of one copy, each [1, 1, C]."""
    mean, var = torch.ops.snnx.norm_moments(x)
    return mean.reshape(1, 1, -1), var.reshape(1, 1, -1)
