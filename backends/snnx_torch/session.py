"""Training: the protocol's session, over the pure core and a step that never waits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnx.backend import Arrays, Batch, Dials, Forward, Snapshot
from snnx.batch import (
    check_batch,
    check_dials,
    check_gradients,
    check_hand_over,
    check_names,
    check_parts,
    check_snapshot,
    dial_values,
)
from snnx.chunks import check_chunk
from snnx.mode import EVAL, Mode, Run, train_mode
from snnx.objective import Objective
from snnx.optim import Optim
from snnx.recompute import check_recompute
from snnx_torch import core
from snnx_torch.arrays import (
    batch_in,
    host,
    parameters_in,
    parameters_out,
    sent,
    state_in,
    state_out,
    to_numpy,
)
from snnx_torch.capture import Capture, chosen
from snnx_torch.compiling import algorithms, hindrance, searches
from snnx_torch.dials import pack, unpack, words_of
from snnx_torch.figures import Pending, figures
from snnx_torch.net import Net
from snnx_torch.ranks import Ranks, Share, share_of
from snnx_torch.replay import Inputs, StepTaker
from snnx_torch.snapshots import exported, load_moments, load_weights
from snnx_torch.train_step import TrainStep, resumed

ENDS = (".spike", ".potential")


class TorchSession:
    """See `snnx.backend.Session`."""

    def __init__(
        self,
        net: Net,
        objective: Objective,
        optim: Optim,
        steps: int,
        compile: bool | str,
        deterministic: bool,
        group: Any,
        chunk: int | None = None,
        sync_norm: bool = True,
        recompute: int | None = None,
        graph: bool | None = None,
        capture: Capture | None = None,
    ) -> None:
        """`capture` stands for CUDA's where a step is to be recorded elsewhere."""
        optim.check(net.program)
        check_chunk(net.program, chunk)
        self.ranks = None if group is None else Ranks(group)
        check_recompute(recompute)
        self.net, self.objective, self.optim, self.steps = net, objective, optim, steps
        self.known = dial_values(net.program, optim)
        self.names = tuple(self.known)
        self.train = train_mode(net.program)
        self.parameters = {p.path: net.get_parameter(p.path) for p in net.program.parameters}
        self.owners = {  # of every moment, the parameter
            f"{p.path}.{m}": p.path for p in net.program.parameters for m in optim.rule(p).moments
        }
        self.moments = {k: torch.zeros_like(self.parameters[v]) for k, v in self.owners.items()}
        self.count = torch.zeros((), dtype=torch.int64, device=net.device)
        self.train_step = TrainStep(
            *(net.program, objective, optim, self.names, net.dtype, self.ranks, sync_norm), chunk
        )
        self.deterministic = deterministic
        self.searches = searches(net.device, deterministic)
        if capture is None:
            capture, self.why = chosen(net, graph, deterministic, group)
        else:
            self.why = ""
        state = (self.parameters, self.moments, self.count)
        self.taker = StepTaker(
            net, self.train_step, state, compile, recompute, capture, graph is True
        )

    def _move(self, array: Any) -> Tensor:
        return sent(array, self.net.dtype, self.net.device)

    def _batch(
        self, batch: Batch, steps: int | None, waits: bool = False
    ) -> tuple[dict[str, Tensor], int]:
        """Return the arrays, on the device or where they wait to be copied to it, and T."""
        x, total = check_batch(self.net.program, self.objective, batch, steps or self.steps)
        found = batch_in({**batch, "x": x}, self.net.dtype, self.net.device)
        if waits:
            return found, total
        return {k: v.to(self.net.device, non_blocking=True) for k, v in found.items()}, total

    def _buffer(self, dials: Mapping[str, Any]) -> Tensor:
        return pack(check_dials(self.known, dials), self.names, self.net.device)

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
        shares = tuple(share_of(self.ranks, part) for part in parts)
        net = self.net
        imposed = parameters_in(net.program, gradients or {}, net.dtype, net.device)
        waits = self.taker.capture is not None  # the graph has a place for them
        moved = [self._batch(part, None, waits) for part in parts]
        form = (mode or self.train, tuple(total for _, total in moved), shares)
        words = words_of(check_dials(self.known, dials), self.names, net.device)
        wish = torch.full((), float(vote), dtype=net.dtype, device=net.device)
        with algorithms(self.deterministic, self.searches):
            given = Inputs([part for part, _ in moved], words, imposed, wish)
            report, losses = self.taker(form, given)
        samples = sum(
            len(part["index"]) if share is None else share.total
            for part, share in zip(parts, shares, strict=True)
        )
        return Pending(losses, report, int(dials.get("step", 0)), samples)

    def read(self, pending: Pending) -> dict[str, float]:
        """Wait for the step; FloatingPointError where it was not finite."""
        try:
            return figures(pending, alone=self.ranks is None or self.ranks.size == 1)
        except FloatingPointError:
            self.count.copy_(resumed(self.count))
            raise

    def _run(
        self,
        batch: Batch,
        dials: Mapping[str, Any],
        mode: Mode,
        steps: int | None,
        *,
        parameters: Mapping[str, Tensor],
        impose: Arrays | None = None,
        observed: frozenset[str] = frozenset(),
        state: Mapping[str, Any] | None = None,
        copies: int = 1,
        at: str | None = None,
        values: np.ndarray | None = None,
        taps: Collection[str] = (),
        share: Share | None = None,
        hand_over: bool = False,
    ) -> tuple[core.Result, dict[str, Tensor]]:
        net = self.net
        tensors, total = self._batch(batch, steps)
        x, inner = tensors["x"], None if values is None else self._move(values)
        if copies > 1:  # also with `at`: a skip may lead past it, from the input
            x = x.repeat(1, copies, *[1] * (x.dim() - 2))
        how = Run(mode, total, copies, frozenset(impose or ()), observed)
        out = core.play(
            net.prepared(how, at, taps, hand_over=hand_over),
            parameters,
            net.statistics(),
            x,
            state_in(state, net.dtype, net.device),
            unpack(self._buffer(dials), self.names, net.dtype),
            tensors["index"],
            total,
            impose={k: self._move(v) for k, v in (impose or {}).items()},
            values=inner,
            share=share,
        )
        return out, tensors

    def _replaced(self, parameters: Arrays | None) -> dict[str, Tensor]:
        net = self.net
        given = parameters_in(net.program, parameters or {}, net.dtype, net.device)
        return {**self.parameters, **given}

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
        with algorithms(self.deterministic), torch.no_grad():
            own = self._replaced(parameters)
            out, tensors = self._run(
                batch, dials, mode, steps, parameters=own, copies=copies, at=at, values=values
            )
            losses = self.train_step.losses(out.y, tensors)
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
        leaves = {k: p.detach().requires_grad_() for k, p in self.parameters.items()}
        share = share_of(self.ranks, batch) if "share" in batch else None
        norms = self.train_step.synchronised(share)
        with algorithms(self.deterministic):
            options = {"parameters": leaves, "impose": impose, "share": norms}
            out, tensors = self._run(batch, dials, mode or self.train, steps, **options)
            losses = self.train_step.losses(out.y, tensors)
            if share is not None and share.count == 0:
                losses = 0.0 * losses
            samples = losses.shape[0] if share is None else share.total
            found = self.train_step.gradients(losses.sum() / samples, leaves)
            total = to_numpy(losses.detach()).astype(np.float64).sum()
            if share is not None:
                found, _, (whole,) = self.train_step.reduced(
                    found, {}, (losses.detach().sum(),), None
                )
                total = float(whole)
        chosen = {k: found[k] for k in (wrt if wrt is not None else found)}
        return float(total / samples), parameters_out(self.net.program, chosen)

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
        observed = frozenset(t.rsplit(".", 1)[0] for t in taps if t.endswith(ENDS))
        with algorithms(self.deterministic), torch.no_grad():
            edges = [t for t in taps if not t.endswith(ENDS)]
            options = {"impose": impose, "observed": observed, "state": state, "taps": edges}
            options["hand_over"] = hand_over
            out, _ = self._run(
                batch, dials, mode or EVAL, steps, parameters=self.parameters, **options
            )
        found = {t: out.observed[t] if t.endswith(ENDS) else out.edges[t] for t in taps}
        return Forward(to_numpy(out.y), host(found), state_out(out.state), host(out.statistics))

    def export(self) -> Snapshot:
        """Return weights, statistics and moments as canonical arrays."""
        return exported(self.net, self.moments, self.owners, int(resumed(self.count)))

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot."""
        check_snapshot(self.net.program, self.optim, snapshot)
        load_weights(self.net, snapshot)
        if snapshot.moments:
            load_moments(self.net, self.moments, self.owners, snapshot)
            self.count.fill_(snapshot.count)

    def implementations(self) -> dict[str, str]:
        """Return what runs each spiking step of a training step, and why, by its path."""
        return self.net.implementations()

    def step_form(self) -> str:
        """Return how a training step runs: recorded and replayed, or eagerly and why."""
        form, why = self.taker.described(self.why), hindrance()
        return f"{form}; not compiled: {why}" if why and self.net.device.type == "cuda" else form

    def compilations(self) -> int:
        """Return how many graphs the step has been compiled into so far."""
        return self.taker.compilations
