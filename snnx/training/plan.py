"""What a run is, as plain values: everything that the loop needs beside the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx.chunks import check_chunk
from snnx.data import Batches
from snnx.methods.inherit import as_ann, optim_for
from snnx.methods.method import Method, check_loss
from snnx.objective import TET, Objective
from snnx.ops import OPS
from snnx.optim import Adam, Optim, Rule
from snnx.program import Program, flatten
from snnx.rotation import Retention
from snnx.scalars import Dial, initial
from snnx.training.schedules import Constant, Schedule

if TYPE_CHECKING:
    from snnx.data.lazy import Source


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run with its own T, epochs and schedule, counted from the stage's beginning.

    lr replaces the optimiser's learning rate; those of its groups are scaled by the same factor.
    optim replaces the whole optimiser, batch_size and objective the run's.
    `ann` trains the same tree with ReLU in place of its neurons, at T = 1; of sequences it sees
    every step by itself, under the readout and the loss of the spiking network.
    """

    steps: int
    epochs: int
    schedule: Schedule = Constant()  # noqa: RUF009  (frozen)
    lr: float | None = None
    ann: bool = False
    optim: Optim | None = None
    batch_size: int | None = None
    objective: Objective | None = None

    def __post_init__(self) -> None:
        if self.lr is not None and self.optim is not None:
            raise ValueError("a stage has an lr or an optim of its own, not both")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"a stage's batch_size must be at least 1, not {self.batch_size}")
        if self.steps < 1 or self.epochs < 1:
            raise ValueError(f"a stage has T and epochs of at least 1, not {self}")
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"a stage's lr must be above 0, not {self.lr}")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    steps is T for static data. `schedule` sets every learning-rate dial of `optim` from its initial
    value. With `stages`, steps and epochs are the last stage's T and the sum of their epochs, and
    schedules are theirs. `chunk` trains and evaluates T in chunks of that many steps
    (`snnx.chunks`), `recompute` trades time for memory (`snnx.recompute`). device, compile, graph
    and lean None leave the choice to the backend, as kernels "auto" does (`snnx.build`). A
    checkpoint is written after every epoch, and within one every `checkpoint_steps` optimiser
    steps. `config` is kept in checkpoints. batch_size counts the samples of all processes and of
    all `micro_batches`, whose gradients are added up; `sync_norm` is that of `Backend.session`.
    model and optim are what the methods made of them (`snnx.methods.method`).
    """

    model: Any
    objective: Objective = TET()  # noqa: RUF009  (frozen)
    optim: Optim = field(default_factory=lambda: Optim(Adam()))
    schedule: Schedule = Constant()  # noqa: RUF009  (frozen)
    methods: tuple[Method, ...] = ()
    steps: int = 4
    epochs: int = 15
    batch_size: int = 64
    seed: int = 0
    max_steps: int | None = None
    checkpoint_steps: int | None = None
    retention: Retention = Retention()  # noqa: RUF009  (frozen)
    backend: str = "auto"
    device: str | None = None
    precision: str = "fp32"
    compile: bool | None = None
    graph: bool | None = None
    lean: bool | None = None
    kernels: str = "auto"
    deterministic: bool = False
    micro_batches: int = 1
    sync_norm: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    chunk: int | None = None
    recompute: int | None = None

    def __post_init__(self) -> None:
        if self.stages:
            object.__setattr__(self, "steps", self.stages[-1].steps)
            object.__setattr__(self, "epochs", sum(stage.epochs for stage in self.stages))
            if self.stages[-1].ann:
                raise ValueError("the last stage is an ANN; add one that trains the neurons")
        for name in ("steps", "epochs", "batch_size", "micro_batches"):
            if not isinstance(getattr(self, name), int):
                raise TypeError(f"{name} must be a whole number, not {getattr(self, name)}")
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.micro_batches > self.batch_size:
            raise ValueError(
                f"micro_batches must be at most batch_size ({self.batch_size}), not "
                f"{self.micro_batches}"
            )
        for name in ("max_steps", "checkpoint_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0 .. 2^32 - 1, not {self.seed}")
        for objective in (self.objective, *(stage.objective for stage in self.stages)):
            if objective is not None and not objective.classifies:
                raise ValueError(
                    f"{type(objective).__name__} needs target arrays, and data sets hold "
                    "class labels; use TET, SDT or RateMSE"
                )

    def program(self) -> Program:
        """Return the model's program, checked against the optimiser's groups."""
        program = flatten(self.model)
        for method in self.methods:
            program = method.program(program)
        self.optim.check(program)
        check_chunk(program, self.chunk)
        return program

    def build_options(self) -> dict[str, Any]:
        """Return device, precision and form of the network, as `Backend.build` takes them."""
        options = ("device", "precision", "lean", "kernels")
        return {name: getattr(self, name) for name in options}

    def ops(self) -> frozenset[str]:
        """Return the ops by which the run computes, in all its stages."""
        begins = accumulate((stage.epochs for stage in self.stages[:-1]), initial=0)
        found = {"readout", "project"}
        for plan in (self.stage(epoch)[0] for epoch in begins):
            program = plan.program()
            found |= {plan.objective.op, *(step.op for step in program.steps)}
            found |= {plan.optim.rule(p).op for p in program.parameters}
        return frozenset(found & {*OPS})

    def stage(self, epoch: int) -> tuple[Plan, int]:
        """Return the stage of an epoch as a plan of its own, and the epoch in which it begins."""
        if not self.stages:
            return self, 0
        begin, chosen = 0, self.stages[0]
        for before, stage in pairwise(self.stages):
            if epoch < begin + before.epochs:
                break
            begin, chosen = begin + before.epochs, stage
        model = as_ann(self.model) if chosen.ann else self.model
        optim = chosen.optim or self.optim
        optim = optim_for(optim, flatten(model)) if chosen.ann else optim
        changed = {
            "model": model,
            "objective": chosen.objective or self.objective,
            "optim": optim if chosen.lr is None else _with_lr(optim, chosen.lr),
            "schedule": chosen.schedule,
            "steps": chosen.steps,
            "epochs": chosen.epochs,
            "batch_size": chosen.batch_size or self.batch_size,
        }
        return replace(self, stages=(), **changed), begin

    def steps_before(self, epoch: int, samples: int) -> int:
        """Return how many optimiser steps the stages take that end before an epoch."""
        total = 0
        for stage in self.stages:
            epoch -= stage.epochs
            if epoch < 0:
                break
            total += stage.epochs * -(-samples // (stage.batch_size or self.batch_size))
        return total


def _with_lr(optim: Optim, lr: float) -> Optim:
    """Return the optimiser with this default learning rate, all others scaled alike."""
    factor = lr / initial(optim.default.lr)

    def scaled(rule: Rule) -> Rule:
        if isinstance(rule.lr, Dial):
            return replace(rule, lr=Dial(rule.lr.name, rule.lr.init * factor))
        return replace(rule, lr=initial(rule.lr) * factor)

    groups = {name: scaled(rule) for name, rule in optim.groups.items()}
    return replace(optim, default=scaled(optim.default), groups=groups)


def with_objectives(
    stages: Sequence[Stage], methods: Sequence[Method], model: Any
) -> tuple[Stage, ...]:
    """Return the stages with what the methods make of their objectives, each checked by them."""
    found = []
    for stage in stages:
        objective = stage.objective
        if objective is not None:
            for method in methods:
                objective = method.objective(objective)
                method.check(model, objective)
            check_loss(model, objective)
        found.append(replace(stage, objective=objective))
    return tuple(found)


def check_stages(stages: Sequence[Stage], dataset: Source) -> None:
    """Raise ValueError where a stage has a T that the samples, or an ANN, do not have."""
    if dataset.layout == "NF":
        for stage in stages:
            if stage.ann and stage.steps != 1:
                raise ValueError(f"an ANN stage has no time, so its T is 1, not {stage.steps}")
        return
    own = time_steps(dataset, 0) if stages else 0
    other = sorted({stage.steps for stage in stages} - {own})
    if other:
        raise ValueError(
            f"stages: T is {other[0]}, and the samples of {dataset.name!r} are sequences of {own} "
            f"steps; give T = {own} in every stage, an ANN's too, or frame the events anew for "
            "each T and train run after run"
        )


def time_steps(dataset: Source, steps: int) -> int:
    """Return T: `steps` for static samples, their own length for sequences."""
    if dataset.layout == "NF":
        return steps
    first = Batches(dataset, "train", 1, shuffle=False).take(np.zeros(1, np.int64))
    return first["x"].shape[0]
