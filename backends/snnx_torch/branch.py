"""A branch of a fused norm and neuron: its norm, its statistics, what it adds, its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnx_torch.ranks import Share
from snnx_torch.scan import at, wide

Measure = Callable[[Tensor, int], tuple[Tensor, Tensor]]


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
    mean = total_of([step.sum(dim=1, keepdim=True) for step in steps]) / count
    squares = [(step - mean).square().sum(dim=1, keepdim=True) for step in steps]
    return mean, total_of(squares) / count


def total_of(terms: Sequence[Tensor]) -> Tensor:
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
        g = [total_of(g)] if self.x.shape[0] < len(g) else list(g)
        if self.norm is None:
            return torch.stack(g).to(self.x.dtype), None, None
        norm, sums = self.norm, []
        for t, step in enumerate(g):
            g[t] = grouped(step, norm.copies)
            joint = g[t] * self._centred(t)
            sums.append((g[t].sum(dim=1, keepdim=True), joint.sum(dim=1, keepdim=True)))
        total, joint = (total_of([pair[i] for pair in sums]) for i in range(2))
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


def branches_of(
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


def statistics_of(
    x: Tensor, norm: Norm, running: list[Tensor], measure: Measure = moments
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return mean and 1 / sqrt(var + eps), [copies, 1, C], and the running statistics after.

    `measure` finds mean and variance of a batch that is here as a whole.
    """
    dtype = wide(x.dtype)
    if norm.mode == "running":
        mean, var = (r.to(dtype).reshape(1, 1, -1) for r in running)
        return mean, (var + norm.eps).rsqrt(), running
    if norm.share is None:
        mean, var = measure(x, norm.copies)
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
