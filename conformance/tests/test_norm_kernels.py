"""Batch norm's passes over memory: interpreted by Triton, and compiled for a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snnx.emit.norm import norm_pass

HERE = Path(__file__).parent
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "triton"))
pytestmark = pytest.mark.skipif(not INSTALLED, reason="torch or triton is not installed")


@pytest.mark.slow
def test_the_interpreted_passes_agree():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / "triton_norm.py")],
        cwd=HERE.parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) == 23


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton compiles nothing")
@pytest.mark.parametrize("data", ["fp32", "bf16"])
@pytest.mark.parametrize("which", ["moments", "joined", "settled"])
def test_the_passes_compile_for_a_gpu_and_load_whole_words(which, data):
    import triton  # type: ignore[import-not-found]
    from triton.backends.compiler import GPUTarget  # type: ignore[import-not-found]
    from triton.compiler import ASTSource  # type: ignore[import-not-found]

    from snnx_torch.kernels import norm
    from snnx_torch.kernels.loading import function

    source = norm_pass(which)
    pointers = {"data": f"*{data}", "float": "*fp32"}
    types = {a.name: "i32" if a.role == "size" else pointers[a.kind] for a in source.arguments}
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(types))}
    size = norm.BLOCK if which == "moments" else norm.MOVED
    blocks = {"ROWS": size // norm.SLAB, "SLAB": norm.SLAB}
    if which == "joined":
        blocks = {"ROWS": 512, "SLAB": norm.JOINED}
    made: Any = triton.compile(
        ASTSource(
            function(source), {**types, **dict.fromkeys(blocks, "constexpr")}, blocks, aligned
        ),
        target=GPUTarget("cuda", 90, 32),
        options={"enable_fp_fusion": False, "num_warps": 8 if which == "moments" else 4},
    )
    ptx = made.asm["ptx"]
    assert "f64" not in ptx
    assert "local" not in ptx
    if which != "joined":
        assert re.search(r"ld\.global\.v4", ptx)
