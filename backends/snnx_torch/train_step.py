"""One training step as a function of tensors: gradients, reduction, clip, update, projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snnx.objective import Objective
from snnx.optim import Optim
from snnx.program import Program
from snnx.scalars import Dial
from snnx_torch.chunks import learnt
from snnx_torch.dials import unpack
from snnx_torch.flat import bunches, chosen, joined, parted
from snnx_torch.flat import norm as norm_of
from snnx_torch.ops import RULES
from snnx_torch.ops import project as project_rule
from snnx_torch.prepare import Prepared
from snnx_torch.ranks import Ranks, Share

if TYPE_CHECKING:
    from snnx_torch.capture import Side

Tensors = Mapping[str, Tensor]


class TrainStep:
    """A step without arrays of its own: what changes is given and returned."""

    def __init__(
        self,
        program: Program,
        objective: Objective,
        optim: Optim,
        names: tuple[str, ...],
        dtype: torch.dtype,
        ranks: Ranks | None,
        sync_norm: bool,
        chunk: int | None = None,
    ) -> None:
        self.chunk = chunk
        self.side: Side | None = None
        self.objective, self.names, self.dtype = objective, names, dtype
        self.ranks, self.sync_norm = ranks, sync_norm
        self.loss, self.attributes = RULES[objective.op], objective.attributes
        self.readout = objective.readout
        self.clip, self.most = optim.clip_norm, optim.clip_value
        alike: dict[str, tuple[Any, Any, dict[str, int]]] = {}  # updated by the same numbers
        for p in program.parameters:
            bounds = (None, None) if p.learned is None else p.learned.raw_bounds
            rule = optim.rule(p)
            alike.setdefault(repr((rule, bounds)), (rule, bounds, {}))[2][p.path] = p.size
        self.plans = [
            (paths, rule, bounds)
            for rule, bounds, sizes in alike.values()
            for paths in bunches(sizes)
        ]

    def losses(self, y: Tensor, batch: Tensors) -> Tensor:
        """Return per-sample losses [copies * N]."""
        return self.loss(self._loss_inputs(y, batch), self.attributes)["loss"]

    def _loss_inputs(self, y: Tensor, batch: Tensors) -> dict[str, Tensor]:
        copies = y.shape[1] // batch["index"].shape[0]
        labels = self.objective.classifies
        inputs = {"logits" if labels else "output": y}
        inputs["target" if labels else "target_values"] = batch["y"]
        if "length" in batch:
            inputs["length"] = batch["length"]
        if copies > 1:
            for name in inputs:
                if name not in ("logits", "output"):
                    array = inputs[name]
                    inputs[name] = array.repeat(copies, *[1] * (array.dim() - 1))
        return inputs

    def gradients(
        self, value: Tensor, leaves: Tensors, g: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the gradient of every leaf, zeros where the value does not depend on it.

        `g` is the gradient of a value that is no single number.
        """
        found = torch.autograd.grad(value, list(leaves.values()), g, allow_unused=True)
        if self.side is not None:
            self.side.join()
        return {
            k: torch.zeros_like(leaf) if g is None else g.detach()
            for (k, leaf), g in zip(leaves.items(), found, strict=True)
        }

    def synchronised(self, share: Share | None) -> Share | None:
        """Return the share where norms are to take the whole batch."""
        alone = self.ranks is None or self.ranks.size == 1
        return None if alone or not self.sync_norm else share

    def counted(self, figures: Tensor, share: Share | None) -> Tensor:
        """Return figures of samples, times 0 where the sample stands in for none."""
        return figures if share is None or share.count else 0.0 * figures

    def __call__(
        self,
        prepared: Prepared,
        totals: Sequence[int],
        shares: Sequence[Share | None],
        parameters: Tensors,
        statistics: Tensors,
        moments: Tensors,
        count: Tensor,
        parts: Sequence[Tensors],
        buffer: Tensor,
        imposed: Tensors,
        vote: Tensor,
    ) -> Any:
        """Return new parameters, statistics, moments and count, the report and the losses.

        `totals` are the numbers of steps of the micro-batches `parts`, `shares` what each is a part
        of; `imposed` are gradients of the mean loss over all of them, which stand for those of
        their paths. After a step that is not finite everything stays as it is, in later steps too:
        the count is halted.
        """
        dials = unpack(buffer, self.names, self.dtype)
        leaves = {k: p.detach().requires_grad_() for k, p in parameters.items()}
        samples = sum(
            part["index"].shape[0] if share is None else share.total
            for part, share in zip(parts, shares, strict=True)
        )
        grads: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        correct = torch.zeros((), dtype=self.dtype, device=buffer.device)
        new_statistics: Tensors = {k: v.detach() for k, v in statistics.items()}
        for steps, part, share in zip(totals, parts, shares, strict=True):
            each, y, found, new_statistics = learnt(
                self, prepared, leaves, new_statistics, part, dials, steps, samples, share
            )
            for k, g in found.items():
                grads[k] = grads[k] + g if k in grads else g
            losses.append(each)
            correct = correct + self.counted(self._correct(y, part), share)
        with torch.no_grad():
            total = torch.cat(losses).sum()
            if self.ranks is not None:
                own = sum(share.count for share in shares if share is not None)
                weight = None if self.sync_norm or self.ranks.size == 1 else own / samples
                figures = (total, correct, vote)
                grads, new_statistics, (total, correct, vote) = self.reduced(
                    grads, new_statistics, figures, weight
                )
            grads |= imposed
            mean = total / samples
            norm = norm_of(grads.values())
            finite = torch.isfinite(mean) & torch.isfinite(norm) & (count >= 0)
            old = {k: p.detach() for k, p in parameters.items()}
            new, new_moments = self._updated(old, grads, moments, count + 1, norm, dials, finite)
            figures = [finite, norm, correct, mean, vote]
            report = torch.stack([figure.to(self.dtype) for figure in figures])
            return (
                new,
                chosen(finite, new_statistics, statistics),
                new_moments,
                torch.where(finite, count + 1, halted(count)),
                report,
                losses,
            )

    def _correct(self, y: Tensor, batch: Tensors) -> Tensor:
        if not self.objective.classifies:
            return torch.zeros((), dtype=self.dtype, device=y.device)
        inputs = {k: v for k, v in self._loss_inputs(y, batch).items() if k != "target"}
        mean = RULES["readout"](inputs, self.readout)["y"]
        return (mean.argmax(dim=-1) == batch["y"]).sum().to(self.dtype)

    def reduced(
        self,
        grads: Tensors,
        statistics: Tensors,
        figures: tuple[Tensor, ...],
        weight: float | None,
    ) -> tuple[dict[str, Tensor], Tensors, tuple[Tensor, ...]]:
        """Return gradients and figures summed over all processes, in one all-reduce.

        Every process gets the same bits, so that all agree whether the step is finite. With a
        `weight` the running statistics are means over the processes.
        """
        assert self.ranks is not None
        rows = [
            *grads.values(),
            *(() if weight is None else [weight * v for v in statistics.values()]),
        ]
        flat = [row.reshape(-1) for row in rows]
        own = torch.stack([figure.to(self.dtype) for figure in figures])
        joint = self.ranks.sum(torch.cat([*flat, own]))
        pieces = joint.split([row.numel() for row in [*flat, own]])
        found = [p.reshape(row.shape) for p, row in zip(pieces[:-1], rows, strict=True)]
        if weight is not None:
            statistics = dict(zip(statistics, found[len(grads) :], strict=True))
        return dict(zip(grads, found, strict=False)), statistics, pieces[-1].unbind()

    def _updated(
        self,
        parameters: Tensors,
        grads: Tensors,
        moments: Tensors,
        count: Tensor,
        norm: Tensor,
        dials: Tensors,
        finite: Tensor,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return parameters and moments after the rules, or as they were where not finite.

        An update works on elements, so what one rule updates by the same numbers goes through it
        as one row: the same bits in a few launches, not in a few for every tensor.
        """
        scale = None if self.clip is None else (self.clip / (norm + 1e-6)).clamp(max=1.0)
        new: dict[str, Tensor] = {}
        new_moments: dict[str, Tensor] = {}
        for paths, rule, (low, high) in self.plans:
            g = joined([grads[path] for path in paths])
            g = g if scale is None else g * scale
            old = {"parameter": joined([parameters[path] for path in paths])}
            for m in rule.moments:
                old[m] = joined([moments[f"{path}.{m}"] for path in paths])
            inputs: dict[str, Any] = {
                **old,
                "gradient": g if self.most is None else g.clamp(-self.most, self.most),
                "lr": dials[rule.lr.name] if isinstance(rule.lr, Dial) else float(rule.lr),
            }
            if rule.counts:
                inputs["count"] = count.to(self.dtype)
            out = RULES[rule.op](inputs, rule.attributes)
            out |= project_rule({"parameter": out["parameter"]}, {"low": low, "high": high})
            like = [parameters[path] for path in paths]
            for name, row in old.items():
                pieces = parted(torch.where(finite, out[name], row), like)
                if name == "parameter":
                    new |= zip(paths, pieces, strict=True)
                else:
                    new_moments |= zip((f"{path}.{name}" for path in paths), pieces, strict=True)
        return new, new_moments


def halted(count: Tensor) -> Tensor:
    """Return the count of a session that takes no step until it is read: -1 - count, once."""
    return torch.where(count < 0, count, -1 - count)


def resumed(count: Tensor) -> Tensor:
    """Return the count of updates, halted or not."""
    return torch.where(count < 0, -1 - count, count)


def commit(old: Sequence[Tensors], new: Sequence[Tensors]) -> None:
    """Copy new tensors into the old ones, whose identity others rely on."""
    with torch.no_grad():
        for ours, theirs in zip(old, new, strict=True):
            if ours:
                pairs = (list(ours.values()), [theirs[k] for k in ours])
                torch._foreach_copy_(*pairs)  # type: ignore[attr-defined]
