"""Training on MLX: one pure function per step, compiled or not, that waits for nothing."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from snnx.backend import COUNTERS, Arrays, BackendError, Batch, Dials, Forward, Snapshot
from snnx.batch import check_batch, check_dials, check_snapshot, dial_values
from snnx.mode import EVAL, Mode, Run, train_mode
from snnx.objective import Objective
from snnx.optim import Optim
from snnx.scalars import Dial
from snnx_mlx import core
from snnx_mlx.arrays import nested_sum, to_mlx, to_numpy, to_words
from snnx_mlx.net import Net, project
from snnx_mlx.ops import RULES

Tree = dict[str, mx.array]
Pending = dict[str, Any]


class MlxSession:
    """See `snnx.backend.Session`."""

    def __init__(
        self, net: Net, objective: Objective, optim: Optim, steps: int, compile: bool | None
    ) -> None:
        optim.check(net.program)
        self.net, self.objective, self.optim, self.steps = net, objective, optim, steps
        self.known = dial_values(net.program, optim)
        self.names = (*COUNTERS, *self.known)
        self.train = train_mode(net.program)
        self.compiled = _choose(compile, net.device)
        self.traces = 0
        self._functions: dict[tuple[int, ...], Callable[..., Any]] = {}
        with mx.stream(net.device):
            self.moments: Tree = {
                f"{p.path}.{m}": mx.zeros(p.shape)
                for p in net.program.parameters
                for m in optim.rule(p).moments
            }
            self.count = mx.array(0, mx.uint32)

    def _words(self, values: Mapping[str, Any]) -> mx.array:
        """Return all dials as one buffer of 32-bit words: counters as they are, floats by bits."""
        words = np.empty(len(self.names), np.uint32)
        for i, name in enumerate(self.names):
            if name in COUNTERS:
                words[i] = int(values[name]) % 2**32
            else:
                words[i : i + 1].view(np.float32)[0] = values[name]
        return mx.array(words)

    def _dials(self, words: mx.array) -> Tree:
        floats = words.view(mx.float32)
        return {
            name: words[i] if name in COUNTERS else floats[i] for i, name in enumerate(self.names)
        }

    def _batch(self, batch: Batch, steps: int | None) -> tuple[Tree, int]:
        """Return the checked batch as MLX arrays, x as [T or 1, N, *F], and T."""
        x, total = check_batch(self.net.program, self.objective, batch, steps or self.steps)
        arrays = {"x": to_mlx(x).astype(mx.float32), "y": to_mlx(np.asarray(batch["y"]))}
        arrays["index"] = to_words(batch["index"])
        if batch.get("length") is not None:
            arrays["length"] = to_mlx(np.asarray(batch["length"]))
        return arrays, total

    def _run(self, how: Run, parameters: Tree, batch: Tree, **more: Any) -> core.Result:
        x = batch["x"]
        if how.copies > 1:
            x = mx.tile(x, (1, how.copies, *[1] * (x.ndim - 2)))
        return core.run(
            self.net.program,
            parameters,
            more.pop("statistics"),
            x,
            more.pop("state", None),
            more.pop("dials"),
            batch["index"],
            how,
            precision=self.net.precision,
            **more,
        )

    def _losses(self, batch: Tree, y: mx.array) -> mx.array:
        copies = y.shape[1] // batch["index"].shape[0]
        classes = self.objective.classifies
        inputs = {"target" if classes else "target_values": batch["y"]}
        if "length" in batch:
            inputs["length"] = batch["length"]
        inputs = {k: mx.tile(a, (copies, *[1] * (a.ndim - 1))) for k, a in inputs.items()}
        inputs["logits" if classes else "output"] = y
        return RULES[self.objective.op](inputs, self.objective.attributes)["loss"]

    def _correct(self, batch: Tree, y: mx.array) -> mx.array:
        if not self.objective.classifies:
            return mx.array(0)
        inputs = {"logits": y}
        if "length" in batch:
            inputs["length"] = batch["length"]
        mean = RULES["readout"](inputs, self.objective.readout)["y"]
        return mx.sum(mx.argmax(mean, axis=-1).astype(mx.int32) == batch["y"])

    def _gradients(
        self, how: Run, parameters: Tree, batch: Tree, samples: int, **more: Any
    ) -> tuple[mx.array, Tree, core.Result]:
        """Return the batch's share of the loss over `samples`, its gradients and the run."""
        kept: list[core.Result] = []

        def loss(values: Tree) -> tuple[mx.array, mx.array, Tree]:
            out = self._run(how, values, batch, **more)
            kept.append(out)
            return mx.sum(self._losses(batch, out.y)) / samples, out.y, out.statistics

        (value, y, statistics), grads = mx.value_and_grad(loss)(parameters)
        out = kept[0]
        out.y, out.statistics = y, statistics
        return value, grads, out

    def _step(
        self,
        totals: tuple[int, ...],
        parameters: Tree,
        statistics: Tree,
        moments: Tree,
        count: mx.array,
        parts: list[Tree],
        words: mx.array,
    ) -> tuple[Tree, Tree, Tree, mx.array, Tree]:
        """Return everything after one update; pure, so that it compiles as one piece."""
        self.traces += 1
        dials = self._dials(words)
        samples = sum(p["index"].shape[0] for p in parts)
        loss, correct, moved = mx.array(0.0), mx.array(0), statistics
        grads: Tree = {}
        for part, total in zip(parts, totals, strict=True):
            how = Run(self.train, total)
            value, new, out = self._gradients(
                how, parameters, part, samples, statistics=moved, dials=dials
            )
            loss, correct, moved = (
                loss + value,
                correct + self._correct(part, out.y),
                out.statistics,
            )
            grads = {k: grads[k] + g if k in grads else g for k, g in new.items()}
        squares = [nested_sum(g * g, g.ndim) for g in grads.values()]
        norm = mx.sqrt(mx.sum(mx.stack(squares)))
        finite = mx.logical_and(mx.isfinite(loss), mx.isfinite(norm))
        updated, new_moments = self._update(parameters, grads, norm, moments, count + 1, dials)

        def keep(new: Tree, old: Tree) -> Tree:
            return {k: mx.where(finite, new[k], old[k]) for k in old}

        pending = {"loss": loss, "correct": correct, "gradient_norm": norm, "finite": finite}
        return (
            keep(updated, parameters),
            keep(moved, statistics),
            keep(new_moments, moments),
            mx.where(finite, count + 1, count),
            pending,
        )

    def _update(
        self,
        parameters: Tree,
        grads: Tree,
        norm: mx.array,
        moments: Tree,
        count: mx.array,
        dials: Tree,
    ) -> tuple[Tree, Tree]:
        clip = self.optim.clip_norm
        scale = None if clip is None else mx.minimum(1.0, clip / (norm + 1e-6))
        new, new_moments = {}, {}
        for p in self.net.program.parameters:
            rule, g = self.optim.rule(p), grads[p.path]
            lr = dials[rule.lr.name] if isinstance(rule.lr, Dial) else mx.array(rule.lr)
            inputs = {
                "parameter": parameters[p.path],
                "gradient": g if scale is None else g * scale,
                "lr": lr,
                **{m: moments[f"{p.path}.{m}"] for m in rule.moments},
            }
            if rule.counts:
                inputs["count"] = count.astype(mx.float32)
            out = RULES[rule.op](inputs, rule.attributes)
            new[p.path] = out["parameter"]
            new_moments |= {f"{p.path}.{m}": out[m] for m in rule.moments}
        return project(self.net.program, new), new_moments

    def step(self, parts: Sequence[Batch], dials: Dials) -> Pending:
        """Take one update from micro-batches."""
        values = check_dials(self.known, dials)
        with mx.stream(self.net.device):
            ready = [self._batch(part, None) for part in parts]
            totals = tuple(total for _, total in ready)
            function = self._functions.get(totals)
            if function is None:
                function = partial(self._step, totals)
                function = mx.compile(function) if self.compiled else function
                self._functions[totals] = function
            parameters, statistics = self.net.arrays()
            batches = [batch for batch, _ in ready]
            words = self._words(values)
            parameters, statistics, self.moments, self.count, pending = function(
                parameters, statistics, self.moments, self.count, batches, words
            )
            self.net.assign(parameters, statistics)
            # everything new is evaluated each step, or the graphs of all steps stay alive
            mx.async_eval(parameters, statistics, self.moments, self.count, pending)
        samples = sum(len(part["index"]) for part in parts)
        return {**pending, "samples": samples, "step": int(values["step"])}

    def read(self, pending: Pending) -> dict[str, float]:
        """Wait, and return the step's figures; FloatingPointError where they are not finite."""
        loss, norm = pending["loss"].item(), pending["gradient_norm"].item()
        if not pending["finite"].item():
            raise FloatingPointError(
                f"step {pending['step']}: loss {loss}, gradient norm {norm}; weights were left "
                "as they were"
            )
        correct = pending["correct"].item()
        samples = pending["samples"]
        return {"loss": loss, "correct": correct, "samples": samples, "gradient_norm": norm}

    def loss(
        self,
        batch: Batch,
        dials: Dials,
        mode: Mode,
        parameters: Arrays | None = None,
        *,
        at: str | None = None,
        values: np.ndarray | None = None,
        copies: int = 1,
        steps: int | None = None,
    ) -> np.ndarray:
        """Return per-sample losses [copies, N]."""
        words = check_dials(self.known, dials)
        with mx.stream(self.net.device):
            own, statistics = self.net.arrays()
            own |= {k: to_mlx(v) for k, v in (parameters or {}).items()}
            ready, total = self._batch(batch, steps)
            out = self._run(
                Run(mode, total, copies),
                own,
                ready,
                statistics=statistics,
                dials=self._dials(self._words(words)),
                at=at,
                values=None if values is None else to_mlx(values).astype(mx.float32),
            )
            return to_numpy(self._losses(ready, out.y)).reshape(copies, -1)

    def grads(
        self,
        batch: Batch,
        dials: Dials,
        mode: Mode | None = None,
        wrt: Sequence[str] | None = None,
        *,
        impose: Arrays | None = None,
        steps: int | None = None,
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return the mean loss and its gradients by path."""
        words = check_dials(self.known, dials)
        with mx.stream(self.net.device):
            parameters, statistics = self.net.arrays()
            ready, total = self._batch(batch, steps)
            value, grads, _ = self._gradients(
                Run(mode or self.train, total, 1, frozenset(impose or ())),
                parameters,
                ready,
                len(batch["index"]),
                statistics=statistics,
                dials=self._dials(self._words(words)),
                impose=_floats(impose),
            )
            chosen = list(grads) if wrt is None else list(wrt)
            mx.eval(value, grads)
            return value.item(), {k: to_numpy(grads[k]) for k in chosen}

    def forward(
        self,
        batch: Batch,
        dials: Dials,
        mode: Mode | None = None,
        taps: Sequence[str] = (),
        *,
        impose: Arrays | None = None,
        state: Mapping[str, Any] | None = None,
        steps: int | None = None,
    ) -> Forward:
        """Run the network and return output, taps, state and statistics."""
        words = check_dials(self.known, dials)
        ends = (".spike", ".potential")
        observed = frozenset(t.rsplit(".", 1)[0] for t in taps if t.endswith(ends))
        with mx.stream(self.net.device):
            parameters, statistics = self.net.arrays()
            ready, total = self._batch(batch, steps)
            out = self._run(
                Run(mode or EVAL, total, 1, frozenset(impose or ()), observed),
                parameters,
                ready,
                statistics=statistics,
                dials=self._dials(self._words(words)),
                impose=_floats(impose),
                state=_state_in(state),
            )
            found = {t: out.observed[t] if t.endswith(ends) else out.edges[t] for t in taps}
            return Forward(
                to_numpy(out.y), _host(found), _state_out(out.state), _host(out.statistics)
            )

    def export(self) -> Snapshot:
        """Return weights, statistics and moments."""
        parameters, statistics = self.net.arrays()
        count = int(self.count.item())
        return Snapshot(_host(parameters), _host(statistics), _host(self.moments), count)

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot."""
        check_snapshot(self.net.program, self.optim, snapshot)
        with mx.stream(self.net.device):
            parameters = project(self.net.program, _floats(snapshot.parameters))
            self.net.assign(parameters, _floats(snapshot.statistics))
            if snapshot.moments:
                self.moments = _floats(snapshot.moments)
                self.count = mx.array(snapshot.count, mx.uint32)
            mx.eval(self.net.parameters(), self.moments, self.count)

    def compilations(self) -> int:
        """Return how many times the step was traced to be compiled."""
        return self.traces if self.compiled else 0


def _choose(compile: bool | None, device: mx.Device) -> bool:
    """Decide whether the step is compiled.

    Raises: BackendError where compiling was asked for and MLX would quietly not do it.
    """
    on_cpu = device.type == mx.cpu
    missing = on_cpu and platform.system() == "Linux" and shutil.which("g++") is None
    if compile and missing:
        raise BackendError(
            "mlx: compile=True on this CPU needs g++ on PATH, without which MLX runs Python at "
            "every step; install g++ (Debian: apt install g++) or give compile=False"
        )
    if compile is None:
        return not on_cpu
    return compile


def _floats(arrays: Arrays | None) -> Tree:
    return {k: to_mlx(v).astype(mx.float32) for k, v in (arrays or {}).items()}


def _host(arrays: Mapping[str, mx.array]) -> dict[str, np.ndarray]:
    return {k: to_numpy(v) for k, v in arrays.items()}


def _state_in(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        k: v if k == "t" else tuple(to_mlx(a).astype(mx.float32) for a in v)
        for k, v in state.items()
    }


def _state_out(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: int(v.item()) if k == "t" else tuple(to_numpy(a) for a in v) for k, v in state.items()
    }
