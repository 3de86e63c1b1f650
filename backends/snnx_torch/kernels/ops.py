"""The kernels as operators of torch: opaque to the compiler, with shapes declared.

    snnx::neuron_forward(x, extra, states, numbers, spec, ...) -> [y, ...]
    snnx::neuron_backward(kept, extra, states, numbers, cotangents, spec, ...) -> [g_x, ...]

`spec` names the kernels by their text, so it means the same in every process; `register` makes it
known. `extra` is a mask, imposed spikes, or what mask bits are drawn from. Which operator is
whose gradient is said where they are called: `snnx_torch.kernels.neuron` and `pair`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Source, Unit, Variant, backward, forward
from snnx.emit.c_text import CWriter
from snnx.emit.layout import Layout, kinds, shapes
from snnx.emit.triton_text import TritonWriter
from snnx_torch.kernels import host, launch
from snnx_torch.kernels.launch import _WORDS, block, summed
from snnx_torch.kernels.operator import fake, operator

Launch = launch.Launch | host.Launch
CALLS = 4096  # launches that are remembered, by spec, shape and dtype
WRITERS = {"triton": TritonWriter, "cpp": CWriter}
LAUNCH = {"triton": launch.launch, "cpp": host.launch}
SUMMING = {"triton": launch.summing, "cpp": host.summing}
KEPT = ("bits", "checkpoints", "fired")  # what is no sequence or state of neurons
EXTRAS = {
    "": (),
    "mask": ("mask",),
    "spike": ("imposed",),
    "drawn": ("seed", "count", "index", "times", "share"),
}


@dataclass(frozen=True, slots=True)
class Spec:
    """The kernels of a neuron's step: in training both, in inference the forward alone."""

    unit: Unit
    variant: Variant
    forward: Source
    language: str


_SPECS: dict[str, Spec] = {}


@cache
def _backward(spec: str, final: bool) -> Source:
    """Return the backward of a spec, with or without cotangents of the final states."""
    known = _SPECS[spec]
    return backward(known.unit, replace(known.variant, final=final), WRITERS[known.language])


def register(unit: Unit, variant: Variant, language: str = "triton") -> str:
    """Return the name under which the operators know the kernels of a unit and variant."""
    source = forward(unit, variant, WRITERS[language])
    name = source.name
    if variant.keep:
        name += backward(unit, variant, WRITERS[language]).name.removeprefix("snnx_backward")
    name += "".join(f"_{n.share}" for n in unit.numbers)  # the text knows only how they repeat
    _SPECS.setdefault(name, Spec(unit, variant, source, language))
    return name


def _arrays(spec: Spec, extra: list[Tensor], states: list[Tensor], numbers: list[Tensor]) -> Any:
    beside = ("residual",) if spec.unit.residual else ()
    if spec.variant.packed:
        scaled = spec.variant.packed != "unit"
        beside = ("residual_bits", *(("residual_scale",) if scaled else ()))
    names = (*EXTRAS[spec.variant.extra], *beside)
    found = dict(zip(names, extra, strict=bool(extra)))
    given = [f"s{spec.unit.states.index(name)}_in" for name in spec.variant.given]
    found |= dict(zip(given, states, strict=bool(states)))
    found |= {f"p{i}_at": number for i, number in enumerate(numbers)}
    if "mask" in found:
        found["mask"] = found["mask"].view(torch.uint8)
    return found


def _shaped(name: str, array: Tensor, shape: torch.Size) -> Tensor:
    if name in KEPT:
        return array
    return array.view(*array.shape[:-1], *shape)


@lru_cache(CALLS)
def _forward_launch(
    spec: str, shape: torch.Size, data: torch.dtype, samples: int, key: int
) -> Launch:
    """Return the launch of a spec's forward on steps of a shape [N, *F]."""
    known = _SPECS[spec]
    size = block(known.unit, replace(known.variant, keep=""), data.itemsize)
    parts = (known.forward, known.unit, known.variant, Layout.of(tuple(shape)))
    return LAUNCH[known.language](*parts, data, size, samples, key)


