"""Training on MLX: one pure function per step, compiled or not, that waits for nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from snnx.backend import Arrays, Batch, Dials, Forward, Snapshot
from snnx.batch import (
    check_batch,
    check_dials,
    check_gradients,
    check_hand_over,
    check_names,
    check_parts,
    check_snapshot,
    not_taken,
)
from snnx.chunks import check_chunk
from snnx.mode import EVAL, Mode, Run
from snnx.objective import Objective
from snnx.optim import Optim
from snnx.recompute import check_recompute
from snnx_mlx.arrays import floats, host, state_in, state_out, to_mlx, to_numpy, to_words
from snnx_mlx.compiling import compiles
from snnx_mlx.memory import within_memory
from snnx_mlx.net import Net, project
from snnx_mlx.ranks import Ranks, Share, lost, share_of
from snnx_mlx.train_step import TrainStep, Tree, resumed

Pending = dict[str, Any]


class MlxSession:
    """See `snnx.backend.Session`."""

    def __init__(
        self,
        net: Net,
        objective: Objective,
        optim: Optim,
        steps: int,
        compile: bool | None,
        chunk: int | None = None,
        group: Any = None,
        sync_norm: bool = True,
        recompute: int | None = None,
    ) -> None:
        optim.check(net.program)
        check_chunk(net.program, chunk)
        self.ranks = None if group is None else Ranks(group)
        check_recompute(recompute)
        self.net, self.objective, self.optim, self.steps = net, objective, optim, steps
        self.train_step = TrainStep(net, objective, optim, chunk, self.ranks, sync_norm, recompute)
        self.compiled = compiles(compile, net.device)
        self._functions: dict[tuple[Any, ...], Callable[..., Any]] = {}
        with mx.stream(net.device):
            self.moments: Tree = {
                f"{p.path}.{m}": mx.zeros(p.shape)
                for p in net.program.parameters
                for m in optim.rule(p).moments
            }
            self.count = mx.array(0, mx.int32)

    def _dials(self, dials: Dials) -> Tree:
        buffer = self.train_step.dials
        return buffer.read(buffer.fill(check_dials(self.train_step.known, dials)))

    def _batch(self, batch: Batch, steps: int | None) -> tuple[Tree, int]:
        """Return the checked batch as MLX arrays, x as [T or 1, N, *F], and T."""
        x, total = check_batch(self.net.program, self.objective, batch, steps or self.steps)
        arrays = {"x": to_mlx(x).astype(mx.float32), "y": to_mlx(batch["y"])}
        arrays["index"] = to_words(batch["index"])
        length = batch.get("length")
        if length is not None:
            arrays["length"] = to_mlx(length)
        return arrays, total

    def _function(
        self,
        mode: Mode,
        parts: list[tuple[Tree, int]],
        shares: tuple[Share | None, ...],
        imposed: tuple[str, ...],
    ) -> Callable[..., Any]:
        """Return the step for such parts and imposed gradients; compiled once."""
        sizes = tuple((total, "length" in batch) for batch, total in parts)
        key = (mode, sizes, shares, imposed)
        function = self._functions.get(key)
        if function is None:
            totals = tuple(total for _, total in parts)
            function = partial(self.train_step, mode, totals, shares)
            function = mx.compile(function) if self.compiled else function
            self._functions[key] = function
        return function

    def step(
        self,
        parts: Sequence[Batch],
        dials: Dials,
        mode: Mode | None = None,
        gradients: Arrays | None = None,
        *,
        vote: bool = False,
    ) -> Pending:
        """Take one update from micro-batches."""
        check_parts(parts)
        check_gradients(self.net.program, gradients)
        values = check_dials(self.train_step.known, dials)
        shares = tuple(share_of(self.ranks, part) for part in parts)
        with within_memory(), mx.stream(self.net.device), self._others():
            ready = [self._batch(part, None) for part in parts]
            imposed = floats(gradients)
            how = mode or self.train_step.mode
            function = self._function(how, ready, shares, tuple(imposed))
            batches = [batch for batch, _ in ready]
            words = self.train_step.dials.fill(values)
            parameters, statistics, self.moments, self.count, figures = function(
                *self.net.arrays(),
                self.moments,
                self.count,
                batches,
                words,
                imposed,
                mx.array(float(vote)),
            )
            self.net.assign(parameters, statistics)
            # everything new is evaluated each step, or the graphs of all steps stay alive
            mx.async_eval(parameters, statistics, self.moments, self.count, figures)
        samples = sum(
            len(part["index"]) if share is None else share.total
            for part, share in zip(parts, shares, strict=True)
        )
        return {**figures, "samples": samples, "step": int(values["step"])}

    def read(self, pending: Pending) -> dict[str, float]:
        """Wait, and return the step's figures; FloatingPointError where they are not finite."""
        names = ("loss", "gradient_norm", "correct", "votes")
        with within_memory(), self._others():
            loss, norm, correct, votes = (to_numpy(pending[name]).item() for name in names)
        if not pending["finite"].item():
            with mx.stream(self.net.device):
                self.count = resumed(self.count)
            raise FloatingPointError(not_taken(pending["step"], loss, norm))
        return {
            "loss": loss,
            "correct": int(correct),
            "samples": pending["samples"],
            "gradient_norm": norm,
            "votes": votes,
        }

    def _others(self) -> Any:
        """Return what turns MLX's error for a lost process into RankLost."""
        return nullcontext() if self.ranks is None else lost(self.ranks.rank)

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
        check_names(self.net.program, parameters=parameters, at=at)
        with mx.stream(self.net.device):
            own, statistics = self.net.arrays()
            own |= floats(parameters)
            ready, total = self._batch(batch, steps)
            out = self.train_step.run(
                Run(mode, total, copies),
                own,
                statistics,
                ready,
                dials=self._dials(dials),
                at=at,
                values=None if values is None else to_mlx(values).astype(mx.float32),
                trains=False,
                hand_over=False,
            )
            losses = self.train_step.losses(ready, out.y)
            return to_numpy(losses).reshape(copies, -1)

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
        check_names(self.net.program, parameters=wrt, impose=impose)
        share = share_of(self.ranks, batch) if "share" in batch else None
        step = nullcontext() if self.ranks is None else self.ranks.step()
        with within_memory(), mx.stream(self.net.device), self._others(), step:
            ready, total = self._batch(batch, steps)
            value, grads, _, _ = self.train_step.gradients(
                Run(mode or self.train_step.mode, total, 1, frozenset(impose or ())),
                *self.net.arrays(),
                ready,
                len(batch["index"]) if share is None else share.total,
                share,
                dials=self._dials(dials),
                impose=floats(impose),
            )
            if share is not None:
                grads, _, (value,) = self.train_step.reduced(grads, {}, (value,), None)
            chosen = list(grads) if wrt is None else list(wrt)
            mx.eval(value, grads)
            return float(to_numpy(value)), {k: to_numpy(grads[k]) for k in chosen}

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
        hand_over: bool = True,
    ) -> Forward:
        """Run the network and return output, taps, state and statistics."""
        check_names(self.net.program, taps=taps, impose=impose, state=state)
        check_hand_over(state, hand_over)
        ends = (".spike", ".potential")
        observed = frozenset(t.rsplit(".", 1)[0] for t in taps if t.endswith(ends))
        with mx.stream(self.net.device):
            ready, total = self._batch(batch, steps)
            out = self.train_step.run(
                Run(mode or EVAL, total, 1, frozenset(impose or ()), observed),
                *self.net.arrays(),
                ready,
                dials=self._dials(dials),
                impose=floats(impose),
                state=state_in(state),
                taps=[t for t in taps if not t.endswith(ends)],
                trains=False,
                hand_over=hand_over,
            )
            found = {t: out.observed[t] if t.endswith(ends) else out.edges[t] for t in taps}
            return Forward(to_numpy(out.y), host(found), state_out(out.state), host(out.statistics))

    def export(self) -> Snapshot:
        """Return weights, statistics and moments."""
        parameters, statistics = self.net.arrays()
        count = int(to_numpy(resumed(self.count)))
        return Snapshot(host(parameters), host(statistics), host(self.moments), count)

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot."""
        check_snapshot(self.net.program, self.optim, snapshot)
        with mx.stream(self.net.device):
            parameters = project(self.net.program, floats(snapshot.parameters))
            self.net.assign(parameters, floats(snapshot.statistics))
            if snapshot.moments:
                self.moments = floats(snapshot.moments)
                self.count = mx.array(snapshot.count, mx.int32)
            mx.eval(self.net.parameters(), self.moments, self.count)

    def implementations(self) -> dict[str, str]:
        """Return what runs each spiking step of a training step, and why, by its path."""
        return self.net.implementations()

    def step_form(self) -> str:
        """Return how a training step runs."""
        return "compiled by MLX as one piece" if self.compiled else "not compiled, built anew"

    def compilations(self) -> int:
        """Return how many times the step was traced to be compiled."""
        return self.train_step.traces if self.compiled else 0
