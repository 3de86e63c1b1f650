"""The rule of the op "norm_neuron": kernels where `implementation` says so, else the generic rule.

The kernels see the norm as lines before the step (`snnx.emit.pair`): they give the gradient
of x up to what the batch's statistics take from it, which is one more pass over x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Variant, chunk_of
from snnx.emit import pair as pair_unit
from snnx.ops.norm_neuron import step_count
from snnx_torch.bits import bits_of
from snnx_torch.branch import Branch, branches_of, moments
from snnx_torch.kernels import norm
from snnx_torch.kernels.implementation import fused
from snnx_torch.kernels.neuron import UNITS, beside, parts, whole
from snnx_torch.kernels.ops import register
from snnx_torch.norm_neuron import Fused, arranged
from snnx_torch.norm_neuron import norm_neuron as generic
from snnx_torch.scan import Plan, planned
from snnx_torch.sequence import distinct

OPS = torch.ops.snnx


def known(plan: Plan, names: Sequence[str]) -> str:
    """Return the name by which a compiled step finds the unit of a pair with these inputs."""
    residual = "norm" if "residual_weight" in names else "plain" if "residual" in names else ""
    return _known(plan.neuron, plan.fire, plan.observe, residual)


@cache
def _known(neuron: Any, fire: Any, observe: bool, residual: Any) -> str:
    of = pair_unit(neuron, fire, observe, residual)
    name = register(of, Variant(1, keep="input", chunk=1))
    UNITS.setdefault(name, of)
    return name


@dataclass(frozen=True, slots=True)
class Call:
    """What a call of the kernels fixes besides arrays: see `snnx_torch.kernels.ops`."""

    fused: Fused
    spec: str
    samples: int
    key: int
    given: int
    learned: tuple[str, ...]
    language: str
    finals: int
    emits: bool


class PairKernels(torch.autograd.Function):
    """apply(call, extra, statistics, bits, *branch arrays, *states, *numbers) -> y, ..., *states.

    `bits` are the arrays of a packed residual. Spikes as bits come last, where they are emitted.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        extra: list[Tensor],
        statistics: Sequence[Tensor],
        bits: Sequence[Tensor],
        *tensors: Tensor,
    ) -> Any:
        x, extras, states, numbers = _arguments(call, extra, statistics, tensors, bits)
        made = OPS.neuron_forward(x, extras, states, numbers, call.spec, call.samples, call.key)
        outputs = 1 + 2 * call.fused.plan.observe + call.finals
        last = len(made) - call.emits
        checkpoints, fired = made[outputs:last], made[last:]
        every = [list(statistics), extra, checkpoints, [*call.fused.kept(tensors), *bits]]
        ctx.call, ctx.lengths = call, [len(each) for each in every]
        ctx.save_for_backward(*(t for each in every for t in each))
        ctx.mark_non_differentiable(*(made[1:3] if call.fused.plan.observe else []), *fired)
        return (*made[:outputs], *fired)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        call = ctx.call
        statistics, extra, checkpoints, kept = parts(ctx.saved_tensors, ctx.lengths)
        tensors, bits = call.fused.parted(kept)
        grads = grads[:-1] if call.emits else grads
        x, extras, states, numbers = _arguments(call, extra, statistics, tensors, bits)
        plan = call.fused.plan
        g_states = list(grads[len(grads) - call.finals :])
        given = (extras, states, numbers, grads[0], g_states, call.spec, call.samples, call.key)
        found = list(OPS.neuron_backward([x, *checkpoints], *given))
        branches = branches_of(call.fused.norms, call.fused.split(tensors)[0], statistics)
        g_inputs = [found.pop(0) for _ in branches]
        g_states = [found.pop(0) for _ in range(call.given)]
        by_name = dict(zip(call.learned, found, strict=True))
        results: list[Tensor | None] = []
        for branch, kind, g in zip(branches, ("norm", "residual"), g_inputs, strict=False):
            if branch.norm is None:
                results.append(g)
                continue
            joint, total = (by_name.pop(f"p.{kind}.{n}") for n in ("factor", "bias"))
            results += [_settled(call, branch, g, joint, total), *_weights(branch, joint, total)]
        shapes = [n.shape for n in call.fused.split(tensors)[2]]
        g_numbers = [
            by_name[name].reshape(shape) if name in by_name else None
            for name, shape in zip(plan.numbers, shapes, strict=True)
        ]
        return (None, None, None, None, *results, *g_states, *g_numbers)