@lru_cache(CALLS)
def _backward_launch(
    spec: str, final: bool, shape: torch.Size, data: torch.dtype, samples: int, key: int
) -> tuple[Launch, Layout]:
    """Return the launch of a spec's backward, and the layout by which its sums are finished."""
    known, source = _SPECS[spec], _backward(spec, final)
    variant = replace(known.variant, final=final)
    size = block(known.unit, variant, data.itemsize)
    layout = Layout.of(tuple(shape))
    if known.unit.learned:
        layout = SUMMING[known.language](known.unit, layout, size)
    parts = (source, known.unit, variant, layout)
    return LAUNCH[known.language](*parts, data, size, samples, key), layout


@operator("neuron_forward")
def neuron_forward(
    x: Tensor,
    extra: list[Tensor],
    states: list[Tensor],
    numbers: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    """Return y, observed sequences, final states and what the backward needs, as the spec says."""
    known, shape = _SPECS[spec], x.shape[1:]
    arrays = {"x": x, **_arrays(known, extra, states, numbers)}
    found = _forward_launch(spec, shape, x.dtype, samples, key)(arrays)
    return [_shaped(name, array, shape) for name, array in found.items()]


@fake(neuron_forward)
def _(
    x: Tensor,
    extra: list[Tensor],
    states: list[Tensor],
    numbers: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    known, shape = _SPECS[spec], x.shape[1:]
    layout = Layout(shape.numel(), shape[1:].numel(), shape[-1])
    kind = kinds(known.forward, known.unit, known.variant)
    found = []
    for name, flat in shapes(known.forward, known.unit, known.variant, layout).items():
        dtype = {"data": x.dtype, "float": torch.float32}.get(kind[name]) or _WORDS[kind[name]]
        found.append(x.new_empty(flat if name in KEPT else (*flat[:-1], *shape), dtype=dtype))
    return found


@operator("neuron_backward")
def neuron_backward(
    kept: list[Tensor],
    extra: list[Tensor],
    states: list[Tensor],
    numbers: list[Tensor],
    g_y: Tensor,
    g_states: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    """Return the gradients of x, the given states and the learned numbers."""
    known, shape = _SPECS[spec], g_y.shape[1:]
    names = ("x", "checkpoints") if known.variant.keep == "input" else ("bits",)
    arrays = dict(zip(names, kept, strict=False))
    arrays |= _arrays(known, extra, states, numbers)
    arrays |= {"g_y": g_y} | {f"g_s{i}_out": g for i, g in enumerate(g_states)}
    run, layout = _backward_launch(spec, bool(g_states), shape, g_y.dtype, samples, key)
    got = run(arrays)
    gradients = summed(known.unit, got, layout)
    learned = dict(zip((n.name for n in known.unit.numbers), numbers, strict=True))
    found = [a.view(*a.shape[:-1], *shape) for n, a in got.items() if not n.startswith("partial")]
    return [*found, *(g.reshape(learned[n].shape) for n, g in gradients.items())]


@fake(neuron_backward)
def _(
    kept: list[Tensor],
    extra: list[Tensor],
    states: list[Tensor],
    numbers: list[Tensor],
    g_y: Tensor,
    g_states: list[Tensor],
    spec: str,
    samples: int,
    key: int,
) -> list[Tensor]:
    known, shape = _SPECS[spec], g_y.shape[1:]
    g_x = g_y.new_empty((1 if known.variant.static else g_y.shape[0], *shape))
    beside = [g_y.new_empty(g_y.shape)] if known.unit.residual else []
    given = [g_y.new_empty(shape, dtype=torch.float32) for _ in known.variant.given]
    learned = [
        torch.empty_like(a) for a, n in zip(numbers, known.unit.numbers, strict=True) if n.learned
    ]
    return [g_x, *beside, *given, *learned]
