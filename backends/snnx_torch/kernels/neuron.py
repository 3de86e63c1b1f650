"""The rule of the op "neuron": kernels where `implementation` says so, else the generic rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Unit, Variant, chunk_of, unit
from snnx_torch.draws import Drawn
from snnx_torch.kernels.implementation import fused
from snnx_torch.kernels.ops import neuron_forward, register
from snnx_torch.scan import Plan, planned
from snnx_torch.sequence import distinct, sequence

UNITS: dict[str, Unit] = {}


def known(plan: Plan, inputs: Sequence[str] = ()) -> str:
    """Return the name by which a compiled step finds the unit of a plan."""
    return _known(plan.neuron, plan.fire, plan.observe)


@cache
def _known(neuron: Any, fire: Any, observe: bool) -> str:
    of = unit(neuron, fire, observe)
    name = register(of, Variant(1, keep="input", chunk=1))
    UNITS.setdefault(name, of)
    return name


def unit_of(name: str) -> Unit:
    """Return the unit of a name."""
    return UNITS[name]


def neuron(inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run a neuron over time: see `snnx.ops.neuron`."""
    x = inputs["x"]
    language = fused(attributes, x)
    if not language:
        return sequence(inputs, attributes)
    plan = attributes["plan"] if "plan" in attributes else planned(attributes)
    name = attributes["unit"] if "unit" in attributes else known(plan)
    steps = attributes.get("steps", x.shape[0])
    given = tuple(state for state in plan.states if state in inputs)
    extra, kind, samples, key = beside(inputs, plan)
    states = [inputs[n].to(torch.float32) for n in given]
    numbers = distinct([inputs[n].to(torch.float32) for n in plan.numbers])
    final, trains = attributes.get("hand_over", True), torch.is_grad_enabled()
    emits = trains and bool(attributes.get("emits"))
    spec = _spec(
        name,
        language,
        whole(steps),
        x.shape[0] < steps,
        given,
        kind,
        trains,
        final,
        emits,
    )
    made = neuron_forward(x, extra, states, numbers, spec, samples, key)
    names = ["y", *(("spike", "potential") if plan.observe else ())]
    names += list(plan.states) if final else []
    found = dict(zip(names, made, strict=False))
    if emits:
        found["bits"] = made[-1]
    for seen in ("spike", "potential"):
        if seen in found:
            found[seen] = found[seen].detach()
    return found


def whole(steps: int) -> int:
    """Return a number of steps that a compiler may not leave open."""
    return len([None for _ in range(steps)])


@torch.compiler.assume_constant_result
def _spec(*fixed: Any) -> str:
    """Return the name of the kernels of a unit, as `_made` has it."""
    return _made(*fixed)


@cache
def _made(
    name: str,
    language: str,
    steps: int,
    static: bool,
    given: tuple[str, ...],
    extra: Any,
    trains: bool,
    final: bool,
    emits: bool,
) -> str:
    """Return the name of the kernels of a unit."""
    of = UNITS[name]
    keep = ("input" if of.bits is None else "bits") if trains else ""
    chunk = chunk_of(steps, keep, len(of.states), 0 if of.bits is None else of.bits.count)
    variant = Variant(steps, static, given, extra, keep, final, chunk, emits=emits)  # type: ignore[arg-type]
    return register(of, variant, language)


def beside(inputs: Mapping[str, Any], plan: Plan) -> tuple[list[Tensor], str, int, int]:
    """Return the arrays beside the input, their kind, and the samples and key of draws."""
    if plan.extra == "spike":
        return [inputs["spike"].to(torch.float32)], "spike", 0, 0
    if plan.extra == "":
        return [], "", 0, 0
    mask = inputs["mask"]
    if not isinstance(mask, Drawn):
        return [mask], "mask", 0, 0
    share = mask.share.reshape(1)
    arrays = [mask.seed.reshape(1), mask.count.reshape(1), mask.index, mask.times, share]
    return arrays, "drawn", mask.index.shape[0], mask.key
