"""A run in progress: where it stands, what it takes to go on, and the stage that it is in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx import serial
from snnx.backend import Backend, Session, Snapshot, load_backend
from snnx.batch import dial_values
from snnx.building import initial_parameters
from snnx.checkpoint import Checkpoint, CheckpointError, spec_hash
from snnx.methods.inherit import fitted
from snnx.program import Program
from snnx.training.evaluate import Evaluation, evaluate
from snnx.training.moving import place
from snnx.training.plan import Plan
from snnx.world import ALONE, World

if TYPE_CHECKING:
    from snnx.data.lazy import Source

TOTALS = ("loss", "correct", "samples", "gradient_norm", "steps")


@dataclass
class Training:
    """A run in progress: a session, its data, and the epoch, batch and step that come next.

    `stage` is the plan of the stage that runs, begun with epoch `begin`; program and session are
    its own. A plan without stages is its own only stage.
    """

    plan: Plan
    dataset: Source
    backend: Backend
    program: Program
    session: Session
    stage: Plan
    world: World = ALONE
    begin: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    dials: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0.0))

    @cached_property
    def ops(self) -> frozenset[str]:
        """The ops by which the run computes, in all its stages."""
        return self.plan.ops()

    def note(self, name: str, value: float) -> None:
        """Record a figure of the running epoch in its row; a resumed run keeps it."""
        self.totals[name] = float(value)

    def checkpoint(self) -> Checkpoint:
        """Return everything that it takes to go on from here."""
        return Checkpoint(
            self.plan.model,
            self.snapshot(),
            self.epoch,
            self.batch,
            self.step,
            self.plan.seed,
            dict(self.dials),
            dict(self.totals),
            {
                "plan": plan_values(self.stage),
                "recipe": dict(self.plan.config),
                "place": place(self),
                **data_values(self),
            },
            self.ops,
        )

    def snapshot(self) -> Snapshot:
        """Return the snapshot as one of the plan's model, also while an ANN is trained."""
        plan, found = self.plan, self.session.export()
        if self.stage.model is plan.model:
            return found
        made = fitted(found, plan.program(), self.stage.optim, plan.seed)
        for method in plan.methods:
            made = method.from_ann(self, made)
        return made

    def evaluate(self, pause: Callable[[], None] = lambda: None) -> Evaluation:
        """Return how the network does on the test split; `pause` as in `evaluate`."""
        plan = self.stage
        dials = {**self.dials, "seed": plan.seed, "step": self.step, "epoch": self.epoch}
        return evaluate(
            self.session,
            self.program,
            plan.objective,
            self.dataset,
            batch_size=plan.batch_size,
            steps=plan.steps,
            dials=dials,
            pause=pause,
            chunk=plan.chunk,
            world=self.world,
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


def open_session(plan: Plan, program: Program, world: World = ALONE) -> tuple[Backend, Session]:
    """Return the backend and a session of the plan with its initial weights, one of a world's."""
    backend = load_backend(plan.backend)
    values = initial_parameters(program, plan.seed)
    net = backend.build(program, values, **plan.build_options())
    session = backend.session(
        net,
        plan.objective,
        plan.optim,
        steps=plan.steps,
        compile=plan.compile,
        graph=plan.graph,
        deterministic=plan.deterministic,
        chunk=plan.chunk,
        group=world.group,
        sync_norm=plan.sync_norm,
        recompute=plan.recompute,
    )
    return backend, session


def note_learned(training: Training) -> None:
    """Record every learned number of a neuron as "ROLE.PATH", the mean over what a layer learns."""
    learned = [p for p in training.program.parameters if p.learned is not None]
    values = training.session.export().parameters if learned else {}
    for p in learned:
        raw = values[p.path].reshape(-1).tolist()
        mean = sum(map(p.learned.value, raw)) / len(raw)  # type: ignore[union-attr]
        training.note(f"{p.role.rpartition('.')[2]}.{p.path.removesuffix(f'.{p.role}')}", mean)


def load_snapshot(session: Session, snapshot: Snapshot) -> None:
    """Give the session a snapshot. Raises: CheckpointError where it is one of another model."""
    try:
        session.load(snapshot)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def start(plan: Plan, dataset: Source, resume: Checkpoint | None = None) -> Training:
    """Return a run at its beginning, or at the place of a checkpoint."""
    plan.program()
    world = load_backend(plan.backend).world(plan.device)
    training = _opened(plan, dataset, 0 if resume is None else resume.epoch, world)
    if resume is not None:
        _inherit(training, resume.snapshot, resume.batch == 0 and resume.epoch == training.begin)
        training.batch, training.step = resume.batch, resume.step
        _keep_dials(training, resume.dials)
        training.totals |= resume.totals
    _check_alike(training)
    return training


def _check_alike(training: Training) -> None:
    """Raise RankLost where the processes of a run do not begin with the same.

    Each computes the same initial weights from the seed, and reads the same files, so that nothing
    is sent; another version or another file on one machine would go on in silence.
    """
    if training.world.size == 1:
        return
    plan, digest = training.plan, hashlib.sha256()
    snapshot = training.session.export()
    for arrays in (snapshot.parameters, snapshot.statistics, snapshot.moments):
        for name in sorted(arrays):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    told = {
        "the data": training.dataset.hash,
        "the spec": spec_hash(),
        "the plan": repr((plan_values(plan), plan.seed, plan.epochs, plan.max_steps, plan.methods)),
        "the weights at the beginning": digest.hexdigest(),
        "the place": repr((training.epoch, training.batch, training.step)),
    }
    for what, text in told.items():
        training.world.check_alike(what, text)


def _opened(plan: Plan, dataset: Source, epoch: int, world: World) -> Training:
    """Return the stage of an epoch with its initial weights."""
    stage, begin = plan.stage(epoch)
    program = stage.program()
    backend, session = open_session(stage, program, world)
    training = Training(plan, dataset, backend, program, session, stage, world, begin, epoch)
    training.dials = dial_values(program, stage.optim)
    return training


def _inherit(training: Training, snapshot: Snapshot, begins: bool) -> None:
    """Give the session a snapshot of the plan's model; a stage that begins has fresh moments."""
    stage = training.stage
    if stage.model is not training.plan.model:
        snapshot = fitted(snapshot, training.program, stage.optim, stage.seed)
    if begins:
        snapshot = Snapshot(snapshot.parameters, snapshot.statistics)
    load_snapshot(training.session, snapshot)


def _keep_dials(training: Training, dials: Mapping[str, float]) -> None:
    """Take over the dials that the program has; learning rates follow their schedule."""
    training.dials |= {k: v for k, v in dials.items() if k in training.dials}


def next_stage(training: Training) -> None:
    """Go on with the stage of the epoch that begins, where it is another one."""
    plan, epoch = training.plan, training.epoch
    if plan.stage(epoch)[1] == training.begin:
        return
    snapshot = training.snapshot()
    fresh = _opened(plan, training.dataset, epoch, training.world)
    _inherit(fresh, snapshot, True)
    _keep_dials(fresh, training.dials)
    for name in ("program", "session", "stage", "begin", "dials"):
        setattr(training, name, getattr(fresh, name))
