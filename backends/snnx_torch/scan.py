"""The traced step of a neuron and its reverse, interpreted over time.

Arithmetic is in float32 for 16-bit inputs, else in the input's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnx.lower import evaluate, forward_lines, reverse_lines
from snnx.ops.neuron import learned_names
from snnx.trace import Fire, Lines

WIDE = {torch.bfloat16: torch.float32, torch.float16: torch.float32}


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a neuron, a norm or a loss computes."""
    return WIDE.get(dtype, dtype)


def narrow(y: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an output of an autograd.Function in a dtype.

    It is no cast where it has that dtype: compiled by torch 2.11, such a cast loses the gradient.
    """
    return y if y.dtype == dtype else y.to(dtype)


def _where(c: Any, a: Any, b: Any) -> Any:
    return torch.where(c, a, b)  # a Python number takes the dtype of the other branch


def _maximum(a: Any, b: Any) -> Any:
    if isinstance(a, float):
        return b.clamp(min=a)
    return a.clamp(min=b) if isinstance(b, float) else torch.maximum(a, b)


def _minimum(a: Any, b: Any) -> Any:
    if isinstance(a, float):
        return b.clamp(max=a)
    return a.clamp(max=b) if isinstance(b, float) else torch.minimum(a, b)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": torch.abs,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "atan": torch.atan,
    "sqrt": torch.sqrt,
    "maximum": _maximum,
    "minimum": _minimum,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "where": _where,
    "spike_ge": lambda x: (x >= 0.0).to(x.dtype),
    "spike_gt": lambda x: (x > 0.0).to(x.dtype),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sequence fixes besides its arrays. `extra` is "mask", "spike" or "" (none)."""

    neuron: Any
    fire: Fire
    forward: Lines
    reverse: Lines
    states: tuple[str, ...]
    numbers: tuple[str, ...]
    learned: tuple[str, ...]
    extra: str
    observe: bool
    emits_spike: bool
    binary: bool


@lru_cache(maxsize=512)
def plan(neuron: Any, fire: str, observe: bool) -> Plan:
    """Return the plan of a neuron in a mode of firing."""
    trace = neuron.trace()
    learned = learned_names({"neuron": neuron})
    return Plan(
        neuron,
        fire,  # type: ignore[arg-type]
        forward_lines(trace, fire, observe),  # type: ignore[arg-type]
        reverse_lines(trace, learned),
        tuple(f"state.{s}" for s in trace.states),
        tuple(name for name in trace.inputs if name.startswith("p.")),
        learned,
        {"mixed": "mask", "imposed": "spike"}.get(fire, ""),
        observe,
        trace.emits_spike,
        fire in ("spike", "imposed"),
    )


def planned(attributes: Mapping[str, Any]) -> Plan:
    """Return the plan of an op's attributes."""
    return plan(
        attributes["neuron"], attributes.get("fire", "spike"), attributes.get("observe", False)
    )


def full(value: Any, like: Tensor) -> Tensor:
    """Return the value as a tensor of the shape of `like`."""
    if isinstance(value, float):
        return torch.full_like(like, value)
    return value.expand_as(like)


def at_rest(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a state of zeros."""
    return torch.zeros_like(x[0], dtype=dtype)


def sum_to(g: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the leading axes along which a number of `shape` is shared."""
    extra = g.dim() - len(shape)
    return g.sum(dim=tuple(range(extra))) if extra else g


def at(x: Tensor, t: int, dtype: torch.dtype) -> Tensor:
    """Return step t of x, or its only step where x is static."""
    return x[t if x.shape[0] > 1 else 0].to(dtype)


def scan(
    plan: Plan,
    steps: int,
    current: Callable[[int], Tensor],
    low: torch.dtype,
    extra: Any,
    *rest: Tensor,
    keep: bool = True,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Return (y, (spike, potential), *states), and for the backward spikes and states before.

    `current(t)` is the neuron's input at step t in the wide dtype; y comes in the dtype `low`.
    """
    results, state, before = _walk(plan, steps, current, wide(low), extra, rest, keep)
    y = narrow(torch.stack(results["y"]), low)
    kept = [_kept_spikes(plan, results["spike"], y, extra)] if keep else []
    return (y, *observed(plan, results), *(state[n] for n in plan.states)), [*kept, *before]


def replay(
    plan: Plan,
    steps: int,
    current: Callable[[int], Tensor],
    low: torch.dtype,
    extra: Any,
    *rest: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the spikes, and the states before each step, of a scan that ran before."""
    results, _, before = _walk(plan, steps, current, wide(low), extra, rest, True)
    return results["spike"], before


def _kept_spikes(plan: Plan, each: list[Tensor], y: Tensor, extra: Any) -> Tensor:
    """Return the spikes for the backward: the imposed ones or the output where these are them."""
    if plan.extra == "spike":
        return extra
    if plan.emits_spike and (plan.binary or y.dtype == wide(y.dtype)):
        return y
    spikes = torch.stack(each)
    return spikes.to(y.dtype) if plan.binary else spikes


def _walk(
    plan: Plan,
    steps: int,
    current: Callable[[int], Tensor],
    dtype: torch.dtype,
    extra: Any,
    rest: Sequence[Tensor],
    keep: bool,
) -> tuple[dict[str, list[Tensor]], dict[str, Tensor], list[Tensor]]:
    """Run the list over time: sequences of results, final states, states before each step."""
    count = len(plan.states)
    state = dict(zip(plan.states, rest[:count], strict=True))
    numbers = dict(zip(plan.numbers, rest[count:], strict=True))
    before: list[Tensor] = []
    results: dict[str, list[Tensor]] = {"y": [], "spike": [], "potential": []}
    for t in range(steps):
        if keep:
            before += [state[name] for name in plan.states]
        values = {**numbers, **state, "x": current(t), **extra_at(plan, extra, t, dtype)}
        out = evaluate(plan.forward, values, OPERATIONS)
        state = {name: full(out[name], state[name]) for name in plan.states}
        collect(plan, results, out)
    return results, state, before


class Pulled(NamedTuple):
    """One step of the reverse: g of its input and of the states before it; terms of numbers."""

    g: Tensor
    g_state: dict[str, Tensor]
    terms: dict[str, Tensor]


def unscan(
    plan: Plan,
    steps: int,
    current: Callable[[int], Tensor],
    spikes: list[Tensor],
    before: list[Tensor],
    numbers: Mapping[str, Tensor],
    g_y: Tensor,
    g_states: Sequence[Tensor],
) -> Iterator[Pulled]:
    """Yield what each step gives, from the last to the first.

    `spikes` and the states `before` each step are taken off their lists once they are used.
    """
    names = tuple(reversed(plan.states))
    g_state = dict(zip(plan.states, g_states, strict=True))
    for t in reversed(range(steps)):
        x = current(t)
        values = {**numbers, **{name: before.pop() for name in names}}
        values |= {f"g.{name}": g for name, g in g_state.items()}
        values |= {"x": x, "spike": spikes.pop().to(x.dtype), "g.y": g_y[t].to(x.dtype)}
        out = evaluate(plan.reverse, values, OPERATIONS)
        g_state = {name: full(out[f"g.{name}"], g_state[name]) for name in plan.states}
        terms = {name: full(out[f"g.{name}"], values["g.y"]) for name in plan.learned}
        yield Pulled(full(out["g.x"], values["g.y"]), g_state, terms)


def added(sums: dict[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sums with the terms of one step."""
    return {n: sums[n] + term if n in sums else term for n, term in terms.items()}


def extra_at(plan: Plan, extra: Any, t: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the mask or the imposed spike of step t by name, where the plan has one."""
    if not plan.extra:
        return {}
    now = extra[t]
    return {plan.extra: now.to(dtype) if plan.binary else now}


def collect(plan: Plan, results: dict[str, list[Tensor]], out: Mapping[str, Any]) -> None:
    """Append what a step gave to the sequences of results."""
    results["y"].append(out["y"])
    results["spike"].append(out["spike"])
    if plan.observe:
        results["potential"].append(out["potential"])


def observed(plan: Plan, results: Mapping[str, list[Tensor]]) -> tuple[Tensor, ...]:
    """Return the sequences of spikes and potentials where they are wanted."""
    if not plan.observe:
        return ()
    return torch.stack(results["spike"]), torch.stack(results["potential"])
