"""Batch norm, a residual and a neuron as one op that keeps its inputs and computes the rest again.

The current u[t] = (x[t] - mean) a + bias + ... is written once (`Current`) and used by the forward
pass and by the recomputation in the backward pass, so that both decide the same spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnx.ops.norm_neuron import BRANCHES, NORM_INPUTS, norm_attributes, step_count
from snnx_torch.bits import bits_of, ready, unpack
from snnx_torch.branch import (
    Branch,
    Measure,
    Norm,
    branches_of,
    moments,
    statistics_of,
    total_of,
)
from snnx_torch.scan import Plan, added, at_rest, planned, replay, scan, sum_to, unscan, wide
from snnx_torch.sequence import given_extra, prepared


def _joint(branches: Sequence[Branch]) -> Callable[[int], Tensor]:
    """Return u as a function of t."""
    return lambda t: total_of([branch.current(t) for branch in branches])


@dataclass(frozen=True, slots=True)
class Fused:
    """What one call fixes: the neuron's plan, T, the norm of each branch.

    `packed`: how many arrays stand for a plain residual of spikes that is kept as bits, these and
    perhaps a scale; 0: it is kept as it is. `rests`: the neuron begins at rest, and its states are
    no arguments.
    """

    plan: Plan
    steps: int
    norms: tuple[Norm | None, ...]
    packed: int
    rests: bool

    def split(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return (arrays of the branches, states, numbers)."""
        first = sum(1 if norm is None else 3 for norm in self.norms)
        if self.rests:
            zeros = at_rest(tensors[0], wide(tensors[0].dtype))
            states = [zeros.clone() for _ in self.plan.states]
            return list(tensors[:first]), states, list(tensors[first:])
        second = first + len(self.plan.states)
        return list(tensors[:first]), list(tensors[first:second]), list(tensors[second:])

    @property
    def place(self) -> int:
        """Where a residual without a norm stands among the tensors."""
        return sum(1 if norm is None else 3 for norm in self.norms) - 1

    def kept(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return what is kept of the tensors: all but a residual that is kept as bits."""
        if not self.packed:
            return list(tensors)
        return [*tensors[: self.place], *tensors[self.place + 1 :]]

    def parted(self, kept: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the tensors, and the arrays of `packed`, which come last in what was kept.

        x, the first of them, stands where a residual was that is kept as bits.
        """
        if not self.packed:
            return list(kept), []
        others, bits = list(kept[: -self.packed]), list(kept[-self.packed :])
        return [*others[: self.place], kept[0], *others[self.place :]], bits

    def restored(self, kept: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors again."""
        tensors, bits = self.parted(kept)
        if bits:
            scale = bits[1] if len(bits) > 1 else None
            tensors[self.place] = unpack(bits[0], scale, kept[0].shape, kept[0].dtype)
        return tensors


class NormNeuron(torch.autograd.Function):
    """apply(fused, extra, statistics, bits, *branch arrays, *states, *numbers) -> y, ..., *states.

    `bits` are the arrays of a packed residual.
    """

    @staticmethod
    def forward(
        ctx: Any, fused: Fused, extra: Any, statistics: Any, bits: Any, *tensors: Tensor
    ) -> Any:
        outputs = _forward(fused, extra, statistics, tensors)
        ctx.fused, ctx.counts = fused, (len(statistics), extra is not None)
        kept = fused.kept(tensors)
        ready(tensors[0].dtype, tensors[0].device)
        ctx.save_for_backward(*statistics, *(() if extra is None else (extra,)), *kept, *bits)
        if fused.plan.observe:
            ctx.mark_non_differentiable(*outputs[1:3])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        fused, (count, masked), saved = ctx.fused, ctx.counts, ctx.saved_tensors
        plan, statistics = fused.plan, saved[:count]
        tensors = fused.restored(saved[count + masked :])
        extra = saved[count] if masked else None
        arrays, states, values = fused.split(tensors)
        branches = branches_of(fused.norms, arrays, statistics)
        current, low = _joint(branches), arrays[0].dtype
        kept = replay(plan, fused.steps, current, low, extra, *states, *values)
        numbers = dict(zip(plan.numbers, values, strict=True))
        g_states = grads[len(grads) - len(plan.states) :]
        g_u: list[Tensor] = []
        sums: dict[str, Tensor] = {}
        g_first = dict(zip(plan.states, g_states, strict=True))
        for step in unscan(plan, fused.steps, current, *kept, numbers, grads[0], g_states):
            g_u.append(step.g)
            sums, g_first = added(sums, step.terms), step.g_state
        g_u.reverse()
        found: list[Tensor | None] = []
        for branch in branches:
            g_x, g_weight, g_bias = branch.gradients(g_u)
            found += [g_x] if branch.norm is None else [g_x, g_weight, g_bias]
        g_numbers = [sum_to(sums[n], numbers[n].shape) if n in sums else None for n in plan.numbers]
        g_states = () if fused.rests else tuple(g_first[n] for n in plan.states)
        return (None, None, None, None, *found, *g_states, *g_numbers)


def _forward(
    fused: Fused, extra: Any, statistics: Sequence[Tensor], tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    arrays, states, numbers = fused.split(tensors)
    current = _joint(branches_of(fused.norms, arrays, statistics))
    low = arrays[0].dtype
    return scan(fused.plan, fused.steps, current, low, extra, *states, *numbers, keep=False)[0]


Arranged = tuple[Fused, tuple[Tensor, ...], list[Tensor], tuple[Tensor, ...], dict[str, Tensor]]


def arranged(
    inputs: Mapping[str, Any],
    attributes: Mapping[str, Any],
    plan: Plan,
    steps: int,
    measure: Measure = moments,
) -> Arranged:
    """Return what is fixed, the arrays with gradients, statistics, bits, and running statistics."""
    norms: list[Norm | None] = []
    arrays: list[Tensor] = []
    statistics: list[Tensor] = []
    moved: dict[str, Tensor] = {}
    for branch in BRANCHES:
        x = inputs.get("residual" if branch else "x")
        if x is None:
            continue
        arrays.append(x)
        if f"{branch}weight" not in inputs:
            norms.append(None)
            continue
        own = norm_attributes(attributes, branch, x.shape[0], steps)
        norm = Norm.of(own, attributes.get("share"))
        weight, bias, *running = (inputs[f"{branch}{name}"] for name in NORM_INPUTS)
        arrays += [weight, bias]
        norms.append(norm)
        mean, inverse, new = statistics_of(x.detach(), norm, [r.detach() for r in running], measure)
        statistics += [mean, inverse]
        moved |= {f"{branch}{n}": a for n, a in zip(NORM_INPUTS[2:], new, strict=True)}
    states, numbers = prepared(plan, inputs, inputs["x"])
    rests = not any(name in inputs for name in plan.states)
    bits = tuple(v for v in bits_of(inputs, "residual") if v is not None)
    fused = Fused(plan, steps, tuple(norms), len(bits), rests)
    return fused, (*arrays, *(() if rests else states), *numbers), statistics, bits, moved


def norm_neuron(inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run norm, residual and neuron over time: see `snnx.ops.norm_neuron`."""
    plan = attributes["plan"] if "plan" in attributes else planned(attributes)
    steps, extra = step_count(inputs, attributes), given_extra(plan, inputs)
    fused, tensors, statistics, bits, moved = arranged(inputs, attributes, plan, steps)
    if torch.is_grad_enabled():
        found = NormNeuron.apply(fused, extra, tuple(statistics), bits, *tensors)
    else:
        found = _forward(fused, extra, statistics, tensors)
    names = ("y", *(("spike", "potential") if plan.observe else ()), *plan.states)
    return {**dict(zip(names, found, strict=True)), **moved}
