"""`snnx eval`: a trained network on a split, at one or more numbers of time steps.

Processes that a launcher started share the batches out, and rank 0 prints and writes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnx import checkpoint as checkpoints
from snnx import serial
from snnx.backend import default_backend, load_backend
from snnx.checkpoint import Checkpoint, CheckpointError, spec_hash
from snnx.commands.screen import Screen
from snnx.data.lazy import Source
from snnx.program import flatten
from snnx.training import loop
from snnx.training.evaluate import evaluate
from snnx.training.plan import Plan
from snnx.training.recipe import RecipeError
from snnx.training.recipe_data import open_data
from snnx.training.recipe_plan import check_data
from snnx.training.rundir import RunDir, environment
from snnx.world import World


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    run: str
    data: str | None = None
    split: str = "test"
    steps: Sequence[int] = ()
    backend: str | None = None
    device: str | None = None
    precision: str | None = None
    per_class: bool = False
    out: Path | None = None


def run(request: Request, screen: Screen) -> None:
    """Evaluate what the request names and print a line for each T."""
    if request.split not in ("train", "test"):
        raise RecipeError(f"--split is train or test, not {request.split!r}")
    folder, follows = RunDir.find(request.run), screen.follows()
    checkpoint = checkpoints.load(folder.path, screen.line if follows else screen.warn)
    plan = plan_of(checkpoint, request)
    table = data_table(checkpoint.config.get("recipe", {}).get("data"), request.data)
    if table is None:
        raise RecipeError(f"{folder.path}: was trained on arrays; name the data: --data FILE.npz")
    dataset = open_data(table)
    program = flatten(plan.model)
    check_data(program, dataset)
    if dataset.layout == "TNF" and request.steps:
        raise RecipeError(f"--T: {dataset.name!r} are sequences, which have their own T")
    world = load_backend(plan.backend).world(plan.device)
    backend, session = loop.open_session(plan, program)
    loop.load_snapshot(session, checkpoint.snapshot)
    _check_alike(world, checkpoint, dataset, request)
    screen.line(
        f"{folder.path}  step {checkpoint.step}  on {dataset.name} {request.split} "
        f"({dataset.label})  {plan.backend}"
        + (f"  {world.size} processes" if world.size > 1 else "")
    )
    rows: list[dict[str, Any]] = []
    for steps in request.steps or (plan.steps,):
        began = time.monotonic()
        found = evaluate(
            session,
            program,
            plan.objective,
            dataset,
            request.split,
            batch_size=plan.batch_size,
            steps=steps,
            dials={**checkpoint.dials, "seed": checkpoint.seed, "epoch": checkpoint.epoch},
            world=world,
        )
        rate = "" if found.rate is None else f"  {found.rate:.3f} spikes/neuron-step"
        screen.line(
            f"T={steps:<3} accuracy {100 * found.accuracy:5.1f} %  loss {found.loss:.3f}{rate}"
            f"  {time.monotonic() - began:.1f} s"
        )
        if request.per_class:
            for label, accuracy in enumerate(found.per_class):
                screen.line(f"      class {label:<3} {100 * accuracy:5.1f} %")
        rows.append(
            {
                "T": steps,
                "accuracy": found.accuracy,
                "loss": found.loss,
                "samples": found.samples,
                "rates": dict(found.rates),
                # JSON has no NaN: a class without samples has no accuracy
                "per_class": [a if a == a else None for a in found.per_class],
            }
        )
    values = {
        "run": str(folder.path),
        "split": request.split,
        "data": {"id": dataset.id, "hash": dataset.hash, "label": dataset.label},
        "results": rows,
        "backend": backend.name,
        "processes": world.size,
        "precision": plan.precision,
        "spec_hash": spec_hash(),
        "environment": environment(backend.describe()),
    }
    if request.out is not None and not follows:
        request.out.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    screen.final(values)


def _check_alike(world: World, checkpoint: Checkpoint, dataset: Source, request: Request) -> None:
    """Raise RankLost where the processes do not evaluate the same."""
    digest = hashlib.sha256()
    for arrays in (checkpoint.snapshot.parameters, checkpoint.snapshot.statistics):
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
    told = {
        "the data": dataset.hash,
        "the spec": spec_hash(),
        "the weights": digest.hexdigest(),
        "the request": repr((request.split, tuple(request.steps), request.precision)),
    }
    for what, text in told.items():
        world.check_alike(what, text)


def data_table(trained: Any, asked: str | None) -> dict[str, Any] | None:
    """Return the table `data` for evaluation: that of training, without what it held out.

    Another data set that is asked for gets the augmentation's test part, as training did.
    """
    table = {"name": trained} if isinstance(trained, str) else trained
    if table is None:
        return None if asked is None else {"name": asked}
    if asked not in (None, table["name"]):
        return {"name": asked, "augment": table.get("augment")}
    return {**table, "validation": None}


def plan_of(checkpoint: Checkpoint, request: Request) -> Plan:
    """Return the plan by which a checkpoint was trained, on the backend that was asked for."""
    stored = checkpoint.config.get("plan")
    if not isinstance(stored, dict):
        raise CheckpointError(f"{request.run}: the checkpoint does not say how it was trained")
    trained_on = checkpoint.config.get("recipe", {}).get("backend", "auto")
    backend = request.backend or trained_on
    return Plan(
        model=checkpoint.model,
        objective=serial.decode(stored["objective"], "objective"),
        optim=serial.decode(stored["optim"], "optim"),
        steps=stored["steps"],
        batch_size=stored["batch_size"],
        seed=checkpoint.seed,
        backend=default_backend() if backend == "auto" else backend,
        device=None if request.device in (None, "auto") else request.device,
        precision=request.precision or stored["precision"],
    )
