"""The neutral training loop: what is above every backend's session."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from snnx.checkpoint import Checkpoint
from snnx.data import Batch, Batches
from snnx.mode import train_mode
from snnx.training.evaluate import Evaluation
from snnx.training.progress import TOTALS, next_stage, note_learned
from snnx.training.progress import Training as Training
from snnx.training.progress import data_values as data_values
from snnx.training.progress import load_snapshot as load_snapshot
from snnx.training.progress import open_session as open_session
from snnx.training.progress import start as start

IN_FLIGHT = 16  # steps handed to the device before the oldest is read

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


def run(training: Training, watcher: Watcher) -> Evaluation:
    """Train to the end of the plan and return the last evaluation.

    Raises: Diverged at a loss or gradient that is not finite, Interrupted after `watcher.stop()`.
    """
    plan = training.plan
    last: Evaluation | None = None
    while training.epoch < plan.epochs and not _spent(training):
        began = time.monotonic()
        if training.batch == 0:
            next_stage(training)
            training.totals = dict.fromkeys(TOTALS, 0.0)
            note_learned(training)
            for method in plan.methods:
                method.before_epoch(training)
        whole = _epoch(training, watcher)
        last = training.evaluate()
        row = _row(training, last, time.monotonic() - began)
        if whole:
            training.epoch, training.batch = training.epoch + 1, 0
        # a run killed between the two takes the epoch again, and its row anew
        watcher.epoch(row)
        watcher.checkpoint(training.checkpoint())
    return last if last is not None else training.evaluate()


def _spent(training: Training) -> bool:
    limit = training.plan.max_steps
    return limit is not None and training.step >= limit


def _epoch(training: Training, watcher: Watcher) -> bool:
    """Take the steps that are left of an epoch; False where max_steps ended it early."""
    plan, session = training.stage, training.session
    batches = Batches(training.dataset, "train", plan.batch_size, plan.seed)
    base = plan.optim.dials(training.program)
    begin, samples = training.begin, training.dataset.size("train")
    first = training.plan.steps_before(begin, samples)
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
                value, training.epoch - begin, training.step - first, len(batches)
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
            steps=training.stage.steps,
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
        "T": training.stage.steps,
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
