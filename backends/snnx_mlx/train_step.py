"""One training step as a pure function of arrays, fit to be compiled as one piece."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from snnx.batch import dial_values
from snnx.chunks import spans
from snnx.mode import Mode, Run, train_mode
from snnx.objective import Objective
from snnx.optim import Optim
from snnx.scalars import Dial, initial
from snnx_mlx import core
from snnx_mlx.arrays import nested_sum
from snnx_mlx.chunks import truncated, value_and_grad
from snnx_mlx.dials import DialBuffer
from snnx_mlx.net import Net, project
from snnx_mlx.ops import RULES
from snnx_mlx.ranks import Ranks, Share

Tree = dict[str, mx.array]


def halted(count: mx.array) -> mx.array:
    """Return the count of a session that takes no step until it is read: -1 - count, once."""
    return mx.where(count < 0, count, -1 - count)


def resumed(count: mx.array) -> mx.array:
    """Return the count of updates, halted or not."""
    return mx.where(count < 0, -1 - count, count)


class TrainStep:
    """The run, the loss, its gradients and the update of a network; `traces` counts its calls."""

    def __init__(
        self,
        net: Net,
        objective: Objective,
        optim: Optim,
        chunk: int | None = None,
        ranks: Ranks | None = None,
        sync_norm: bool = True,
        recompute: int | None = None,
    ) -> None:
        self.chunk, self.ranks, self.sync_norm = chunk, ranks, sync_norm
        self.recompute = recompute
        self.program = net.program
        self.form = {"precision": net.precision, "lean": net.lean, "kernels": net.kernels}
        self.objective, self.optim = objective, optim
        self.known = dial_values(net.program, optim)
        self.dials = DialBuffer(self.known)
        self.mode = train_mode(net.program)
        self.traces = 0

    def run(self, how: Run, parameters: Tree, statistics: Tree, batch: Tree, **more: Any) -> Any:
        """Run the program on a batch, repeated for every copy."""
        x = batch["x"]
        if how.copies > 1:
            x = mx.tile(x, (1, how.copies, *[1] * (x.ndim - 2)))
        state, dials, index = more.pop("state", None), more.pop("dials"), batch["index"]
        more |= self.form
        return core.run(self.program, parameters, statistics, x, state, dials, index, how, **more)

    def losses(self, batch: Tree, y: mx.array) -> mx.array:
        """Return the loss of every sample and copy."""
        copies = y.shape[1] // batch["index"].shape[0]
        classes = self.objective.classifies
        inputs = {"target" if classes else "target_values": batch["y"]}
        if "length" in batch:
            inputs["length"] = batch["length"]
        inputs = {k: mx.tile(a, (copies, *[1] * (a.ndim - 1))) for k, a in inputs.items()}
        inputs["logits" if classes else "output"] = y
        return RULES[self.objective.op](inputs, self.objective.attributes)["loss"]

    def correct(self, batch: Tree, y: mx.array) -> mx.array:
        """Return how many samples are classified rightly."""
        if not self.objective.classifies:
            return mx.array(0)
        inputs = {"logits": y}
        if "length" in batch:
            inputs["length"] = batch["length"]
        mean = RULES["readout"](inputs, self.objective.readout)["y"]
        return mx.sum(mx.argmax(mean, axis=-1).astype(mx.int32) == batch["y"])

    def synchronised(self, share: Share | None) -> Share | None:
        """Return the share where norms are to take the whole batch."""
        alone = self.ranks is None or self.ranks.size == 1
        return None if alone or not self.sync_norm else share

    def gradients(
        self,
        how: Run,
        parameters: Tree,
        statistics: Tree,
        batch: Tree,
        samples: int,
        share: Share | None = None,
        **more: Any,
    ) -> tuple[mx.array, Tree, mx.array, Tree]:
        """Return the batch's share of the mean loss over `samples`, gradients, y, statistics."""
        more |= {"share": self.synchronised(share), "hand_over": False}

        def loss(values: Tree) -> tuple[mx.array, mx.array, Tree]:
            out = self.run(how, values, statistics, batch, **more)
            each = self.losses(batch, out.y)
            each = each if share is None else share.own(each)
            return mx.sum(each) / samples, out.y, out.statistics

        (value, y, moved), grads = value_and_grad(loss, parameters)
        return value, grads, y, moved

    def __call__(self, *arrays: Any) -> tuple[Tree, Tree, Tree, mx.array, Tree]:
        """Return what `step` does, its collectives being a chain of their own."""
        self.traces += 1
        with nullcontext() if self.ranks is None else self.ranks.step():
            return self.step(*arrays)

    def step(
        self,
        mode: Mode,
        totals: tuple[int, ...],
        shares: tuple[Share | None, ...],
        parameters: Tree,
        statistics: Tree,
        moments: Tree,
        count: mx.array,
        parts: list[Tree],
        words: mx.array,
        imposed: Tree,
        vote: mx.array,
    ) -> tuple[Tree, Tree, Tree, mx.array, Tree]:
        """Return weights, statistics, moments and count after one update, and its figures.

        `totals` is T of every part, `shares` what each is a part of; `imposed` are gradients of the
        mean loss over all parts that stand for those of their paths. Everything stays as it was
        where loss or gradients are not finite, and in later steps too, since the count is halted;
        the choice is made on the device.
        """
        dials = self.dials.read(words)
        samples = sum(
            part["index"].shape[0] if share is None else share.total
            for part, share in zip(parts, shares, strict=True)
        )
        loss, correct, moved = mx.array(0.0), mx.array(0), statistics
        grads: Tree = {}
        for part, total, share in zip(parts, totals, shares, strict=True):
            learn = (
                self.gradients if len(spans(total, self.chunk)) == 1 else partial(truncated, self)
            )
            more = {"dials": dials, "recompute": self.recompute}
            value, new, y, moved = learn(
                Run(mode, total), parameters, moved, part, samples, share, **more
            )
            right = self.correct(part, y)
            loss, correct = loss + value, correct + (right if share is None else share.own(right))
            grads = {k: grads[k] + g if k in grads else g for k, g in new.items()}
        if self.ranks is not None:
            own = sum(share.count for share in shares if share is not None)
            weight = None if self.sync_norm or self.ranks.size == 1 else own / samples
            grads, moved, (loss, correct, vote) = self.reduced(
                grads, moved, (loss, correct, vote), weight
            )
        grads |= imposed
        squares = [nested_sum(g * g, g.ndim) for g in grads.values()]
        norm = mx.sqrt(sum(squares, start=mx.array(0.0)))
        finite = mx.logical_and(mx.isfinite(loss), mx.isfinite(norm))
        finite = mx.logical_and(finite, count >= 0)
        updated, new_moments = self._update(parameters, grads, norm, moments, count + 1, dials)

        def keep(new: Tree, old: Tree) -> Tree:
            return {k: mx.where(finite, new[k], old[k]) for k in old}

        figures = {
            "loss": loss,
            "correct": correct,
            "gradient_norm": norm,
            "finite": finite,
            "votes": vote,
        }
        after = (keep(updated, parameters), keep(moved, statistics), keep(new_moments, moments))
        return (*after, mx.where(finite, count + 1, halted(count)), figures)

    def reduced(
        self, grads: Tree, statistics: Tree, figures: tuple[mx.array, ...], weight: float | None
    ) -> tuple[Tree, Tree, tuple[mx.array, ...]]:
        """Return gradients and figures summed over all processes, in one all-reduce.

        Every process gets the same bits, so that all agree whether the step is finite. With a
        `weight` the running statistics are means over the processes.
        """
        assert self.ranks is not None
        rows = list(grads.values())
        if weight is not None:
            rows += [weight * v for v in statistics.values()]
        rows += [figure.astype(mx.float32) for figure in figures]
        joint = self.ranks.sum(mx.concatenate([row.reshape(-1) for row in rows]))
        ends = np.cumsum([row.size for row in rows]).tolist()
        pieces = mx.split(joint, ends[:-1])
        found = [piece.reshape(row.shape) for piece, row in zip(pieces, rows, strict=True)]
        if weight is not None:
            statistics = dict(zip(statistics, found[len(grads) :], strict=False))
        new = dict(zip(grads, found, strict=False))
        return new, statistics, tuple(found[-len(figures) :])

    def _update(
        self,
        parameters: Tree,
        grads: Tree,
        norm: mx.array,
        moments: Tree,
        count: mx.array,
        dials: Tree,
    ) -> tuple[Tree, Tree]:
        """Return parameters and moments after clip, update and projection."""
        clip = self.optim.clip_norm
        scale = None if clip is None else mx.minimum(1.0, clip / (norm + 1e-6))
        most = self.optim.clip_value
        new, new_moments = {}, {}
        for p in self.program.parameters:
            rule = self.optim.rule(p)
            g = grads[p.path] if scale is None else grads[p.path] * scale
            lr = dials[rule.lr.name] if isinstance(rule.lr, Dial) else mx.array(initial(rule.lr))
            inputs = {
                "parameter": parameters[p.path],
                "gradient": g if most is None else mx.clip(g, -most, most),
                "lr": lr,
                **{m: moments[f"{p.path}.{m}"] for m in rule.moments},
            }
            if rule.counts:
                inputs["count"] = count.astype(mx.float32)
            out = RULES[rule.op](inputs, rule.attributes)
            new[p.path] = out["parameter"]
            new_moments |= {f"{p.path}.{m}": out[m] for m in rule.moments}
        return project(self.program, new), new_moments
