"""Text of the kernels that write and read bits: parsed as Metal, compiled for a GPU not there."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import pytest

from snnx import LIF
from snnx.emit import (
    Source,
    Unit,
    Variant,
    backward,
    chunk_of,
    forward,
    packing,
    pair,
    unit,
    unpacking,
)
from snnx.emit.c_header import header
from snnx.emit.c_text import CWriter
from snnx.emit.triton_text import TritonWriter
from snnx.surrogate import ArcTan
from tests import metal_text

CLANG = pytest.mark.skipif(importlib.util.find_spec("clang") is None, reason="libclang is missing")
TRITON = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "triton"))
    or os.environ.get("TRITON_INTERPRET") == "1",
    reason="torch or triton is not installed, or interprets",
)
SHARES = ("unit", "layer", "channel")
ARCTAN = LIF(detach_reset=True, surrogate=ArcTan(2.0))
UNITS: dict[str, Unit] = {"neuron": unit(ARCTAN), "pair": pair(ARCTAN, residual="plain")}


def emitting(of: Unit, steps: int, writer: Any, emits: bool = True) -> Source:
    """Return the forward kernel of a unit in training."""
    chunk = chunk_of(steps, "input", len(of.states), 0)
    return forward(of, Variant(steps, keep="input", final=False, chunk=chunk, emits=emits), writer)


def reading(steps: int, share: Any, writer: Any) -> tuple[Source, Source]:
    """Return the kernels of a pair that reads its residual from bits."""
    of, chunk = UNITS["pair"], chunk_of(steps, "input", 1, 0)
    variant = Variant(steps, keep="input", final=False, chunk=chunk, emits=True, packed=share)
    return forward(of, variant, writer), backward(of, variant, writer)


def sources(language: str, writer: Any) -> dict[str, Source]:
    found = {f"unpack-{share}": unpacking(language, share, 5) for share in SHARES}  # type: ignore[arg-type]
    found |= {f"pack-{steps}": packing(language, steps) for steps in (1, 6)}  # type: ignore[arg-type]
    for name, of in UNITS.items():
        found |= {f"{name}-{steps}": emitting(of, steps, writer) for steps in (4, 70)}
    for share in SHARES:
        both = reading(5, share, writer)
        found |= {f"reads-{share}-{n}": s for n, s in zip(("fore", "back"), both, strict=True)}
    return found


@CLANG
@pytest.mark.parametrize("data", ["float", "half", "bfloat16_t"])
@pytest.mark.parametrize("name", sorted(sources("c", CWriter)))
def test_metal_text_parses_with_address_spaces_and_has_no_double(name: str, data: str) -> None:
    source = sources("c", CWriter)[name]
    assert metal_text.complaints(metal_text.program(source, data)) == []


@CLANG
def test_a_ballot_that_is_no_word_is_found() -> None:
    text = metal_text.program(packing("c", 2), "float")
    wrong = text.replace("((uint)(metal::simd_vote::vote_t)metal", "(metal")
    assert any("simd_vote" in line for line in metal_text.complaints(wrong))


def test_a_ballot_is_taken_of_32_threads_on_every_target() -> None:
    for target, ballot in (("metal", "metal::simd_ballot"), ("cuda", "__ballot_sync(0xFFFFFFFFu")):
        macros = [line for line in header(target).splitlines() if "SNN_VOTE" in line]
        assert ["SNN_BALLOT" in macro for macro in macros] == [True]
        assert ballot in header(target)
    assert "% 32 == 0" in header("cuda")


def test_a_kernel_that_emits_nothing_is_the_same_text_as_ever() -> None:
    for of in UNITS.values():
        for writer in (CWriter, TritonWriter):
            plain = emitting(of, 4, writer, emits=False)
            assert plain.votes == 0
            assert not re.search(r"ballot|VOTE|\brow\b|byte_of", plain.text)
            assert emitting(of, 4, writer).text != plain.text


@TRITON
@pytest.mark.parametrize("data", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["pack", *(f"unpack-{share}" for share in SHARES)])
def test_packing_compiles_to_whole_loads_and_stores(name: str, data: str, tmp_path: Path) -> None:
    from tests.test_compiled_pairs import made, types_of, used

    kind, _, share = name.partition("-")
    source = packing("triton", 0) if kind == "pack" else unpacking("triton", share, 0)  # type: ignore[arg-type]
    words = 4 * 16 // (4 if data == "fp32" else 2)
    types = types_of(source, data)
    types |= dict.fromkeys(("words",), "*i32")
    kernel = made(source, types, {"WORDS": words}, 4)
    ptx = kernel.asm["ptx"]
    assert re.search(r"ld\.global\.v4" if kind == "pack" else r"st\.global\.v4", ptx)
    assert "f64" not in ptx
    registers, spilled = used(kernel, tmp_path)
    assert spilled == 0
    assert registers <= 64
    if kind == "unpack":  # a word is read by few threads, and no value goes through shared memory
        assert len(re.findall(r"ld\.global\.b32", ptx)) <= 2
        assert kernel.metadata.shared == 0


@TRITON
@pytest.mark.parametrize("data", ["fp32", "bf16"])
@pytest.mark.parametrize("name", sorted(UNITS))
def test_a_forward_that_emits_costs_few_registers(name: str, data: str, tmp_path: Path) -> None:
    from snnx_torch.kernels.launch import block
    from tests.test_compiled_pairs import made, types_of, used

    of, counts = UNITS[name], []
    size = block(of, Variant(4, keep=""), 4 if data == "fp32" else 2)
    for emits in (False, True):
        source = emitting(of, 4, TritonWriter, emits)
        types = types_of(source, data)
        types |= {"fired": "*u8"} if emits else {}
        kernel = made(source, types, {"BLOCK": size}, 4)
        registers, spilled = used(kernel, tmp_path)
        assert spilled == 0
        counts.append(registers)
        assert not re.search(r"\bfma\.", kernel.asm["ptx"])
        assert len(re.findall(r"st\.global\.b8", kernel.asm["ptx"])) == 4 * emits
        if data == "bf16":  # eight neurons of a thread are a byte: nothing is exchanged
            assert kernel.metadata.shared == 0
    assert counts[1] <= counts[0] + 16


@TRITON
@pytest.mark.parametrize("data", ["fp32", "bf16"])
@pytest.mark.parametrize("share", SHARES)
def test_pairs_that_read_bits_keep_registers_to_hide_loads(
    share: str, data: str, tmp_path: Path
) -> None:
    from snnx_torch.kernels.launch import block
    from tests.test_compiled_pairs import made, types_of, used

    variants = (Variant(4, keep=""), Variant(4, keep="input", chunk=4))
    for source, variant in zip(reading(4, share, TritonWriter), variants, strict=True):
        size = block(UNITS["pair"], variant, 4 if data == "fp32" else 2)
        types = types_of(source, data)
        types |= {n: "*u8" for n in types if n in ("fired", "residual_bits")}
        kernel = made(source, types, {"BLOCK": size}, 4)
        registers, spilled = used(kernel, tmp_path)
        assert spilled == 0
        assert registers <= 128
        assert not re.search(r"\bfma\.", kernel.asm["ptx"])
        assert re.search(r"ld\.global\.v[24]", kernel.asm["ptx"])