def _arguments(
    call: Call,
    extra: Sequence[Tensor],
    statistics: Sequence[Tensor],
    tensors: Sequence[Tensor],
    bits: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """Return x, what comes beside it, the given states, and the numbers of the unit."""
    arrays, states, numbers = call.fused.split(tensors)
    branches = branches_of(call.fused.norms, arrays, statistics)
    for branch in branches:
        if branch.norm is not None:
            numbers += [branch.mean, branch.factor, branch.bias]
    flat = distinct([n if n.dim() < 3 else n.reshape(-1) for n in numbers])
    residual = bits or [branch.x for branch in branches[1:]]
    return branches[0].x, [*extra, *residual], states if call.given else [], flat


def _settled(call: Call, branch: Branch, g: Tensor, joint: Tensor, total: Tensor) -> Tensor:
    """Return the gradient of a normalised input with what its batch's statistics take."""
    how = branch.norm
    if how is None or how.mode == "running":
        return g
    count, sums = branch.x.numel() // branch.x.shape[-1], (total, joint)
    if how.share is not None:
        count, sums = how.share.values(branch.x), how.share.sums(total, joint)
    factor, mean = branch.factor.reshape(-1), branch.mean.reshape(-1)
    slope = factor * branch.inverse.reshape(-1).square() * sums[1] / count
    level = factor * sums[0] / count - mean * slope
    if call.language == "triton" and how.share is None:
        return OPS.norm_settled(g, branch.x, slope, level)
    settled = g.to(factor.dtype) - (branch.x.to(factor.dtype) * slope + level)
    settled = settled if how.share is None else how.share.own(settled)
    return settled.to(g.dtype)


def _weights(branch: Branch, joint: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of a norm's weight and bias."""
    scale = 1.0 if branch.norm is None else branch.norm.scale
    return scale * branch.inverse.reshape(-1) * joint, total


def norm_neuron(inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run norm, residual and neuron over time: see `snnx.ops.norm_neuron`."""
    x, steps = inputs["x"], step_count(inputs, attributes)
    lengths = {inputs[n].shape[0] for n in ("x", "residual") if n in inputs}
    apart = attributes.get("copies", 1) > 1 or len(lengths) > 1
    static = not apart and lengths != {steps}
    language = "" if apart or (static and "residual" in inputs) else fused(attributes, x)
    if not language:
        return generic(inputs, attributes)
    plan = attributes["plan"] if "plan" in attributes else planned(attributes)
    name = attributes["unit"] if "unit" in attributes else known(plan, list(inputs))
    extra, kind, samples, key = beside(inputs, plan)
    rests = not any(state in inputs for state in plan.states)
    given, final = () if rests else plan.states, attributes.get("hand_over", True)
    trains = torch.is_grad_enabled()
    emits = trains and bool(attributes.get("emits"))
    packed = _scaled(*bits_of(inputs, "residual"))
    fixed = (given, kind, trains, final, emits, packed)
    spec = _spec(name, language, whole(steps), static, *fixed)
    learned = UNITS[name].learned
    measure = norm.moments if language == "triton" else moments
    made = arranged(inputs, attributes, plan, steps, measure)
    how, arrays, statistics, bits, moved = made
    finals = len(plan.states) if final else 0
    call = Call(how, spec, samples, key, len(given), learned, language, finals, emits)
    if torch.is_grad_enabled():
        found = PairKernels.apply(call, extra, tuple(statistics), bits, *arrays)
    else:
        values = _arguments(call, extra, statistics, arrays, bits)
        found = OPS.neuron_forward(*values, spec, samples, key)
    names = ["y", *(("spike", "potential") if plan.observe else ())]
    names += [*(plan.states if final else ()), *(("bits",) if emits else ())]
    return {**dict(zip(names, found, strict=True)), **moved}


def _scaled(bits: Tensor | None, scale: Tensor | None) -> str:
    """Return how a residual that is read from bits is scaled, "" where it is not."""
    if bits is None:
        return ""
    return "unit" if scale is None else "channel" if scale.dim() else "layer"


@torch.compiler.assume_constant_result
def _spec(*fixed: Any) -> str:
    """Return the name of the kernels of a pair, as `_made` has it."""
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
    packed: Any,
) -> str:
    """Return the name of the kernels of a pair."""
    of, keep = UNITS[name], "input" if trains else ""
    chunk = chunk_of(steps, keep, len(of.states), 0)
    variant = Variant(steps, static, given, extra, keep, final, chunk, False, emits, packed)  # type: ignore[arg-type]
    return register(of, variant, language)
