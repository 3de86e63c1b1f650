"""A neuron fed back through a decaying synapse, over time: see `snnx.ops.recurrent`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snnx.lower import evaluate
from snnx_torch.precision import autocast_off
from snnx_torch.scan import (
    OPERATIONS,
    Plan,
    at,
    at_rest,
    collect,
    extra_at,
    full,
    narrow,
    observed,
    planned,
    sum_to,
    wide,
)
from snnx_torch.sequence import distinct, given_extra, prepared


def scan(
    plan: Plan,
    steps: int,
    x: Tensor,
    extra: Any,
    feedback: Tensor,
    decay: Any,
    c: Tensor,
    y: Tensor,
    *rest: Tensor,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Return (y, (spike, potential), c, last y, *states), and what the backward keeps."""
    count, dtype = len(plan.states), wide(x.dtype)
    state = dict(zip(plan.states, rest[:count], strict=True))
    numbers = dict(zip(plan.numbers, rest[count:], strict=True))
    before: list[Tensor] = []
    results: dict[str, list[Tensor]] = {"y": [], "spike": [], "potential": []}
    back = feedback.t()
    for t in range(steps):
        before += [c, y, *(state[name] for name in plan.states)]
        with autocast_off(x.device):  # a current is float32, as every state
            fed = y @ back
        c = decay * c + at(x, t, dtype) + fed
        values = {**numbers, **state, "x": c, **extra_at(plan, extra, t, dtype)}
        out = evaluate(plan.forward, values, OPERATIONS)
        state = {name: full(out[name], state[name]) for name in plan.states}
        y = out["y"]
        collect(plan, results, out)
    sequence = narrow(torch.stack(results["y"]), x.dtype)
    # The last output may be a state too, and one tensor must not be returned twice.
    final = (c, y.clone(), *(state[name] for name in plan.states))
    kept = [torch.stack(results["spike"]), c, *before]
    return (sequence, *observed(plan, results), *final), kept


class RecurrentSequence(torch.autograd.Function):
    """apply(plan, steps, x, extra, feedback, decay, c, y, *states, *numbers).

    Returns y, (spike, potential), c, last y, *states. `decay` is a tensor or a constant.
    """

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        steps: int,
        x: Tensor,
        extra: Any,
        feedback: Tensor,
        decay: Any,
        c: Tensor,
        y: Tensor,
        *rest: Tensor,
    ) -> Any:
        outputs, kept = scan(plan, steps, x, extra, feedback, decay, c, y, *rest)
        varying = isinstance(decay, Tensor)
        ctx.plan, ctx.steps, ctx.dtype, ctx.varying = plan, steps, wide(x.dtype), varying
        ctx.constant = 0.0 if varying else decay
        ctx.x_steps, ctx.x_dtype = x.shape[0], x.dtype
        spikes, last_c, *before = kept
        numbers = [*([decay] if varying else []), *rest[len(plan.states) :]]
        ctx.save_for_backward(feedback, spikes, last_c, *numbers, *before)
        if plan.observe:
            ctx.mark_non_differentiable(*outputs[1:3])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        g_y, *rest = grads
        plan, dtype, steps = ctx.plan, ctx.dtype, ctx.steps
        feedback, spikes, last_c, *others = ctx.saved_tensors
        decay = others.pop(0) if ctx.varying else ctx.constant
        numbers = dict(zip(plan.numbers, others[: len(plan.numbers)], strict=True))
        before = others[len(plan.numbers) :]
        count = len(plan.states) + 2
        g_c, g_next, *g_states = rest[len(rest) - count :]
        g_state = dict(zip(plan.states, g_states, strict=True))
        g_feedback = torch.zeros_like(feedback)
        g_decay = torch.zeros_like(g_c)
        g_x: list[Tensor] = []
        sums: dict[str, Tensor] = {}
        current = last_c
        for t in reversed(range(steps)):
            old_c, old_y = before[t * count], before[t * count + 1]
            states = before[t * count + 2 : (t + 1) * count]
            values = {**numbers, **dict(zip(plan.states, states, strict=True))}
            values |= {f"g.{name}": g for name, g in g_state.items()}
            values |= {"x": current, "spike": spikes[t], "g.y": g_y[t].to(dtype) + g_next}
            out = evaluate(plan.reverse, values, OPERATIONS)
            g_state = {name: full(out[f"g.{name}"], g_state[name]) for name in plan.states}
            # g_c arrives from step t + 1 already decayed; from outside it belongs to c[T] itself.
            g_c = g_c + full(out["g.x"], g_c)
            with autocast_off(g_c.device):
                g_next, term = g_c @ feedback, g_c.t() @ old_y
            g_feedback = g_feedback + term
            g_decay = g_decay + g_c * old_c
            g_x.append(g_c)
            for name in plan.learned:
                term = full(out[f"g.{name}"], g_c)
                sums[name] = sums[name] + term if name in sums else term
            g_c = decay * g_c
            current = old_c
        g_input = torch.stack(g_x[::-1])
        if ctx.x_steps < steps:
            g_input = g_input.sum(dim=0, keepdim=True)
        g_numbers = [sum_to(sums[n], numbers[n].shape) if n in sums else None for n in plan.numbers]
        g_b = sum_to(g_decay, decay.shape) if ctx.varying else None
        found = (g_input.to(ctx.x_dtype), None, g_feedback, g_b, g_c, g_next)
        return (None, None, *found, *(g_state[name] for name in plan.states), *g_numbers)


def recurrent(inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run a recurrent layer over time."""
    chosen = attributes["plan"] if "plan" in attributes else planned(attributes)
    x = inputs["x"]
    steps, dtype = attributes.get("steps", x.shape[0]), wide(x.dtype)
    states, numbers = prepared(chosen, inputs, x)
    given = ("state.c", "state.y")
    c, y = (inputs[n].to(dtype) if n in inputs else at_rest(x, dtype) for n in given)
    decay: Any = attributes.get("synapse_decay", 0.0)
    if "synapse_decay" in inputs:
        *numbers, decay = distinct([*numbers, inputs["synapse_decay"].to(dtype)])
    extra = given_extra(chosen, inputs)
    feedback = inputs["feedback"].to(dtype)
    arrays = (chosen, steps, x, extra, feedback, decay, c, y, *states, *numbers)
    found = RecurrentSequence.apply(*arrays) if torch.is_grad_enabled() else scan(*arrays)[0]
    taps = ("spike", "potential") if chosen.observe else ()
    names = ("y", *taps, "state.c", "state.y", *chosen.states)
    return dict(zip(names, found, strict=True))
