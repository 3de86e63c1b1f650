"""The kernels of DSR's spiking layer as operators, and the rule that uses them.

    snnx::rate_forward(x, states, numbers, weights, spec) -> [y, final states, code]
    snnx::rate_backward(code, weights, g_y, spec) -> [g_x of one step, sum of above G]

Kept for the backward are the codes, two bits per neuron, whatever T is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Rule, Source, Unit, Variant, chunk_of, rate_backward, rate_forward
from snnx.emit.layout import Layout, widest
from snnx_torch.kernels.implementation import fused
from snnx_torch.kernels.launch import block
from snnx_torch.kernels.neuron import known, unit_of, whole
from snnx_torch.kernels.neuron import neuron as neuron_alone
from snnx_torch.kernels.operator import fake, operator
from snnx_torch.kernels.ops import LAUNCH, SUMMING, WRITERS
from snnx_torch.losses import step_weights
from snnx_torch.rates import rate_neuron as generic
from snnx_torch.scan import planned
from snnx_torch.sequence import distinct

OPS = torch.ops.snnx


@dataclass(frozen=True, slots=True)
class RateSpec:
    """The kernels of a rate layer."""

    unit: Unit
    variant: Variant
    learned: bool
    forward: Source
    backward: Source
    language: str


_SPECS: dict[str, RateSpec] = {}


def register(of: Unit, variant: Variant, rule: Rule, language: str) -> str:
    """Return the name under which the operators know the kernels of a rate layer."""
    forward = rate_forward(of, variant, rule, WRITERS[language])
    backward = rate_backward(variant, rule, WRITERS[language])
    name = forward.name + backward.name.removeprefix("snnx_rate_backward")
    _SPECS.setdefault(
        name, RateSpec(of, variant, rule.threshold is None, forward, backward, language)
    )
    return name


@operator("rate_forward")
def forward_op(
    x: Tensor,
    states: list[Tensor],
    numbers: list[Tensor],
    weights: Tensor,
    spec: str,
) -> list[Tensor]:
    """Return y, the final states and the code."""
    known, shape = _SPECS[spec], x.shape[1:]
    arrays = {"x": x, "weights": weights}
    given = [f"s{known.unit.states.index(name)}_in" for name in known.variant.given]
    arrays |= dict(zip(given, states, strict=True))
    arrays |= {f"p{i}_at": number for i, number in enumerate(numbers)}
    size = block(known.unit, known.variant, x.element_size())
    layout = Layout.of(tuple(shape)).coding(widest(known.unit))
    parts = (known.forward, known.unit, known.variant, layout)
    got = LAUNCH[known.language](*parts, x.dtype, size)(arrays)
    code = got.pop("code")
    return [*(a.view(*a.shape[:-1], *shape) for a in got.values()), code]


@fake(forward_op)
def _(
    x: Tensor,
    states: list[Tensor],
    numbers: list[Tensor],
    weights: Tensor,
    spec: str,
) -> list[Tensor]:
    known, shape = _SPECS[spec], x.shape[1:]
    y = x.new_empty((known.variant.steps, *shape))
    count = len(known.unit.states) if known.variant.final else 0
    final = [x.new_empty(shape, dtype=torch.float32) for _ in range(count)]
    layout = Layout(shape.numel(), shape[1:].numel(), shape[-1])
    size = layout.coding(widest(known.unit)).lane
    return [y, *final, x.new_empty((size,), dtype=torch.uint8)]


@operator("rate_backward")
def backward_op(code: Tensor, weights: Tensor, g_y: Tensor, spec: str) -> list[Tensor]:
    """Return the gradient of one step of x and, where the threshold is learned, sum(above G)."""
    known, shape = _SPECS[spec], g_y.shape[1:]
    arrays = {"code": code, "weights": weights, "g_y": g_y}
    size = block(known.unit, known.variant, g_y.element_size())
    layout = Layout.of(tuple(shape))
    if known.learned:
        layout = SUMMING[known.language](known.unit, layout, size)
    parts = (known.backward, known.unit, known.variant, layout)
    got = LAUNCH[known.language](*parts, g_y.dtype, size)(arrays)
    g_x = got["g_x"].view(1, *shape)
    return [g_x, got["partial_p0"].sum()] if known.learned else [g_x]


@fake(backward_op)
def _(code: Tensor, weights: Tensor, g_y: Tensor, spec: str) -> list[Tensor]:
    g_x = g_y.new_empty((1, *g_y.shape[1:]))
    return [g_x, g_y.new_empty((), dtype=torch.float32)] if _SPECS[spec].learned else [g_x]


class RateKernels(torch.autograd.Function):
    """apply(spec, kappa, learned, given, x, weights, *states, *numbers) -> y, *states.

    given: how many states there are; learned: which of the numbers has a gradient, the threshold
    or none.
    """

    @staticmethod
    def forward(
        ctx: Any,
        spec: str,
        kappa: float,
        learned: tuple[bool, ...],
        given: int,
        x: Tensor,
        weights: Tensor,
        *rest: Tensor,
    ) -> Any:
        states, numbers = list(rest[:given]), list(rest[given:])
        *made, code = OPS.rate_forward(x, states, numbers, weights, spec)
        ctx.save_for_backward(code, weights)
        ctx.spec, ctx.kappa, ctx.learned, ctx.given = spec, kappa, learned, given
        ctx.steps, ctx.shapes = x.shape[0], [n.shape for n in numbers]
        ctx.mark_non_differentiable(*made[1:])
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        code, weights = ctx.saved_tensors
        g_y = grads[0]
        g_x, *above = OPS.rate_backward(code, weights, g_y, ctx.spec)
        g_x = g_x.expand(ctx.steps, *g_y.shape[1:])
        g_numbers = [
            (ctx.kappa * above[0]).reshape(shape) if learned else None
            for learned, shape in zip(ctx.learned, ctx.shapes, strict=True)
        ]
        return (None, None, None, None, g_x, None, *[None] * ctx.given, *g_numbers)


def rate_neuron(inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run DSR's spiking layer: kernels where `implementation` says so, else the generic rule."""
    x, neuron = inputs["x"], attributes["neuron"]
    seen = attributes.get("observe", False) or attributes.get("fire", "spike") != "spike"
    language = "" if seen else fused(attributes, x)
    if not language:
        return generic(inputs, attributes)
    if not torch.is_grad_enabled():
        return neuron_alone(inputs, attributes)  # which gathers no rates
    plan = attributes["plan"] if "plan" in attributes else planned(attributes)
    name = attributes["unit"] if "unit" in attributes else known(plan)
    steps = attributes.get("steps", x.shape[0])
    given = tuple(state for state in plan.states if state in inputs)
    final = attributes.get("hand_over", True)
    constant = None if "p.threshold" in inputs else float(neuron.threshold)
    rule = (attributes["kind"], attributes["dt"], attributes["tau"], constant)
    spec = _spec(name, language, whole(steps), x.shape[0] < steps, given, rule, final)
    states = [inputs[n].detach().to(torch.float32) for n in given]
    numbers = distinct([inputs[n].to(torch.float32) for n in plan.numbers])
    weights = step_weights(x.expand(steps, *x.shape[1:]), None, neuron.decay, torch.float32)
    learned = tuple(n == "p.threshold" for n in plan.numbers)
    arrays = (x, weights.reshape(-1), *states, *numbers)
    found = RateKernels.apply(spec, attributes["kappa"], learned, len(states), *arrays)
    names = ("y", *(plan.states if final else ()))
    return dict(zip(names, found, strict=True))


@torch.compiler.assume_constant_result
def _spec(*fixed: Any) -> str:
    """Return the name of the kernels of a rate layer, as `_made` has it."""
    return _made(*fixed)


@cache
def _made(
    name: str,
    language: str,
    steps: int,
    static: bool,
    given: tuple[str, ...],
    rule: tuple[Any, ...],
    final: bool,
) -> str:
    """Return the name of the kernels of a rate layer."""
    of = unit_of(name)
    chunk = chunk_of(steps, "", len(of.states), 0)
    variant = Variant(steps, static, given, final=final, chunk=chunk)
    return register(of, variant, Rule(*rule), language)
