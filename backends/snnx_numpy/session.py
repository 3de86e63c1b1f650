"""Training by the spec's own vjps and update rules: the oracle of every other session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snnx.backend import Arrays, Batch, Dials, Forward, Snapshot
from snnx.batch import (
    check_batch,
    check_dials,
    check_gradients,
    check_hand_over,
    check_names,
    check_parts,
    check_share,
    check_snapshot,
    dial_values,
    not_taken,
)
from snnx.chunks import check_chunk
from snnx.mode import EVAL, Mode, Run, train_mode
from snnx.objective import Objective
from snnx.ops import OPS
from snnx.optim import Optim
from snnx_numpy import core
from snnx_numpy.chunks import learnt
from snnx_numpy.net import Net, project
from snnx_numpy.update import updated


class NumpySession:
    """See `snnx.backend.Session`."""

    def __init__(
        self,
        net: Net,
        objective: Objective,
        optim: Optim,
        steps: int,
        chunk: int | None = None,
    ) -> None:
        optim.check(net.program)
        check_chunk(net.program, chunk)
        self.net, self.objective, self.optim, self.steps = net, objective, optim, steps
        self.chunk = chunk
        self.known = dial_values(net.program, optim)
        self.train = train_mode(net.program)
        self.moments = {
            f"{p.path}.{m}": np.zeros(p.shape, net.dtype)
            for p in net.program.parameters
            for m in optim.rule(p).moments
        }
        self.count = 0
        self.halted = False  # after a step that is not finite, until that has been read

    def run(
        self,
        batch: Batch,
        dials: Mapping[str, Any],
        mode: Mode,
        steps: int | None,
        *,
        parameters: Arrays | None = None,
        impose: Arrays | None = None,
        observed: frozenset[str] = frozenset(),
        state: Mapping[str, Any] | None = None,
        copies: int = 1,
        at: str | None = None,
        values: np.ndarray | None = None,
    ) -> core.Result:
        """Run the program on a batch with the session's weights and statistics."""
        net = self.net
        x, total = check_batch(net.program, self.objective, batch, steps or self.steps)
        how = Run(mode, total, copies, frozenset(impose or ()), observed)
        replaced = {k: np.asarray(v, net.dtype) for k, v in (parameters or {}).items()}
        return core.run(
            net.program,
            {**net.parameters, **replaced},
            net.statistics,
            np.tile(x.astype(net.dtype), (1, copies, *[1] * (x.ndim - 2))),
            state,
            check_dials(self.known, dials),
            np.asarray(batch["index"]),
            how,
            impose=impose,
            at=at,
            values=None if values is None else np.asarray(values, net.dtype),
        )

    def _loss_inputs(self, batch: Batch, y: np.ndarray) -> dict[str, np.ndarray]:
        copies = y.shape[1] // len(batch["index"])
        name = "target" if self.objective.classifies else "target_values"
        repeat = lambda a: np.tile(a, (copies, *[1] * (a.ndim - 1)))  # noqa: E731
        inputs = {"logits" if self.objective.classifies else "output": y}
        inputs[name] = repeat(np.asarray(batch["y"]))
        if "length" in batch:
            inputs["length"] = repeat(np.asarray(batch["length"]))
        return inputs

    def value_and_grad(
        self,
        batch: Batch,
        dials: Mapping[str, Any],
        mode: Mode,
        total: int,
        impose: Arrays | None = None,
        steps: int | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray], core.Result]:
        """Return losses [N], gradients of their sum / `total`, and the run."""
        out = self.run(batch, dials, mode, steps, impose=impose)
        losses, g_y = self.loss_and_gradient(batch, out.y, 1.0 / total)
        return losses, self.pulled(out, g_y), out

    def loss_and_gradient(
        self, batch: Batch, y: np.ndarray, g: float | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses [N] of an output y and the gradient of y, for that of the losses."""
        op, attributes = OPS[self.objective.op], self.objective.attributes
        inputs = self._loss_inputs(batch, y)
        losses = op.forward(np, inputs, attributes)
        cotangent = np.broadcast_to(np.asarray(g, y.dtype), losses["loss"].shape)
        found = op.vjp(np, inputs, attributes, losses, {"loss": cotangent})
        return losses["loss"], next(iter(found.values()))

    def pulled(self, out: core.Result, g_y: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of all parameters from that of a run's output."""
        adjoint = core.pull(self.net.program, out, g_y)
        return {
            p.path: adjoint.get(p.path, np.zeros(p.shape, self.net.dtype))
            for p in self.net.program.parameters
        }

    def step(
        self,
        parts: Sequence[Batch],
        dials: Dials,
        mode: Mode | None = None,
        gradients: Arrays | None = None,
        *,
        vote: bool = False,
    ) -> dict[str, float]:
        """Take one update from micro-batches."""
        check_parts(parts)
        for part in parts:
            check_share(part, None)
        check_gradients(self.net.program, gradients)
        values = check_dials(self.known, dials)
        total = sum(len(p["index"]) for p in parts)
        loss, correct = 0.0, 0
        grads: dict[str, np.ndarray] = {}
        statistics = self.net.statistics
        with np.errstate(all="ignore"):  # what is not finite is found and said below
            for part in parts:
                losses, new, y = learnt(self, part, dials, mode or self.train, total)
                loss += float(losses.sum()) / total
                correct += self._correct(part, y)
                grads = {k: grads[k] + g if k in grads else g for k, g in new.items()}
            grads |= {k: np.asarray(g, self.net.dtype) for k, g in (gradients or {}).items()}
            norm = float(np.sqrt(sum(float((g * g).sum()) for g in grads.values())))
        finite = bool(np.isfinite(loss) and np.isfinite(norm)) and not self.halted
        if finite:
            self.count += 1
            updated(self.net, self.optim, self.moments, self.count, grads, norm, values)
        else:
            self.net.statistics, self.halted = statistics, True
        return {
            "loss": loss,
            "correct": correct,
            "samples": total,
            "gradient_norm": norm,
            "finite": finite,
            "step": int(values["step"]),
            "votes": float(vote),
        }

    def _correct(self, batch: Batch, y: np.ndarray) -> int:
        if not self.objective.classifies:
            return 0
        inputs = {"logits": y}
        if "length" in batch:
            inputs["length"] = np.asarray(batch["length"])
        mean = OPS["readout"].forward(np, inputs, self.objective.readout)["y"]
        return int((mean.argmax(-1) == np.asarray(batch["y"])).sum())

    def read(self, pending: dict[str, float]) -> dict[str, float]:
        """Return the step's figures; FloatingPointError where they are not finite."""
        if not pending["finite"]:
            self.halted = False
            figures = (pending["loss"], pending["gradient_norm"])
            raise FloatingPointError(not_taken(int(pending["step"]), *figures))
        return {k: pending[k] for k in ("loss", "correct", "samples", "gradient_norm", "votes")}

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
        out = self.run(
            batch, dials, mode, steps, parameters=parameters, copies=copies, at=at, values=values
        )
        op = OPS[self.objective.op]
        losses = op.forward(np, self._loss_inputs(batch, out.y), self.objective.attributes)
        return losses["loss"].reshape(copies, -1)

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
        total = len(batch["index"])
        losses, grads, _ = self.value_and_grad(
            batch, dials, mode or self.train, total, impose, steps
        )
        chosen = wrt if wrt is not None else list(grads)
        return float(losses.sum()) / total, {k: grads[k] for k in chosen}

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
        out = self.run(
            batch, dials, mode or EVAL, steps, impose=impose, observed=observed, state=state
        )
        found = {t: out.observed[t] if t.endswith(ends) else out.edges[t] for t in taps}
        left = out.state if hand_over else {"t": out.state["t"]}
        return Forward(out.y, found, left, out.statistics)

    def export(self) -> Snapshot:
        """Return weights, statistics and moments."""
        net = self.net
        copy = lambda arrays: {k: np.array(v) for k, v in arrays.items()}  # noqa: E731
        return Snapshot(copy(net.parameters), copy(net.statistics), copy(self.moments), self.count)

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot."""
        check_snapshot(self.net.program, self.optim, snapshot)
        net = self.net
        take = lambda arrays: {k: np.array(v, net.dtype) for k, v in arrays.items()}  # noqa: E731
        net.parameters, net.statistics = take(snapshot.parameters), take(snapshot.statistics)
        project(net.program, net.parameters)
        if snapshot.moments:
            self.moments, self.count = take(snapshot.moments), snapshot.count

    def implementations(self) -> dict[str, str]:
        """Return what runs each spiking step of a training step, and why, by its path."""
        return self.net.implementations()

    def step_form(self) -> str:
        """Return how a training step runs."""
        return "eager, because numpy has nothing else"

    def compilations(self) -> int:
        """Return 0: nothing is compiled."""
        return 0
