"""The kernels of a recurrent layer as operators of torch.

    snnx::recurrent_forward(x, matrix, extra, given, numbers, spec, ...) -> what the kernel writes
    snnx::recurrent_backward(kept, extra, numbers, g_y, g_final, spec, ...) -> the same

matrix is V^T forward and V backward, [k, h] by rows. Sequences that are fed back have T + 1 slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Loop, Source, Unit, recurrent_backward, recurrent_forward
from snnx.emit.recurrent import recurrent_shapes
from snnx.emit.rows import CRows, RowWriter, TritonResident, TritonRows
from snnx_torch.kernels import host
from snnx_torch.kernels.loading import function, interpreting, on
from snnx_torch.kernels.operator import fake, operator
from snnx_torch.kernels.ops import EXTRAS

RESIDENT = 1024  # units that one block holds
TILE = 512  # units of a block where there are more
PROGRAMS = 132  # multiprocessors: rows are dealt out to about as many programs
ROWS = 8  # of a program at most: each takes registers in every thread
HELD = 1024  # rows times tile of a program at most: with more, its partial sums leave the registers
DEPTH = 8  # partial sums of a product
THREADS = 512
WIDE = 256  # columns of a program that keeps pieces of the matrix in registers, and its threads
PIECES = {1: 44, 2: 44, 4: 24}  # of 4 rows each by rows of such a program: none spills
_KINDS = {"float": torch.float32, "byte": torch.uint8, "word": torch.int32}
_SINGLE = ("fed", "scratch")  # written for the kernel itself


@dataclass(frozen=True, slots=True)
class RecurrentSpec:
    """The kernels of a recurrent layer."""

    unit: Unit
    loop: Loop
    forward: Source
    backward: Source | None
    language: str
    resident: bool


_SPECS: dict[str, RecurrentSpec] = {}


def register(of: Unit, loop: Loop, language: str, resident: bool) -> str:
    """Return the name under which the operators know the kernels of a layer."""
    make: type[RowWriter] = CRows
    if language == "triton":
        make = TritonResident if resident else TritonRows
    forward = recurrent_forward(of, loop, make)
    backward = recurrent_backward(of, loop, make) if loop.trains else None
    name = forward.name
    if backward is not None:
        name += backward.name.removeprefix("snnx_recurrent_backward")
    _SPECS.setdefault(name, RecurrentSpec(of, loop, forward, backward, language, resident))
    return name


def spec_of(name: str) -> RecurrentSpec:
    """Return the kernels of a name."""
    return _SPECS[name]


def _launch(
    known: RecurrentSpec,
    source: Source,
    data: torch.dtype,
    arrays: Mapping[str, Tensor],
    shape: torch.Size,
    samples: int,
    key: int,
) -> list[Tensor]:
    total, units = shape.numel(), shape[-1]
    like, kind = arrays["matrix"], {a.name: a.kind for a in source.arguments}
    outputs = {
        name: torch.empty(flat, dtype=_KINDS.get(kind[name], data), device=like.device)
        for name, flat in recurrent_shapes(source, known.unit, known.loop, total).items()
    }
    tile = _tile(units, known.resident)
    known_sizes = {"total": total, "units": units, "features": units}
    known_sizes |= {"tiles": -(-units // tile), "pieces": -(-units // depth(tile))}
    known_sizes |= {"samples": samples, "key": key}
    sizes = {name: known_sizes[name] for name in source.names("size")}
    if known.language == "cpp":
        given = {n: arrays[n].contiguous() for n in source.names("in")}
        given |= {n: a.to(torch.int32) for n, a in given.items() if kind[n] == "uint"}
        rows = total // units
        host.call(source, data, 32, given | outputs, sizes, rows, max(host.SPLIT // units, 1))
    else:
        every: dict[str, Any] = {n: arrays[n].contiguous() for n in source.names("in")}
        every |= outputs | sizes
        rows = total // units
        options = form(rows, units, known.resident)
        ordered = [every[a.name] for a in source.arguments]
        with on(like.device):
            function(source)[(-(-rows // options["ROWS"]),)](*ordered, **options)
    return [a.view(*a.shape[:-1], *shape) for name, a in outputs.items() if name not in _SINGLE]


def _tile(units: int, resident: bool) -> int:
    """Return the columns of a block."""
    return 1 << (units - 1).bit_length() if resident else TILE


def form(rows: int, units: int, resident: bool) -> dict[str, Any]:
    """Return the blocks and options with which the kernels of so many rows are launched."""
    each, tile = 1, _tile(units, resident)
    while 2 * each <= min(ROWS, HELD // tile) and -(-rows // each) > PROGRAMS:
        each *= 2
    blocks, threads = {"ROWS": each, "TILE": tile, "DEPTH": depth(tile)}, THREADS
    if resident:
        blocks |= {"PIECES": -(-units // depth(tile)), "KEPT": kept(each, units)}
        threads = WIDE if blocks["KEPT"] else THREADS
    return {**blocks, "num_warps": warps(each, tile, threads), "enable_fp_fusion": False}


def depth(tile: int) -> int:
    """Return the partial sums of a product: of WIDE columns half of them fill all threads."""
    return DEPTH // 2 if tile == WIDE else DEPTH


def kept(rows: int, units: int) -> int:
    """Return the pieces of the matrix that a program of so many rows holds in registers.

    All of them up to 128 units; up to 256 what a thread's 255 registers have room for; above that
    none, so that each step reads the matrix from the cache.
    """
    tile = _tile(units, True)
    pieces = -(-units // depth(tile))
    if units > RESIDENT or tile > WIDE:
        return 0
    return pieces if tile < WIDE else min(pieces, PIECES.get(rows, 0))


def place_of_feedback(units: int) -> str:
    """Return in words where the feedback of so many units lies during the steps."""
    held = min(depth(_tile(units, True)) * kept(1, units), units)
    if held == 0:
        return "the feedback is read from the cache at every step"
    whole = "all" if held == units else f"up to {held}"
    return f"{whole} of the feedback's {units} rows stay in registers"


def warps(rows: int, tile: int, threads: int = THREADS) -> int:
    """Return the warps of a program: four of a product's terms to a thread, within `threads`."""
    return 1 if interpreting() else max(min(rows * DEPTH * tile // (32 * 4), threads // 32), 4)


def _fake(
    known: RecurrentSpec, source: Source, like: Tensor, data: torch.dtype, shape: torch.Size
) -> list[Tensor]:
    kind = {a.name: a.kind for a in source.arguments}
    found = recurrent_shapes(source, known.unit, known.loop, 1)
    return [
        like.new_empty((*flat[:-1], *shape), dtype=_KINDS.get(kind[name], data))
        for name, flat in found.items()
        if name not in _SINGLE
    ]


def _beside(known: RecurrentSpec, extra: list[Tensor], numbers: list[Tensor]) -> dict[str, Tensor]:
    found = dict(zip(EXTRAS[known.loop.extra], extra, strict=True))
    if "mask" in found:
        found["mask"] = found["mask"].view(torch.uint8)
    names = [f"p{i}_at" for i in range(len(known.unit.numbers))]
    names += ["decay_at"] if isinstance(known.loop.decay, str) else []
    return found | dict(zip(names, numbers, strict=True))


@operator("recurrent_forward")
def forward_op(
    x: Tensor,
    matrix: Tensor,
    extra: list[Tensor],
    given: list[Tensor],
    numbers: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    """Return what the forward kernel writes, in its order."""
    known = _SPECS[spec]
    names = ("c_in", "y_in", *(f"s{i}_in" for i in range(len(known.unit.states))))
    arrays = {"x": x, "matrix": matrix, **_beside(known, extra, numbers)}
    arrays |= dict(zip(names, given, strict=bool(given)))
    return _launch(known, known.forward, x.dtype, arrays, x.shape[1:], samples, key)


@fake(forward_op)
def _(
    x: Tensor,
    matrix: Tensor,
    extra: list[Tensor],
    given: list[Tensor],
    numbers: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    known = _SPECS[spec]
    return _fake(known, known.forward, x, x.dtype, x.shape[1:])


@operator("recurrent_backward")
def backward_op(
    currents: Tensor,
    checkpoints: Tensor,
    matrix: Tensor,
    extra: list[Tensor],
    numbers: list[Tensor],
    g_y: Tensor,
    g_final: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    """Return what the backward kernel writes, in its order."""
    known = _SPECS[spec]
    if known.backward is None:
        raise ValueError(f"{spec}: these kernels are of inference")
    arrays = {"currents": currents, "checkpoints": checkpoints, "matrix": matrix, "g_y": g_y}
    names = ("c", "y", *(f"s{i}" for i in range(len(known.unit.states))))
    arrays |= {f"g_{name}_out": g for name, g in zip(names, g_final, strict=True)}
    arrays |= _beside(known, extra, numbers)
    return _launch(known, known.backward, g_y.dtype, arrays, g_y.shape[1:], samples, key)


@fake(backward_op)
def _(
    currents: Tensor,
    checkpoints: Tensor,
    matrix: Tensor,
    extra: list[Tensor],
    numbers: list[Tensor],
    g_y: Tensor,
    g_final: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    known = _SPECS[spec]
    if known.backward is None:
        raise ValueError(f"{spec}: these kernels are of inference")
    return _fake(known, known.backward, g_y, g_y.dtype, g_y.shape[1:])
