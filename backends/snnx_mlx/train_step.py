"""One training step as a pure function of arrays, fit to be compiled as one piece."""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx

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

Tree = dict[str, mx.array]


class TrainStep:
    """The run, the loss, its gradients and the update of a network; `traces` counts its calls."""

    def __init__(
        self, net: Net, objective: Objective, optim: Optim, chunk: int | None = None
    ) -> None:
        self.chunk = chunk
        self.program, self.precision, self.lean = net.program, net.precision, net.lean
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
        more |= {"precision": self.precision, "lean": self.lean}
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

    def gradients(
        self,
        how: Run,
        parameters: Tree,
        statistics: Tree,
        batch: Tree,
        samples: int,
        **more: Any,
    ) -> tuple[mx.array, Tree, mx.array, Tree]:
        """Return the batch's share of the mean loss over `samples`, gradients, y, statistics."""

        def loss(values: Tree) -> tuple[mx.array, mx.array, Tree]:
            out = self.run(how, values, statistics, batch, **more)
            return mx.sum(self.losses(batch, out.y)) / samples, out.y, out.statistics

        (value, y, moved), grads = value_and_grad(loss, parameters)
        return value, grads, y, moved

    def __call__(
        self,
        mode: Mode,
        totals: tuple[int, ...],
        parameters: Tree,
        statistics: Tree,
        moments: Tree,
        count: mx.array,
        parts: list[Tree],
        words: mx.array,
        imposed: Tree,
    ) -> tuple[Tree, Tree, Tree, mx.array, Tree]:
        """Return weights, statistics, moments and count after one update, and its figures.

        `totals` is T of every part; `imposed` are gradients of the mean loss over all parts that
        stand for those of their paths. Everything stays as it was where loss or gradients are not
        finite; the choice is made on the device.
        """
        self.traces += 1
        dials = self.dials.read(words)
        samples = sum(part["index"].shape[0] for part in parts)
        loss, correct, moved = mx.array(0.0), mx.array(0), statistics
        grads: Tree = {}
        for part, total in zip(parts, totals, strict=True):
            learn = (
                self.gradients if len(spans(total, self.chunk)) == 1 else partial(truncated, self)
            )
            value, new, y, moved = learn(
                Run(mode, total), parameters, moved, part, samples, dials=dials
            )
            loss, correct = loss + value, correct + self.correct(part, y)
            grads = {k: grads[k] + g if k in grads else g for k, g in new.items()}
        grads |= imposed
        squares = [nested_sum(g * g, g.ndim) for g in grads.values()]
        norm = mx.sqrt(sum(squares, start=mx.array(0.0)))
        finite = mx.logical_and(mx.isfinite(loss), mx.isfinite(norm))
        updated, new_moments = self._update(parameters, grads, norm, moments, count + 1, dials)

        def keep(new: Tree, old: Tree) -> Tree:
            return {k: mx.where(finite, new[k], old[k]) for k in old}

        figures = {"loss": loss, "correct": correct, "gradient_norm": norm, "finite": finite}
        after = (keep(updated, parameters), keep(moved, statistics), keep(new_moments, moments))
        return (*after, mx.where(finite, count + 1, count), figures)

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
