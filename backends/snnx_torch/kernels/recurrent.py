"""The rule of the op "recurrent": kernels where `implementation` says so, else the generic rule.

The kernel holds the whole loop over time. Kept for the backward are the synapse's currents, the
neuron's states before each chunk, and y: as bits where it is the hard spike. The gradient of the
feedback is a product over all steps at once, its factors unpacked a few chunks at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Loop, chunk_of_loop
from snnx_torch.kernels import recurrent_ops
from snnx_torch.kernels.implementation import fused, holds
from snnx_torch.kernels.neuron import UNITS, beside, known, whole
from snnx_torch.kernels.recurrent_ops import register, spec_of
from snnx_torch.precision import autocast_off
from snnx_torch.recurrent import recurrent as generic
from snnx_torch.scan import planned, sum_to, wide
from snnx_torch.sequence import distinct

OPS = torch.ops.snnx
UNPACKED = 64  # steps of y that are unpacked at a time


@dataclass(frozen=True, slots=True)
class Call:
    """What a call of the kernels fixes besides arrays: see `snnx_torch.kernels.recurrent_ops`."""

    spec: str
    samples: int
    key: int
    given: int
    observe: bool
    side: Any = None  # `snnx_torch.capture.Side`

    @property
    def loop(self) -> Loop:
        """The kernels' form."""
        return spec_of(self.spec).loop


class RecurrentKernels(torch.autograd.Function):
    """apply(call, extra, x, feedback, *given, *numbers) -> y, ..., c, last y, *states."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, extra: list[Tensor], x: Tensor, feedback: Tensor, *rest: Tensor
    ) -> Any:
        outputs, made = run(call, extra, x, feedback, *rest)
        held = made["bits" if call.loop.bits else "z" if call.loop.apart else "y"]
        kept = [made["currents"], made["checkpoints"], held, *rest[1 : call.given][:1]]
        ctx.call, ctx.extras, ctx.kept = call, len(extra), len(kept)
        ctx.x = x.shape[0], x.dtype
        ctx.save_for_backward(feedback, *extra, *kept, *rest[call.given :])
        if call.observe:
            ctx.mark_non_differentiable(*outputs[1:3])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        call, (x_steps, x_dtype) = ctx.call, ctx.x
        feedback, *rest = ctx.saved_tensors
        extra, rest = list(rest[: ctx.extras]), rest[ctx.extras :]
        kept, numbers = rest[: ctx.kept], list(rest[ctx.kept :])
        currents, checkpoints, held, *first = kept
        count = len(spec_of(call.spec).unit.states)
        g_final = list(grads[len(grads) - count - 2 :])
        values = (currents, checkpoints, feedback, extra, numbers, grads[0].contiguous(), g_final)
        made = OPS.recurrent_backward(*values, call.spec, call.samples, call.key)
        g_c, g_first, g_states, sums = made[0], made[1], made[2 : 2 + count], made[2 + count :]
        g_x = g_c[:-1] if x_steps == call.loop.steps else g_c[:-1].sum(dim=0, keepdim=True)
        of = spec_of(call.spec).unit
        learned = dict(zip(of.learned, sums, strict=False))
        g_numbers = [
            sum_to(learned[n.name], a.shape) if n.name in learned else None
            for n, a in zip(of.numbers, numbers, strict=False)
        ]
        if call.loop.learns:
            g_numbers.append(sum_to(sums[-1], numbers[-1].shape))
        g_given: list[Tensor] = []
        if call.loop.given:
            with autocast_off(g_c.device):
                g_given = [g_first, g_c[0] @ feedback, *g_states]
        work = partial(product, call.loop, g_c, held, first)
        reads = (g_c, held, *first)
        g_feedback = work() if call.side is None else call.side.run(work, *reads)
        return (None, None, g_x.to(x_dtype), g_feedback, *g_given, *g_numbers)


def run(
    call: Call, extra: list[Tensor], x: Tensor, feedback: Tensor, *rest: Tensor
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return (y, (spike, potential), c, last y, *states), and what the kernel wrote by name."""
    given, numbers = list(rest[: call.given]), list(rest[call.given :])
    values = (x, feedback.t().contiguous(), extra, given, numbers)
    found = OPS.recurrent_forward(*values, call.spec, call.samples, call.key)
    known = spec_of(call.spec)
    names = [n for n in known.forward.names("out") if n != "fed"]
    made = dict(zip(names, found, strict=True))
    y = made["y"] if call.loop.apart else made["y"][1:]
    last = made["z" if call.loop.apart else "y"][-1].to(torch.float32, copy=True)
    seen = [made[n] for n in ("spike", "potential") if n in made]
    states = [made[f"s{i}_out"] for i in range(len(known.unit.states))]
    return (y, *seen, made["c_out"], last, *states), made


