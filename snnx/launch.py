"""Whether a launcher started this process, and as which of several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """Who started this process, the backend whose processes it joins, and its rank."""

    launcher: str
    backend: str
    rank: int


def launched(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Return what a launcher says in the environment, or None.

    torchrun sets RANK, WORLD_SIZE and MASTER_ADDR; mlx.launch sets MLX_RANK.
    """
    found = os.environ if environment is None else environment
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= found.keys():
        return Launch("torchrun", "torch", int(found["RANK"]))
    if "MLX_RANK" in found:
        return Launch("mlx.launch", "mlx", int(found["MLX_RANK"]))
    return None
