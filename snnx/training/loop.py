"""The neutral training loop: what is above every backend's session."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NoReturn, Protocol

import numpy as np

from snnx.checkpoint import Checkpoint
from snnx.data import Batch, Batches, DataError
from snnx.training import faults
from snnx.training.evaluate import Evaluation
from snnx.training.progress import TOTALS, next_stage, note_learned
from snnx.training.progress import Training as Training
from snnx.training.progress import data_values as data_values
from snnx.training.progress import load_snapshot as load_snapshot
from snnx.training.progress import open_session as open_session
from snnx.training.progress import start as start

IN_FLIGHT = 16  # steps handed to the device before the oldest is read
IN_STEP = 4  # the same among several processes, which agree on a stop by what they read

Row = dict[str, Any]


class Diverged(RuntimeError):
    """A loss or gradient that is not finite: at `step`, from 0, of `batch`, first at `place`."""

    def __init__(self, step: int, reason: str, batch: str, place: str) -> None:
        super().__init__(f"{reason}; {batch}; {place}")
        self.step, self.batch, self.place = step, batch, place


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

    def leave_evaluation(self) -> bool:
        """Tell whether the run shall end now, and evaluate when it is resumed."""
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

    def leave_evaluation(self) -> bool:
        """Never."""
        return False


def run(training: Training, watcher: Watcher) -> Evaluation:
    """Train to the end of the plan and return the last evaluation.

    Raises: Diverged at a loss or gradient that is not finite, OutOfMemory with the batch that would
    fit, Interrupted when the watcher asks for it.
    """
    plan = training.plan

    def pause() -> None:
        # one process that asks is enough, and all must know of it
        if training.world.gather(np.array(watcher.leave_evaluation())).any():
            _end(training, watcher, "the evaluation of ")

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
        last = training.evaluate(pause)
        row = _row(training, last, time.monotonic() - began)
        if whole:
            training.epoch, training.batch = training.epoch + 1, 0
        # a run killed between the two takes the epoch again, and its row anew
        watcher.epoch(row)
        _keep(training, watcher)
    return last if last is not None else training.evaluate(pause)


def _confirm(training: Training) -> None:
    """Raise RankLost where a process has gone, whose part of the last sums may be missing."""
    training.world.check_alike("the step", str(training.step))


def _keep(training: Training, watcher: Watcher) -> None:
    """Hand over a checkpoint. Raises: Diverged where it would hold what no run goes on with."""
    found = training.checkpoint()
    path = faults.not_finite(found.snapshot)
    if path is not None:
        last, batch = training.step - 1, training.batch
        where = f"batch {batch} of epoch {training.epoch + 1}" if batch else "the epoch's end"
        raise Diverged(
            last,
            f"after step {last}: {path} is not finite, so an update or a statistic overflowed",
            f"found at {where}",
            "no checkpoint of this state is written",
        )
    watcher.checkpoint(found)


def _end(training: Training, watcher: Watcher, part: str = "") -> NoReturn:
    _confirm(training)
    _keep(training, watcher)
    place = f"epoch {training.epoch + 1} after optimiser step {training.step}"
    raise Interrupted(f"stopped in {part}{place}")


def _spent(training: Training) -> bool:
    limit = training.plan.max_steps
    return limit is not None and training.step >= limit


def _epoch(training: Training, watcher: Watcher) -> bool:
    """Take the steps that are left of an epoch; False where max_steps ended it early."""
    plan, session, world = training.stage, training.session, training.world
    batches = Batches(
        training.dataset,
        "train",
        plan.batch_size,
        plan.seed,
        world=world,
        micro=plan.micro_batches,
    )
    base = plan.optim.dials(training.program)
    begin, samples = training.begin, training.dataset.size("train")
    first = training.plan.steps_before(begin, samples)
    pending: deque[tuple[Any, list[Batch], dict[str, float | int], int]] = deque()
    in_flight = IN_FLIGHT if world.size == 1 else IN_STEP

    def read() -> bool:
        """Read the oldest step; tell whether a process asked in it to stop."""
        token, parts, dials, number = pending.popleft()
        try:
            found = session.read(token)
        except FloatingPointError as error:
            which = faults.named(training, parts, number, int(dials["epoch"]))
            place = faults.first_not_finite(training, parts, dials)
            raise Diverged(int(dials["step"]), str(error), which, place) from error
        except MemoryError as error:
            raise faults.out_of_memory(training, parts, dials, error) from error
        for name in ("loss", "gradient_norm"):
            training.totals[name] += found[name] * found["samples"]
        for name in ("correct", "samples"):
            training.totals[name] += found[name]
        training.totals["steps"] += 1
        return found["votes"] > 0

    source = batches.steps(training.epoch, training.batch)
    while True:
        try:
            parts = next(source, None)
        except (OSError, DataError):
            # nothing of this batch was begun, so all that was trained is kept
            while pending:
                read()
            _keep(training, watcher)
            raise
        if parts is None:
            break
        for name, value in base.items():
            training.dials[name] = plan.schedule.value(
                value, training.epoch - begin, training.step - first, len(batches)
            )
        counters = {"seed": plan.seed, "step": training.step, "epoch": training.epoch}
        dials = {**training.dials, **counters}
        asked = world.size > 1 and watcher.stop()
        every = training.plan.checkpoint_steps
        with world.waiting(f"optimiser step {training.step}"), np.errstate(all="ignore"):
            # the session's own flag reports what is not finite, with the step
            try:
                token = session.step(parts, dials, vote=asked)  # type: ignore[arg-type]
            except MemoryError as error:
                raise faults.out_of_memory(training, parts, dials, error) from error
            pending.append((token, parts, dials, training.batch))
            training.step += 1
            training.batch += 1
            # one process stops at once, several where all have read the same step
            stop = world.size == 1 and watcher.stop()
            due = every is not None and training.step % every == 0
            while pending and (stop or due or len(pending) > in_flight):
                stop = read() or stop
        if stop:
            _end(training, watcher)
        if due:
            _confirm(training)
            _keep(training, watcher)
        if _spent(training):
            break
    with world.waiting(f"optimiser step {training.step}"):
        while pending:
            read()
    return training.batch == len(batches)


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
