"""Whether a step is compiled: MLX writes C++ or Metal of its own, and on CPU needs g++ for it."""

from __future__ import annotations

import platform
import shutil

import mlx.core as mx

from snnx.backend import BackendError


def compiles(compile: bool | None, device: mx.Device) -> bool:
    """Decide whether the step is compiled.

    Raises: BackendError where compiling was asked for and MLX would quietly not do it.
    """
    on_cpu = device.type == mx.cpu
    missing = on_cpu and platform.system() == "Linux" and shutil.which("g++") is None
    if compile and missing:
        raise BackendError(
            "mlx: compile=True on this CPU needs g++ on PATH, without which MLX runs Python at "
            "every step; install g++ (Debian: apt install g++) or give compile=False"
        )
    # The digits net (conv 32, conv 64, N 32, T 4) on one CPU thread takes 80 ms a step either way,
    # its convolutions being what costs, and a compiled step begins with 5 to 35 s of g++.
    return not on_cpu if compile is None else compile
