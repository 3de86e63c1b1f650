"""`snnx.fit`: training a model on arrays in one call."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snnx import checkpoint as checkpoints
from snnx.backend import Session
from snnx.checkpoint import Checkpoint
from snnx.data import Dataset, load
from snnx.data.augmented import Augmented
from snnx.data.lazy import Lazy
from snnx.data.streamed import Streamed
from snnx.methods.method import Method, applied
from snnx.objective import TET, Objective
from snnx.optim import Adam, Optim
from snnx.rotation import Retention
from snnx.training import loop, result, rundir
from snnx.training.evaluate import Evaluation
from snnx.training.plan import Plan, Stage, check_stages, time_steps, with_objectives
from snnx.training.schedules import Constant, Schedule


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: its last evaluation, a row per epoch, and the trained session."""

    test: Evaluation
    history: tuple[dict[str, Any], ...]
    session: Session
    values: dict[str, Any] = field(repr=False)

    @property
    def test_accuracy(self) -> float:
        """Share of right answers on the test split after the last epoch."""
        return self.test.accuracy


class _Keeper(loop.Nobody):
    """Keeps the rows, and all of the run where there is a folder."""

    def __init__(self, out: rundir.RunDir | None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.out = out

    def epoch(self, row: loop.Row) -> None:
        self.rows.append(row)
        if self.out is not None:
            self.out.epoch(row)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        if self.out is not None:
            self.out.checkpoint(checkpoint)


def fit(
    model: Any,
    data: Dataset | str | tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    *,
    objective: Objective = TET(),  # noqa: B008  (frozen)
    optim: Optim | None = None,
    schedule: Schedule = Constant(),  # noqa: B008  (frozen)
    methods: tuple[Method, ...] = (),
    stages: tuple[Stage, ...] = (),
    steps: int = 4,
    epochs: int = 15,
    batch_size: int = 64,
    seed: int = 0,
    max_steps: int | None = None,
    checkpoint_steps: int | None = None,
    retention: Retention = Retention(),  # noqa: B008  (frozen)
    chunk: int | None = None,
    recompute: int | None = None,
    backend: str = "auto",
    device: str | None = None,
    precision: str = "fp32",
    compile: bool | None = None,
    graph: bool | None = None,
    lean: bool | None = None,
    kernels: str = "auto",
    deterministic: bool = False,
    micro_batches: int = 1,
    sync_norm: bool = True,
    out: str | Path | None = None,
    resume: str | Path | None = None,
) -> Result:
    """Train a model and return its result.

    `data` is a `Dataset`, the name of one ("digits", "mine.npz"), or (x_train, y_train, x_test,
    y_test) with static x [N, *F]. `steps` is T for static x. With `out` the run is kept in that
    folder, with a checkpoint after every epoch and `checkpoint_steps` steps, of which `retention`
    says how many stay; `resume` goes on from a checkpoint. With `stages`, they say T, epochs and
    schedule.
    `chunk` trains T in chunks of that many steps, the state handed over (`snnx.chunks`);
    `recompute` computes all but the last of so many ranges of the program again for the gradient.
    In processes that a launcher started, each calls it alike, and rank 0 alone writes.

    Raises: ValueError, TypeError for arguments that do not fit, BackendError, CheckpointError,
    `snnx.training.loop.Diverged` where the loss is not finite.
    """
    optim = optim or Optim(Adam())
    _check_kinds(objective, optim, schedule, methods)
    dataset = _dataset(data)
    steps = time_steps(dataset, steps)
    methods = tuple(method.for_steps(steps) for method in methods)
    for method in methods:
        objective = method.objective(objective)
    check_stages(stages, dataset)
    model, optim = applied(methods, model, optim, objective)
    stages = with_objectives(stages, methods, model)
    plan = Plan(
        model=model,
        objective=objective,
        optim=optim,
        schedule=schedule,
        methods=methods,
        stages=stages,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        max_steps=max_steps,
        checkpoint_steps=checkpoint_steps,
        retention=retention,
        chunk=chunk,
        recompute=recompute,
        backend=backend,
        device=device,
        precision=precision,
        compile=compile,
        graph=graph,
        lean=lean,
        kernels=kernels,
        deterministic=deterministic,
        micro_batches=micro_batches,
        sync_norm=sync_norm,
    )
    began = time.monotonic()
    before = None if resume is None else checkpoints.load(resume, _warn)
    training = loop.start(plan, dataset, before)
    folder = None
    if out is not None and training.world.rank == 0:
        folder = rundir.RunDir.create(Path(out), None, "")
        folder.retention = retention
        folder.begin("", rundir.environment(training.backend.describe()))
    keeper = _Keeper(folder)
    test = loop.run(training, keeper)
    values = result.result_values(training, test, time.monotonic() - began)
    if folder is not None:
        folder.finish(values)
    return Result(test, tuple(keeper.rows), training.session, values)


def _check_kinds(objective: Any, optim: Any, schedule: Any, methods: Any) -> None:
    wanted: list[tuple[str, Any, type, str]] = [
        ("objective", objective, Objective, "snnx.TET()"),
        ("optim", optim, Optim, "snnx.Optim(snnx.Adam(0.002))"),
        ("schedule", schedule, Schedule, "snnx.training.schedules.Cosine(epochs)"),
        *(("methods", method, Method, "snnx.methods.TETMethod()") for method in methods),
    ]
    for name, value, kind, example in wanted:
        if not isinstance(value, kind):
            raise TypeError(f"{name}: give something like {example}, not {value!r}")


def _dataset(data: Any) -> Any:
    if isinstance(data, str):  # a name or a file
        return load(data)
    if isinstance(data, tuple) and len(data) == 4:
        return Dataset(*data, name="arrays")
    if isinstance(data, Dataset | Lazy | Augmented | Streamed):
        return data
    raise TypeError(
        "data: give a Dataset, the name of one, FILE.npz, or (x_train, y_train, x_test, y_test), "
        f"not {type(data).__name__}" + (f" of {len(data)}" if isinstance(data, tuple) else "")
    )


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, RuntimeWarning, stacklevel=3)
