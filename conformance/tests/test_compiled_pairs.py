"""The fused pairs' kernels compiled for a GPU that need not be there: what launches give them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snnx import LIF
from snnx.emit import Source, Unit, Variant, backward, chunk_of, forward, pair
from snnx.emit.triton_text import TritonWriter
from snnx.surrogate import ArcTan
from tests.own_neurons import OWN

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "triton"))
pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason="torch or triton is not installed"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="Triton interprets in this process"
    ),
]
SURROGATE = ArcTan(2.0)
# whole numbers that are 1 for a small layer: Triton makes constants of them
ONES = ("turns", "groups", "samples", "features", *(f"p{i}_period" for i in range(9)))


def made(source: Source, types: dict[str, str], blocks: dict[str, int], warps: int) -> Any:
    """Return what Triton compiles for an H100; sizes of the type "1" are the constant 1."""
    import triton  # type: ignore[import-not-found]
    from triton.backends.compiler import GPUTarget  # type: ignore[import-not-found]
    from triton.compiler import ASTSource  # type: ignore[import-not-found]

    from snnx_torch.kernels.loading import function

    constants = {name: 1 for name, kind in types.items() if kind == "1"} | blocks
    names = [name for name, kind in types.items() if kind != "1" and name not in blocks]
    places = {name: i for i, name in enumerate(types)}
    aligned = {(places[name],): [["tt.divisibility", 16]] for name in names}
    known = {name: "constexpr" if kind == "1" else kind for name, kind in types.items()}
    known |= dict.fromkeys(blocks, "constexpr")
    return triton.compile(
        ASTSource(function(source), known, constants, aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"enable_fp_fusion": False, "num_warps": warps},
    )


def used(kernel: Any, folder: Path) -> tuple[int, int]:
    """Return the registers of a thread and the bytes that it spills."""
    import triton  # type: ignore[import-not-found]

    place = folder / "kernel.cubin"
    place.write_bytes(kernel.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    said = subprocess.run([tool, "-res-usage", place], capture_output=True, text=True, check=True)
    found = re.findall(r"REG:(\d+) STACK:(\d+)", said.stdout)
    return int(found[0][0]), int(found[0][1])


def types_of(source: Source, data: str, ones: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the types of a kernel's arguments as a launch gives them."""
    pointers = {"data": f"*{data}", "float": "*fp32", "byte": "*u8", "uint": "*i64"}
    pointers |= {"word": "*i32", "vote": "*u8"}
    found = {}
    for argument in source.arguments:
        if argument.role == "size":
            found[argument.name] = "1" if argument.name in ones else "i32"
        else:
            found[argument.name] = pointers[argument.kind]
    return found | ({"key": "i64"} if "key" in found else {})


def sources(of: Unit, variant: Variant, data: str) -> list[tuple[Source, int]]:
    """Return both kernels of a unit and the blocks that their launches choose."""
    from snnx_torch.kernels.launch import block

    size = 4 if data == "fp32" else 2
    kept = (replace(variant, keep=""), variant)
    made_by = (forward, backward)
    return [
        (make(of, variant, TritonWriter), block(of, v, size))
        for make, v in zip(made_by, kept, strict=True)
    ]


@pytest.mark.parametrize("data", ["fp32", "bf16"])
@pytest.mark.parametrize("residual", ["", "plain", "norm"])
def test_pairs_of_four_steps_spill_nothing_and_leave_registers_to_hide_loads(
    residual, data, tmp_path
):
    of = pair(LIF(detach_reset=True, surrogate=SURROGATE), residual=residual)
    variant = Variant(4, keep="input", final=False, chunk=chunk_of(4, "input", 1, 0))
    for source, size in sources(of, variant, data):
        kernel = made(source, types_of(source, data), {"BLOCK": size}, 4)
        assert not re.search(r"\bfma\.", kernel.asm["ptx"])
        assert re.search(r"ld\.global\.v[24]", kernel.asm["ptx"])
        registers, spilled = used(kernel, tmp_path)
        assert spilled == 0
        # 3 or 4 programs of 4 warps at a time on a multiprocessor; Triton 3.6 and 3.7 differ by 4
        assert registers <= (152 if residual == "norm" else 128)


@pytest.mark.parametrize("case", ["adaptive", "drawn", "static", "chunks"])
def test_pairs_compile_for_every_form_of_a_launch(case):
    neuron: Any = OWN["adaptive"] if case == "adaptive" else LIF(surrogate=SURROGATE)
    steps, extra = 3 if case != "chunks" else 5, ""
    if case == "drawn":
        neuron, extra = replace(neuron, analog=0.3), "drawn"
    of = pair(neuron, "mixed" if extra else "spike", residual="" if case == "static" else "plain")
    variant = Variant(steps, case == "static", (), extra, "input", case == "adaptive", chunk=2)  # type: ignore[arg-type]
    for ones in ((), ONES):
        for source, size in sources(of, variant, "bf16"):
            kernel = made(source, types_of(source, "bf16", ones), {"BLOCK": size}, 4)
            assert "f64" not in kernel.asm["ptx"]


@pytest.mark.parametrize(("rows", "units"), [(256, 240), (2048, 200), (2048, 512), (4096, 1000)])
def test_a_recurrent_layer_keeps_its_sums_in_registers(rows, units, tmp_path):
    from snnx.emit import Loop, chunk_of_loop, recurrent_backward, recurrent_forward, unit
    from snnx.emit.rows import TritonResident
    from snnx_torch.kernels import recurrent_ops

    loop = Loop(100, trains=True, decay=0.6, bits=True, chunk=chunk_of_loop(100))
    of = unit(LIF(detach_reset=True, surrogate=SURROGATE))
    form = recurrent_ops.form(rows, units, True)
    blocks = {name: form[name] for name in TritonResident.blocks} | {"units": units}
    assert blocks["TILE"] >= units
    assert (blocks["KEPT"] > 0) == (units <= 256)
    for make in (recurrent_forward, recurrent_backward):
        source = make(of, loop, TritonResident)
        kernel = made(source, types_of(source, "bf16"), blocks, form["num_warps"])
        assert used(kernel, tmp_path)[1] <= 64  # bytes; of sums in memory there would be hundreds
        assert kernel.metadata.shared < 227 * 1024