def product(loop: Loop, g_c: Tensor, held: Tensor, first: list[Tensor]) -> Tensor:
    """Return the sum over t of g_c[t]^T y[t-1]; y[-1] is `first`, or 0; in float32."""
    with autocast_off(g_c.device):
        return _product(loop, g_c, held, first)


def _product(loop: Loop, g_c: Tensor, held: Tensor, first: list[Tensor]) -> Tensor:
    units = g_c.shape[-1]
    if not loop.bits:
        return g_c[:-1].reshape(-1, units).t() @ held[:-1].reshape(-1, units).to(g_c.dtype)
    total = torch.zeros((units, units), dtype=g_c.dtype, device=g_c.device)
    if first:
        total = torch.addmm(total, g_c[0].t(), first[0])
    places = torch.arange(loop.chunk, dtype=torch.int32, device=g_c.device)[None, :, None, None]
    together = max(UNPACKED // loop.chunk, 1)
    for chunk in range(0, loop.count, together):
        begin = 1 + chunk * loop.chunk  # the output of step t meets the gradient of step t + 1
        g = g_c[begin : begin + together * loop.chunk]
        words = held[chunk : chunk + together, None]
        y = ((words >> places) & 1).to(g.dtype).flatten(0, 1)[: g.shape[0]]
        total = torch.addmm(total, g.reshape(-1, units).t(), y.reshape(-1, units))
    return total


def recurrent(inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run a recurrent layer over time: see `snnx.ops.recurrent`."""
    x, units = inputs["x"], inputs["feedback"].shape[0]
    language = fused(attributes, x, units)
    if not language:
        return generic(inputs, attributes)
    plan = attributes["plan"] if "plan" in attributes else planned(attributes)
    name = attributes["unit"] if "unit" in attributes else known(plan)
    steps = attributes.get("steps", x.shape[0])
    extra, kind, samples, key = beside(inputs, plan)
    states = ("state.c", "state.y", *plan.states)
    rests = not any(state in inputs for state in states)
    zero = torch.zeros_like(x[0], dtype=torch.float32)
    given = [] if rests else [inputs.get(n, zero).to(torch.float32) for n in states]
    numbers = [inputs[n].to(torch.float32) for n in plan.numbers]
    decay: Any = attributes.get("synapse_decay", 0.0)
    if "synapse_decay" in inputs:
        numbers.append(inputs["synapse_decay"].to(torch.float32))
        decay = "neuron" if numbers[-1].dim() else "layer"
    trains = torch.is_grad_enabled()
    narrow = x.dtype != wide(x.dtype)
    static, resident = holds(x.shape[0] < steps), holds(units <= recurrent_ops.RESIDENT)
    form = (whole(steps), static, not rests, kind, trains, decay, narrow)
    feedback = inputs["feedback"].to(torch.float32)
    # only the gradient of a leaf is read by nobody before the side is joined
    call = Call(
        _spec(name, language, resident, *form),
        samples,
        key,
        len(given),
        plan.observe,
        attributes.get("side") if feedback is inputs["feedback"] and feedback.is_leaf else None,
    )
    tensors = (x, feedback, *distinct([*given, *numbers]))
    if trains:
        found = RecurrentKernels.apply(call, extra, *tensors)
    else:
        found = run(call, extra, *tensors)[0]
    names = ("y", *(("spike", "potential") if plan.observe else ()), *states)
    return dict(zip(names, found, strict=True))


@torch.compiler.assume_constant_result
def _spec(*fixed: Any) -> str:
    """Return the name of the kernels of a layer, as `_made` has it."""
    return _made(*fixed)


@cache
def _made(
    name: str,
    language: str,
    resident: bool,
    steps: int,
    static: bool,
    given: bool,
    extra: Any,
    trains: bool,
    decay: Any,
    narrow: bool,
) -> str:
    """Return the name of the kernels of a layer."""
    of = UNITS[name]
    hard = dict(of.forward.outputs)["y"] == dict(of.forward.outputs)["spike"] and of.fire == "spike"
    loop = Loop(
        steps,
        static,
        given,
        extra,
        trains,
        decay,
        isinstance(decay, str),
        narrow and (given or not hard),
        hard,
        chunk_of_loop(steps),
    )
    return register(of, loop, language, resident)
