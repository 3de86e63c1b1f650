"""The neutral training loop: what is above every backend's session."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from snnx import serial
from snnx.backend import Backend, Session, Snapshot, load_backend
from snnx.batch import dial_values
from snnx.building import initial_parameters
from snnx.checkpoint import Checkpoint, CheckpointError
from snnx.data import Batch, Batches
from snnx.mode import train_mode
from snnx.program import Program
from snnx.training.evaluate import Evaluation, evaluate
from snnx.training.plan import Plan

if TYPE_CHECKING:
    from snnx.data.lazy import Source

IN_FLIGHT = 16  # steps handed to the device before the oldest is read
TOTALS = ("loss", "correct", "samples", "gradient_norm", "steps")

Row = dict[str, Any]


class Diverged(RuntimeError):
    """A loss or gradient that is not finite: at `step`, from 0, beginning at `place`."""

    def __init__(self, step: int, reason: str, place: str) -> None:
        super().__init__(f"{reason}; {place}")
        self.step, self.place = step, place


class Interrupted(RuntimeError):
    """The run was asked to stop; its checkpoint is written."""


class Watcher(Protocol):
    """Who is told about a run: a run directory, a screen, or nobody."""

    def epoch(self, row: Row) -> None:
        """Take the figures of an epoch that ended."""
        ...

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        ...

    def stop(self) -> bool:
        """Tell whether the run shall end after this step."""
        ...


class Nobody:
    """A watcher that keeps nothing and never stops."""

    def epoch(self, row: Row) -> None:
        """Forget the row."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Forget the checkpoint."""

    def stop(self) -> bool:
        """Never."""
        return False


@dataclass
class Training:
    """A run in progress: a session, its data, and the epoch, batch and step that come next."""

    plan: Plan
    dataset: Source
    backend: Backend
    program: Program
    session: Session
    epoch: int = 0
    batch: int = 0
    step: int = 0
    dials: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0.0))

    def note(self, name: str, value: float) -> None:
        """Record a figure of the running epoch in its row; a resumed run keeps it."""
        self.totals[name] = float(value)

    def checkpoint(self) -> Checkpoint:
        """Return everything that it takes to go on from here."""
        return Checkpoint(
            self.plan.model,
            self.session.export(),
            self.epoch,
            self.batch,
            self.step,
            self.plan.seed,
            dict(self.dials),
            dict(self.totals),
            {"plan": plan_values(self.plan), "recipe": dict(self.plan.config), **data_values(self)},
        )

    def evaluate(self) -> Evaluation:
        """Return how the network does on the test split."""
        plan = self.plan
        dials = {**self.dials, "seed": plan.seed, "step": self.step, "epoch": self.epoch}
        return evaluate(
            self.session,
            self.program,
            plan.objective,
            self.dataset,
            batch_size=plan.batch_size,
            steps=plan.steps,
            dials=dials,
        )


def plan_values(plan: Plan) -> dict[str, Any]:
    """Return what evaluating a checkpoint takes, as JSON values."""
    return {
        "objective": serial.encode(plan.objective),
        "optim": serial.encode(plan.optim),
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "precision": plan.precision,
    }


def data_values(training: Training) -> dict[str, Any]:
    """Return how a checkpoint and a result name the data."""
    data = training.dataset
    return {"data": {"id": data.id, "hash": data.hash, "label": data.label, "name": data.name}}


def open_session(plan: Plan, program: Program) -> tuple[Backend, Session]:
    """Return the backend and a session of the plan with its initial weights."""
    backend = load_backend(plan.backend)
    values = initial_parameters(program, plan.seed)
    net = backend.build(program, values, device=plan.device, precision=plan.precision)
    session = backend.session(
        net,
        plan.objective,
        plan.optim,
        steps=plan.steps,
        compile=plan.compile,
        deterministic=plan.deterministic,
    )
    return backend, session


def load_snapshot(session: Session, snapshot: Snapshot) -> None:
    """Give the session a snapshot. Raises: CheckpointError where it is one of another model."""
    try:
        session.load(snapshot)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def start(plan: Plan, dataset: Source, resume: Checkpoint | None = None) -> Training:
    """Return a run at its beginning, or at the place of a checkpoint."""
    program = plan.program()
    backend, session = open_session(plan, program)
    training = Training(plan, dataset, backend, program, session)
    training.dials = dial_values(program, plan.optim)
    if resume is not None:
        load_snapshot(session, resume.snapshot)
        training.epoch, training.batch, training.step = resume.epoch, resume.batch, resume.step
        training.dials |= resume.dials
        training.totals |= resume.totals
    return training


