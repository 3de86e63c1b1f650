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
from snnx_torch.packed import pack, scale_of, unpack
from snnx_torch.ranks import Share
from snnx_torch.sequence import (
    Plan,
    added,
    at,
    at_rest,
    given_extra,
    planned,
    prepared,
    replay,
    scan,
    sum_to,
    unscan,
    wide,
)


@dataclass(frozen=True, slots=True)
class Norm:
    """What the norm of a branch fixes besides its arrays; `repeat` as in op batch_norm.

    Statistics of a `share` are those of the whole batch.
    """

    mode: str
    eps: float
    momentum: float
    scale: float
    copies: int
    repeat: int
    share: Share | None = None

    @staticmethod
    def of(attributes: Mapping[str, Any], share: Share | None) -> Norm:
        """Return it from the attributes of op batch_norm."""
        mode, copies = attributes["mode"], attributes.get("copies", 1)
        if mode not in ("batch", "frozen_batch", "running"):
            raise ValueError(f"norm_neuron: mode {mode!r} is none of batch, frozen_batch, running")
        eps, momentum = attributes.get("eps", 1e-5), attributes.get("momentum", 0.1)
        scale, repeat = attributes.get("scale", 1.0), attributes["repeat"]
        share = None if mode == "running" else share
        return Norm(mode, eps, momentum, scale, copies, repeat, share)


def grouped(x: Tensor, copies: int) -> Tensor:
    """Return one step [N, *S, C] as [copies, rest, C] in the wide dtype."""
    return x.reshape(copies, -1, x.shape[-1]).to(wide(x.dtype))


def moments(x: Tensor, copies: int) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of a sequence [T, N, *S, C], each [copies, 1, C].

    The variance is that of the values less their mean, summed step by step.
    """
    count = x.numel() // (copies * x.shape[-1])
    steps = [grouped(step, copies) for step in x]
    mean = _total([step.sum(dim=1, keepdim=True) for step in steps]) / count
    squares = [(step - mean).square().sum(dim=1, keepdim=True) for step in steps]
    return mean, _total(squares) / count


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


@dataclass(slots=True)
class Branch:
    """A sequence that is added into the current: normalised where `norm` is given."""

    x: Tensor
    norm: Norm | None
    mean: Tensor
    inverse: Tensor
    weight: Tensor
    bias: Tensor

    def current(self, t: int) -> Tensor:
        """Return what the branch adds at step t, in the wide dtype."""
        now = at(self.x, t, wide(self.x.dtype))
        if self.norm is None:
            return now
        return (self._centred(t) * self.factor + self.bias).reshape(now.shape)

    @property
    def factor(self) -> Tensor:
        """scale weight / sqrt(var + eps), [copies, 1, C]."""
        assert self.norm is not None
        return self.norm.scale * self.weight * self.inverse

    def gradients(self, g: list[Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the gradients of x, weight and bias from those of what it added, by step."""
        g = [_total(g)] if self.x.shape[0] < len(g) else list(g)
        if self.norm is None:
            return torch.stack(g).to(self.x.dtype), None, None
        norm, sums = self.norm, []
        for t, step in enumerate(g):
            g[t] = grouped(step, norm.copies)
            joint = g[t] * self._centred(t)
            sums.append((g[t].sum(dim=1, keepdim=True), joint.sum(dim=1, keepdim=True)))
        total, joint = (_total([pair[i] for pair in sums]) for i in range(2))
        count, whole = self.x.numel() // (norm.copies * self.x.shape[-1]), (total, joint)
        if norm.share is not None:
            count, whole = norm.share.values(self.x), norm.share.sums(total, joint)
        for t, step in enumerate(g):  # one step at a time, each in the place of what it came from
            if norm.mode != "running":
                slope = self.inverse.square() * whole[1] / count
                step = step - whole[0] / count - self._centred(t) * slope
            step = step if norm.share is None else norm.share.own(step)
            g[t] = (self.factor * step).reshape(self.x.shape[1:]).to(self.x.dtype)
        g_weight = (norm.scale * self.inverse * joint).sum(dim=(0, 1))
        return torch.stack(g), g_weight, total.sum(dim=(0, 1))

    def _centred(self, t: int) -> Tensor:
        assert self.norm is not None
        return grouped(at(self.x, t, self.x.dtype), self.norm.copies) - self.mean


def _branches(
    norms: Sequence[Norm | None], arrays: Sequence[Tensor], statistics: Sequence[Tensor]
) -> list[Branch]:
    """Return the branches; `arrays` are x or (x, weight, bias) of each, in turn."""
    found: list[Branch] = []
    rest, stats = list(arrays), list(statistics)
    for norm in norms:
        x = rest.pop(0)
        if norm is None:
            found.append(Branch(x, None, x, x, x, x))
        else:
            weight, bias = (rest.pop(0).to(wide(x.dtype)) for _ in range(2))
            found.append(Branch(x, norm, stats.pop(0), stats.pop(0), weight, bias))
    return found


def _joint(branches: Sequence[Branch]) -> Callable[[int], Tensor]:
    """Return u as a function of t."""
    return lambda t: _total([branch.current(t) for branch in branches])


