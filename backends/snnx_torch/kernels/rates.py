"""The kernels of DSR's spiking layer as operators, and the rule that uses them.

    snnx::rate_forward(x, states, numbers, weights, spec, kappa) -> [y, final states, code]
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
from snnx_torch.kernels.operator import fake, gradient, operator
from snnx_torch.kernels.ops import LAUNCH, SUMMING, WRITERS
from snnx_torch.losses import step_weights
from snnx_torch.rates import rate_neuron as generic
from snnx_torch.scan import planned


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
    kappa: float,
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
    kappa: float,
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


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    x, states, numbers, weights, spec, kappa = inputs
    ctx.save_for_backward(output[-1], weights)
    ctx.spec, ctx.steps, ctx.kappa = spec, x.shape[0], kappa
    ctx.counts = len(states), len(numbers)
    ctx.set_materialize_grads(False)


def _pull(ctx: Any, grads: list[Tensor | None]) -> Any:
    code, weights = ctx.saved_tensors
    known, g_y = _SPECS[ctx.spec], grads[0]
    states, numbers = ([None] * count for count in ctx.counts)
    if g_y is None:
        return None, states, numbers, None, None, None
    found = torch.ops.snnx.rate_backward(code, weights, g_y, ctx.spec)
    if known.learned:
        g = ctx.kappa * found[1]
        numbers = [g if n.name == "p.threshold" else None for n in known.unit.numbers]
    g_x = found[0] if known.variant.static else found[0].expand(ctx.steps, *g_y.shape[1:])
    return g_x, states, numbers, None, None, None


gradient(forward_op, _pull, _keep)


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
    numbers = [inputs[n].to(torch.float32) for n in plan.numbers]
    weights = step_weights(x.expand(steps, *x.shape[1:]), None, neuron.decay, torch.float32)
    found = forward_op(x, states, numbers, weights.reshape(-1), spec, attributes["kappa"])
    names = ("y", *(plan.states if final else ()))
    outputs = dict(zip(names, found, strict=False))
    return {n: v if n == "y" else v.detach() for n, v in outputs.items()}


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
