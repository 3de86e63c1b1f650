"""g++ in the place of Metal: what MLX's kernels launch is noted, compiled, and run on the host."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from typing import Any

import numpy as np
import pytest

from snnx.emit import Source
from snnx.emit.c_text import cpp_name, cpp_program, grouped
from tests.cpp_groups import HEADER, group_function
from tests.cpp_kernels import build

INSTALLED = importlib.util.find_spec("mlx") is not None and shutil.which("g++") is not None


class HostKernels:
    """Stands for MLX's kernels: first it notes what is launched, then g++ runs it."""

    def __init__(self) -> None:
        self.sources: dict[tuple[Source, str, int], None] = {}
        self.library: Any = None
        self.launches = 0

    def compile(self) -> None:
        """Compile what was noted."""
        alone = [noted for noted in self.sources if not grouped(noted[0])]
        joined = [group_function(s, data) for s, data, _ in self.sources if grouped(s)]
        self.library = build(
            "\n".join([cpp_program(alone), *([HEADER] if joined else []), *joined])
        )

    def execute(
        self,
        source: Source,
        arrays: list[Any],
        data: Any,
        threads: int,
        outputs: list[Any],
        group: int = 256,
    ) -> list[Any]:
        """Run a kernel on the host, as `launch.execute` does on a device."""
        import mlx.core as mx

        name = {mx.float32: "float", mx.float16: "half", mx.bfloat16: "bfloat"}[data]
        self.sources[(source, name, 32)] = None
        if self.library is None:
            return [mx.zeros(shape, dtype) for shape, dtype in outputs]
        raw = {mx.bfloat16: mx.uint16}
        given = [np.array(a.view(raw.get(a.dtype, a.dtype))) for a in arrays]
        types = [np.array(mx.zeros((1,), raw.get(d, d))).dtype for _, d in outputs]
        made = [np.full(s, 77, t) for (s, _), t in zip(outputs, types, strict=True)]
        by_name = dict(zip(source.names("in"), given[:-1], strict=True))
        by_name |= dict(zip(source.names("out"), made, strict=True))
        every = [by_name[n] for n in source.names("in", "out")]
        pointers = (ctypes.c_void_p * len(every))(*(a.ctypes.data for a in every))
        run = getattr(self.library, cpp_name(source, name))
        run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        place = (group, threads // group) if grouped(source) else (0, threads)
        failed = run(pointers, given[-1].ctypes.data, *place)
        assert not (grouped(source) and (failed or threads % group)), source.name
        self.launches += 1
        return [mx.array(a).view(d) for a, (_, d) in zip(made, outputs, strict=True)]


def on_host(monkeypatch: pytest.MonkeyPatch) -> HostKernels:
    """Let MLX's kernels run on the host."""
    from snnx_mlx.kernels import launch

    kernels = HostKernels()
    monkeypatch.setattr(launch, "target", lambda: "metal")
    monkeypatch.setattr(launch, "execute", kernels.execute)
    return kernels
