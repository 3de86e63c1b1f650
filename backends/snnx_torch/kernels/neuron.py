"""The rule of the op "neuron": kernels where `implementation` says so, else the generic rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Unit, Variant, chunk_of, unit
from snnx_torch.draws import Drawn
from snnx_torch.kernels.implementation import fused
from snnx_torch.kernels.ops import register
from snnx_torch.scan import Plan, planned
from snnx_torch.sequence import distinct, sequence

OPS = torch.ops.snnx
UNITS: dict[str, Unit] = {}


@dataclass(frozen=True, slots=True)
class Call:
    """What a call of the kernels fixes besides arrays: see `snnx_torch.kernels.ops`.

    counts: how many arrays there are beside the input, states given and numbers; outputs: y, what
    is observed and `finals` states. learned: which numbers have gradients.
    """

    spec: str
    samples: int
    key: int
    recomputes: bool
    counts: tuple[int, int, int]
    outputs: int
    finals: int
    observe: bool
    emits: bool
    learned: tuple[bool, ...]

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return everything that the kernel writes; `tensors` as `NeuronKernels` takes them."""
        x, extra, states, numbers = self.parted(tensors)
        fixed = (self.spec, self.samples, self.key)
        return OPS.neuron_forward(x, extra, states, numbers, *fixed)

    def parted(
        self, tensors: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Return x, what comes beside it, the given states, and the numbers of the unit."""
        extra, states, _ = self.counts
        first, last = 1 + extra, 1 + extra + states
        return tensors[0], list(tensors[1:first]), list(tensors[first:last]), list(tensors[last:])


def parts(saved: Sequence[Tensor], lengths: Sequence[int]) -> list[list[Tensor]]:
    """Return saved tensors as the lists that they were, of these lengths."""
    each = iter(saved)
    return [list(islice(each, length)) for length in lengths]


class NeuronKernels(torch.autograd.Function):
    """apply(call, x, *beside, *states, *numbers) -> y, (spike, potential), *states, (bits)."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Any:
        made = call.forward(tensors)
        x, extra, states, numbers = call.parted(tensors)
        last = len(made) - call.emits
        kept, fired = made[call.outputs : last], made[last:]
        every = [kept, [], [], numbers]
        if call.recomputes:
            every = [[x, *kept], extra, states, numbers]
        ctx.call, ctx.lengths = call, [len(each) for each in every]
        ctx.save_for_backward(*(t for each in every for t in each))
        ctx.mark_non_differentiable(*(made[1:3] if call.observe else []), *fired)
        return (*made[: call.outputs], *fired)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        call = ctx.call
        kept, extra, states, numbers = parts(ctx.saved_tensors, ctx.lengths)
        g_states = list(grads[call.outputs - call.finals : call.outputs])
        given = (extra, states, numbers, grads[0], g_states, call.spec, call.samples, call.key)
        g_x, *found = OPS.neuron_backward(kept, *given)
        beside, count, _ = call.counts
        learned = iter(found[count:])
        g_numbers = [next(learned) if each else None for each in call.learned]
        return (None, g_x, *[None] * beside, *found[:count], *g_numbers)


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
    observed, finals = 2 * plan.observe, len(plan.states) if final else 0
    recomputes, learned = _recomputes(name)
    counts = (len(extra), len(states), len(numbers))
    outputs = 1 + observed + finals
    fixed = (recomputes, counts, outputs, finals, plan.observe, emits, learned)
    call, tensors = Call(spec, samples, key, *fixed), (x, *extra, *states, *numbers)
    made = NeuronKernels.apply(call, *tensors) if trains else call.forward(tensors)
    names = ["y", *(("spike", "potential") if plan.observe else ())]
    names += list(plan.states) if final else []
    found = dict(zip(names, made, strict=False))
    if emits:
        found["bits"] = made[-1]
    for seen in ("spike", "potential"):
        if seen in found:
            found[seen] = found[seen].detach()
    return found


@torch.compiler.assume_constant_result
def _recomputes(name: str) -> tuple[bool, tuple[bool, ...]]:
    """Say whether the backward of a unit recomputes, and which of its numbers are learned."""
    of = UNITS[name]
    return of.bits is None, tuple(n.learned for n in of.numbers)


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
