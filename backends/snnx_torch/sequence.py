"""A whole sequence of a spiking neuron as one op of autograd: see `snnx_torch.scan`.

Forward keeps the input, the state before every step and the spikes (the output itself where the
neuron emits its spike).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from snnx_torch.draws import Drawn
from snnx_torch.scan import Plan, added, at, at_rest, planned, scan, sum_to, unscan, wide


class Sequence(torch.autograd.Function):
    """apply(plan, steps, x, extra or None, *states, *numbers) -> y, (spike, potential), *states."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, steps: int, x: Tensor, extra: Any, *rest: Tensor) -> Any:
        outputs, kept = scan(plan, steps, steps_of(x), x.dtype, extra, *rest)
        ctx.plan, ctx.steps = plan, steps
        ctx.save_for_backward(x, *rest[len(plan.states) :], *kept)
        if plan.observe:
            ctx.mark_non_differentiable(*outputs[1:3])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        g_y, *rest = grads
        plan = ctx.plan
        x, *others = ctx.saved_tensors
        numbers = dict(zip(plan.numbers, others[: len(plan.numbers)], strict=True))
        spikes, *before = others[len(plan.numbers) :]
        kept, g_ends = (list(spikes), list(before)), rest[len(rest) - len(plan.states) :]
        g_x: list[Tensor] = []
        sums: dict[str, Tensor] = {}
        g_state = dict(zip(plan.states, g_ends, strict=True))
        for step in unscan(plan, ctx.steps, steps_of(x), *kept, numbers, g_y, g_ends):
            g_x.append(step.g)
            sums, g_state = added(sums, step.terms), step.g_state
        if x.shape[0] < ctx.steps:
            total = g_x[0]
            for term in g_x[1:]:
                total = total + term
            g_input = total[None]
        else:
            g_input = torch.stack(g_x[::-1])
        g_numbers = [sum_to(sums[n], numbers[n].shape) if n in sums else None for n in plan.numbers]
        g_states = [g_state[name] for name in plan.states]
        return (None, None, g_input.to(x.dtype), None, *g_states, *g_numbers)


def steps_of(x: Tensor) -> Callable[[int], Tensor]:
    """Return the function of t that gives step t of x in the wide dtype."""
    dtype = wide(x.dtype)
    return lambda t: at(x, t, dtype)


def sequence(inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run a neuron over time: see `snnx.ops.neuron`."""
    chosen = attributes["plan"] if "plan" in attributes else planned(attributes)
    x = inputs["x"]
    steps = attributes.get("steps", x.shape[0])
    states, numbers = prepared(chosen, inputs, x)
    extra = given_extra(chosen, inputs)
    if torch.is_grad_enabled():
        found = Sequence.apply(chosen, steps, x, extra, *states, *numbers)
    else:
        current = steps_of(x)
        found, _ = scan(chosen, steps, current, x.dtype, extra, *states, *numbers, keep=False)
    names = ("y", *(("spike", "potential") if chosen.observe else ()), *chosen.states)
    return dict(zip(names, found, strict=True))


def given_extra(plan: Plan, inputs: Mapping[str, Any]) -> Tensor | None:
    """Return the mask, drawn where it is to be drawn, or the imposed spikes of a plan."""
    extra = inputs.get(plan.extra) if plan.extra else None
    return extra.mask() if isinstance(extra, Drawn) else extra


def prepared(
    plan: Plan, inputs: Mapping[str, Tensor], x: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the states, at rest where none are given, and the numbers in the wide dtype."""
    dtype = wide(x.dtype)
    states = [inputs[n].to(dtype) if n in inputs else at_rest(x, dtype) for n in plan.states]
    joint = distinct([*states, *(inputs[n].to(dtype) for n in plan.numbers)])
    return joint[: len(states)], joint[len(states) :]


def distinct(tensors: list[Tensor]) -> list[Tensor]:
    """Return the tensors, one that stands twice copied: a dial may be two numbers of a neuron.

    The compiler refuses a Function that is given one tensor under two names.
    """
    found: list[Tensor] = []
    for tensor in tensors:
        again = any(tensor is other for other in found)
        found.append(tensor.clone() if again else tensor)
    return found