@dataclass(frozen=True, slots=True)
class Fused:
    """What one call fixes: the neuron's plan, T, the norm of each branch.

    `packed` is how a plain residual of spikes is scaled, where it is kept as bits; None: it is not.
    `rests`: the neuron begins at rest, and its states are no arguments.
    """

    plan: Plan
    steps: int
    norms: tuple[Norm | None, ...]
    packed: str | None
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

    def kept(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], torch.Size | None]:
        """Return what is kept of the tensors, and the shape of a residual kept as bits."""
        if self.packed is None:
            return list(tensors), None
        place = sum(1 if norm is None else 3 for norm in self.norms) - 1
        residual = tensors[place]
        bits = [pack(residual), scale_of(residual, self.packed)]
        return [*tensors[:place], *tensors[place + 1 :], *bits], residual.shape

    def restored(self, kept: Sequence[Tensor], shape: torch.Size | None) -> list[Tensor]:
        """Return the tensors again."""
        if shape is None:
            return list(kept)
        *others, bits, scale = kept
        place = sum(1 if norm is None else 3 for norm in self.norms) - 1
        return [*others[:place], unpack(bits, shape, scale), *others[place:]]


class NormNeuron(torch.autograd.Function):
    """apply(fused, extra, statistics, *branch arrays, *states, *numbers) -> y, ..., *states."""

    @staticmethod
    def forward(ctx: Any, fused: Fused, extra: Any, statistics: Any, *tensors: Tensor) -> Any:
        outputs = _forward(fused, extra, statistics, tensors)
        ctx.fused, ctx.counts = fused, (len(statistics), extra is not None)
        kept, ctx.shape = fused.kept(tensors)
        ctx.save_for_backward(*statistics, *(() if extra is None else (extra,)), *kept)
        if fused.plan.observe:
            ctx.mark_non_differentiable(*outputs[1:3])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        fused, (count, masked), saved = ctx.fused, ctx.counts, ctx.saved_tensors
        plan, statistics = fused.plan, saved[:count]
        tensors = fused.restored(saved[count + masked :], ctx.shape)
        extra = saved[count] if masked else None
        arrays, states, values = fused.split(tensors)
        branches = _branches(fused.norms, arrays, statistics)
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
        return (None, None, None, *found, *g_states, *g_numbers)


def _forward(
    fused: Fused, extra: Any, statistics: Sequence[Tensor], tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    arrays, states, numbers = fused.split(tensors)
    current = _joint(_branches(fused.norms, arrays, statistics))
    low = arrays[0].dtype
    return scan(fused.plan, fused.steps, current, low, extra, *states, *numbers, keep=False)[0]


def norm_neuron(inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run norm, residual and neuron over time: see `snnx.ops.norm_neuron`."""
    plan = attributes["plan"] if "plan" in attributes else planned(attributes)
    steps = step_count(inputs, attributes)
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
        mean, inverse, new = _statistics(x.detach(), norm, [r.detach() for r in running])
        statistics += [mean, inverse]
        moved |= {f"{branch}{n}": a for n, a in zip(NORM_INPUTS[2:], new, strict=True)}
    states, numbers = prepared(plan, inputs, inputs["x"])
    extra = given_extra(plan, inputs)
    packed = attributes.get("residual_packed")
    rests = not any(name in inputs for name in plan.states)
    fused = Fused(plan, steps, tuple(norms), packed, rests)
    tensors = (*arrays, *(() if rests else states), *numbers)
    if torch.is_grad_enabled():
        found = NormNeuron.apply(fused, extra, tuple(statistics), *tensors)
    else:
        found = _forward(fused, extra, statistics, tensors)
    names = ("y", *(("spike", "potential") if plan.observe else ()), *plan.states)
    return {**dict(zip(names, found, strict=True)), **moved}


def _statistics(
    x: Tensor, norm: Norm, running: list[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return mean and 1 / sqrt(var + eps), [copies, 1, C], and the running statistics after."""
    dtype = wide(x.dtype)
    if norm.mode == "running":
        mean, var = (r.to(dtype).reshape(1, 1, -1) for r in running)
        return mean, (var + norm.eps).rsqrt(), running
    if norm.share is None:
        mean, var = moments(x, norm.copies)
    else:
        mean, var = (m.reshape(1, 1, -1) for m in norm.share.moments(x.to(dtype)))
    inverse = (var + norm.eps).rsqrt()
    if norm.mode != "batch" or norm.copies > 1:
        return mean, inverse, running
    count = x.numel() // x.shape[-1] if norm.share is None else norm.share.values(x)
    count *= norm.repeat
    if count == 1:
        raise ValueError(
            "norm_neuron: one value per channel has no unbiased variance; give more samples or "
            'steps, or use mode "running"'
        )
    fresh = (mean.reshape(-1), var.reshape(-1) * (count / (count - 1)))
    keep = 1.0 - norm.momentum
    return (
        mean,
        inverse,
        [keep * r + norm.momentum * f for r, f in zip(running, fresh, strict=True)],
    )
