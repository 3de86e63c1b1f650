"""Triton's kernels: run by its interpreter, and compiled for a GPU that need not be there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snnx import DSR, LIF, Learned, Rectangular, Triangular
from snnx.emit import Rule, Variant, backward, chunk_of, forward, rate_backward, rate_forward, unit
from snnx.emit.layout import kinds
from snnx.emit.triton_text import TritonWriter
from snnx.surrogate import ArcTan, Dspike
from tests.own_neurons import OWN

HERE = Path(__file__).parent
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "triton"))
pytestmark = pytest.mark.skipif(not INSTALLED, reason="torch or triton is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("law", ["every_sample", "not every_sample"])
def test_the_interpreted_kernels_pass(law):
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", law]
    done = subprocess.run(
        [*command, str(HERE / "triton_kernels.py")],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 8


_POINTERS = {"float": "*fp32", "byte": "*u8", "uint": "*i64", "word8": "*u8", "word16": "*i16"}
_POINTERS |= {"word32": "*i32", "vote": "*u8"}


def compiled(source: Any, of: Any, variant: Variant, data: str, size: int) -> tuple[str, str]:
    """Return the PTX of a kernel for an H100, and what it uses as the assembler says."""
    import triton  # type: ignore[import-not-found]
    from triton.backends.compiler import GPUTarget  # type: ignore[import-not-found]
    from triton.compiler import ASTSource  # type: ignore[import-not-found]

    from snnx_torch.kernels.launch import WARPS
    from snnx_torch.kernels.loading import function

    kind = {**kinds(source, of, variant), "data": data}
    types = {a.name: "i32" for a in source.arguments}
    for name, each in kind.items():
        if name in types:
            types[name] = _POINTERS.get(each, f"*{data}")
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(types))}
    text = ASTSource(function(source), {**types, "BLOCK": "constexpr"}, {"BLOCK": size}, aligned)
    options = {"enable_fp_fusion": False, "num_warps": WARPS}
    made = triton.compile(text, target=GPUTarget("cuda", 90, 32), options=options)
    return made.asm["ptx"], made.asm["cubin"]


CASES = {
    "lif": (LIF(surrogate=Triangular(1.0)), "input"),
    "lif-arctan": (LIF(detach_reset=True, surrogate=ArcTan(2.0)), "input"),
    "lif-bits": (LIF(detach_reset=True, surrogate=Rectangular(1.0)), "bits"),
    "lif-channel": (LIF(threshold=Learned(0.8, "channel")), "input"),
    "adaptive": (OWN["adaptive"], "input"),
    "quadratic": (OWN["quadratic"], "input"),
}


@pytest.mark.parametrize("data", ["fp32", "bf16"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_compiled_kernels_contract_nothing_and_load_whole_words(name, data):
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets in this process and compiles nothing")
    from snnx_torch.kernels.launch import block

    neuron, keep = CASES[name]
    of = unit(neuron)
    chunk = chunk_of(8, keep, len(of.states), 0 if of.bits is None else of.bits.count)
    variant = Variant(8, keep=keep, chunk=chunk)  # type: ignore[arg-type]
    size = block(of, variant, 4 if data == "fp32" else 2)
    for source in (forward(of, variant, TritonWriter), backward(of, variant, TritonWriter)):
        ptx, _ = compiled(source, of, variant, data, size)
        assert "mul" in ptx
        if "div_rn" not in source.text:  # a division is made of fused steps, and exact
            assert not re.search(r"\bfma\.", ptx)
        assert "f64" not in ptx
        assert "local" not in ptx
        assert re.search(r"ld\.global\.v[24]", ptx) or size * (4 if data == "fp32" else 2) == 512


def test_drawn_masks_and_smooth_steps_compile():
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets in this process and compiles nothing")
    for surrogate in (Dspike(), ArcTan(2.0)):
        of = unit(LIF(surrogate=surrogate, analog=0.3), "mixed")
        variant = Variant(4, extra="drawn", keep="input", chunk=2)
        for source in (forward(of, variant, TritonWriter), backward(of, variant, TritonWriter)):
            ptx, _ = compiled(source, of, variant, "bf16", 256)
            assert "mul.hi.u32" in ptx
            assert "f64" not in ptx


def test_a_rate_layer_compiles():
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets in this process and compiles nothing")
    of = unit(DSR.leaky().neuron)
    variant, rule = Variant(20, chunk=10), Rule("lif", 0.05, 1.0, None)
    for source in (
        rate_forward(of, variant, rule, TritonWriter),
        rate_backward(variant, rule, TritonWriter),
    ):
        ptx, _ = compiled(source, of, variant, "bf16", 512)
        assert not re.search(r"\bfma\.", ptx) or "div_rn" in source.text