def run(training: Training, watcher: Watcher) -> Evaluation:
    """Train to the end of the plan and return the last evaluation.

    Raises: Diverged at a loss or gradient that is not finite, Interrupted after `watcher.stop()`.
    """
    plan = training.plan
    batches = Batches(training.dataset, "train", plan.batch_size, plan.seed)
    last: Evaluation | None = None
    while training.epoch < plan.epochs and not _spent(training):
        began = time.monotonic()
        if training.batch == 0:
            training.totals = dict.fromkeys(TOTALS, 0.0)
            for method in plan.methods:
                method.before_epoch(training)
        whole = _epoch(training, batches, watcher)
        last = training.evaluate()
        row = _row(training, last, time.monotonic() - began)
        if whole:
            training.epoch, training.batch = training.epoch + 1, 0
        watcher.checkpoint(training.checkpoint())
        watcher.epoch(row)
    return last if last is not None else training.evaluate()


def _spent(training: Training) -> bool:
    limit = training.plan.max_steps
    return limit is not None and training.step >= limit


def _epoch(training: Training, batches: Batches, watcher: Watcher) -> bool:
    """Take the steps that are left of an epoch; False where max_steps ended it early."""
    plan, session = training.plan, training.session
    base = plan.optim.dials(training.program)
    pending: deque[tuple[Any, Batch, dict[str, float | int]]] = deque()

    def read() -> None:
        token, batch, dials = pending.popleft()
        try:
            found = session.read(token)
        except FloatingPointError as error:
            place = first_not_finite(training, batch, dials)
            raise Diverged(int(dials["step"]), str(error), place) from error
        for name in ("loss", "gradient_norm"):
            training.totals[name] += found[name] * found["samples"]
        for name in ("correct", "samples"):
            training.totals[name] += found[name]
        training.totals["steps"] += 1

    for batch in batches.epoch(training.epoch, training.batch):
        for name, value in base.items():
            training.dials[name] = plan.schedule.value(
                value, training.epoch, training.step, len(batches)
            )
        counters = {"seed": plan.seed, "step": training.step, "epoch": training.epoch}
        dials = {**training.dials, **counters}
        # the session's own flag reports what is not finite, with the step
        with np.errstate(all="ignore"):
            pending.append((session.step([batch], dials), batch, dials))  # type: ignore[list-item]
        training.step += 1
        training.batch += 1
        if len(pending) > IN_FLIGHT:
            read()
        if watcher.stop():
            while pending:
                read()
            watcher.checkpoint(training.checkpoint())
            raise Interrupted(
                f"stopped in epoch {training.epoch + 1} after optimiser step {training.step}"
            )
        if _spent(training):
            break
    while pending:
        read()
    return training.batch == len(batches)


def first_not_finite(training: Training, batch: Batch, dials: dict[str, float | int]) -> str:
    """Replay a batch with taps and name the first layer whose output is not finite."""
    mode = replace(train_mode(training.program), norm="frozen_batch")
    paths = [step.output for step in training.program.steps]
    with np.errstate(all="ignore"):
        found = training.session.forward(
            batch,  # type: ignore[arg-type]
            dials,
            mode,
            paths,
            steps=training.plan.steps,
        )
    for step in training.program.steps:
        if not np.isfinite(found.taps[step.output]).all():
            return f"the first output that is not finite is that of layer {step.path} {step.layer}"
    return "the output of every layer is finite, so the loss or a gradient overflowed"


def _row(training: Training, test: Evaluation, seconds: float) -> Row:
    totals = training.totals
    seen = max(totals["samples"], 1.0)
    rates = {} if test.rate is None else {"spikes_per_neuron_step": test.rate}
    notes = {name: value for name, value in totals.items() if name not in TOTALS}
    return {
        "epoch": training.epoch + 1,
        "step": training.step,
        "loss": totals["loss"] / seen,
        "train_accuracy": totals["correct"] / seen,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "gradient_norm": totals["gradient_norm"] / seen,
        **rates,
        **notes,
        "dials": dict(training.dials),
        "rates": dict(test.rates),
        "seconds": seconds,
    }
