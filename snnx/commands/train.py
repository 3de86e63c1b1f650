"""`snnx train`: from a recipe to a folder that holds a trained network."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from snnx import __version__
from snnx import checkpoint as checkpoints
from snnx.backend import default_backend
from snnx.checkpoint import Checkpoint, CheckpointError
from snnx.commands.failures import FAILED, code_of, reason_of
from snnx.commands.header import facts, open_choices
from snnx.commands.rescue import rescue
from snnx.commands.screen import Screen
from snnx.commands.watch import Follow, Watch, say_what_is_kept, watched
from snnx.data.lazy import Source
from snnx.methods.method import Method
from snnx.training import loop, result, rundir
from snnx.training.loop import Training
from snnx.training.moving import statement
from snnx.training.recipe import (
    Layer,
    RecipeError,
    Resolved,
    changed_keys,
    override,
    read_recipe,
    resolve,
    without_none,
)
from snnx.training.recipe_data import open_data
from snnx.training.recipe_plan import make_plan
from snnx.training.rundir import RunDir, RunDirError

# what a resumed run may change: how long and where it runs, not what it computes
RESUMABLE = {
    "epochs",
    "max_steps",
    "checkpoint_steps",
    "recompute",
    "keep_checkpoints",
    "archive_epochs",
    "backend",
    "device",
    "precision",
    "micro_batches",
    "compile",
    "graph",
    "lean",
    "kernels",
    "deterministic",
    "data.name",
    "data.workers",
    "data.prefetch",
    "name",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    words: Sequence[str]
    flags: Mapping[str, Any]
    out: Path | None = None
    name: str | None = None
    resume: str | None = None
    dry_run: bool = False
    print_config: bool = False
    plots: bool = True


def train(request: Request, screen: Screen) -> None:
    """Do what the request asks. Raises what `snnx.commands.failures` knows."""
    folder = None if request.resume is None else RunDir.find(request.resume)
    before = None if folder is None else _last(folder, screen)
    resolved = _resolved(request, folder, before)
    follows = screen.follows()
    if request.print_config:
        if not follows:
            print(resolved.toml(), end="")
        return
    values = _with_backend(resolved)
    dataset = open_data(values.values["data"])
    plan = make_plan(values.values, dataset, None if before is None else before.model)
    if before is not None:
        _check_data(before, dataset)
    began = time.monotonic()
    training = loop.start(plan, dataset, before)
    if request.dry_run:
        _begin(screen, training, "nothing is written (--dry-run)")
        return
    if follows:
        watched(training, Follow(screen))
        return
    if folder is None:
        stem = f"{values.values['name']}-{run_kind(values.values)}-{plan.backend}"
        folder = RunDir.create(request.out, request.name, stem)
    screen.log, folder.retention = folder, plan.retention
    watch = Watch(folder, screen, plan.epochs)
    screen.keep_state()
    try:
        folder.begin(values.toml(), rundir.environment(training.backend.describe()))
        _begin(screen, training, str(folder.path))
        folder.log(f"{'step':<16} {training.session.step_form()}")
        for path, text in training.session.implementations().items():
            folder.log(f"{path:<16} {text}")
        if before is not None:
            folder.keep_until(before.epoch)
            for line in statement(before, training):
                screen.line(line)
        else:
            folder.checkpoint(training.checkpoint())  # so that any run that began can go on
        if training.world.patience is not None:
            training.world.patience.tell = partial(_lost, screen, folder)
        with screen.hearing():
            test = watched(training, watch)
        values_out = result.result_values(training, test, time.monotonic() - began)
        folder.finish(values_out)
    except BaseException as error:
        code = code_of(error)
        folder.fail(1 if code is None else code, reason_of(error))
        screen.log = None  # the disk may be what failed
        saved = rescue(folder, training, watch.rows, values.toml()) if watch.refused else None
        say_what_is_kept(screen, folder, code, saved)
        raise
    if request.plots:
        try:
            draw(folder, training)
        except OSError:
            screen.log = None
            screen.error(f"the run in {folder.path} is whole, its pictures are not")
            raise
    rate = "" if test.rate is None else f"   {test.rate:.3f} spikes/neuron-step"
    screen.line(f"done in {values_out['seconds']:.0f} s   test {100 * test.accuracy:.1f} %{rate}")
    screen.line(f"  {cost(values_out['energy'])}")
    if request.plots:
        screen.line(
            f"  look:  {folder.path / 'report.html'}    every picture and number of the run"
        )
    screen.line(f"  next:  snnx plot {folder.path}    the pictures alone")
    screen.line(f"         snnx eval {folder.path} --T 1,2,4,6    accuracy against time steps")
    screen.line("         snnx conform    do the backends here compute the same numbers?")
    screen.final({**values_out, "run": str(folder.path)})


def _begin(screen: Screen, training: Training, out: str) -> None:
    """Print what is about to run, and what its paper left open."""
    screen.panel(f"snnx {__version__}", facts(training, out))
    for line in open_choices(training.plan.config):
        screen.line(line)


def _last(folder: RunDir, screen: Screen) -> Checkpoint:
    """Return where a run is.

    Raises: RunDirError for a folder of its checkpoints, which the next one would replace.
    """
    found = checkpoints.load(folder.path, screen.warn)
    if not folder.checkpoints.is_dir():
        raise RunDirError(
            f"{folder.path}: holds checkpoints and is no run's folder; name the folder that holds "
            "config.toml and checkpoints/"
        )
    return found


def cost(energy: Mapping[str, Any]) -> str:
    """Return what one sample costs, as a line."""
    if "unknown" in energy:
        return f"energy not known: {energy['unknown']}"
    own, ann = energy["microjoules"], energy["ann_microjoules"]
    share = f", {100 * own / ann:.1f} % of an ANN's" if ann else ""
    return (
        f"per sample {energy['macs']:,.0f} MACs and {energy['acs']:,.0f} ACs: {own:.4g} µJ{share}"
    )


def run_kind(values: Mapping[str, Any]) -> str:
    """Return what names a run's folder: the method, or the objective of a plain run."""
    method = values["method"]["name"]
    return values["objective"]["name"] if method == Method.name else method


def draw(folder: RunDir, training: Training) -> None:
    """Write the pictures and the page of a run that ended."""
    from snnx.analysis.report import write_pictures

    plan = training.plan
    write_pictures(
        folder.path,
        training.session,
        training.dataset,
        plan.config,
        program=training.program,
        dials={**training.dials, "seed": plan.seed, "epoch": training.epoch},
        steps=plan.steps,
    )


def _lost(screen: Screen, folder: RunDir, reason: str) -> None:
    """Say and mark that a run ends because other processes do not answer."""
    folder.fail(FAILED, reason)
    screen.error(reason)


def _resolved(request: Request, folder: RunDir | None, before: Checkpoint | None) -> Resolved:
    """Return the recipe of the command line, over that of the resumed run."""
    presets = [word for word in request.words if "=" not in word]
    changes = [override(word) for word in request.words if "=" in word]
    given = {k: v for k, v in request.flags.items() if v is not None}
    changes += [({k: v}, f"--{k.replace('_', '-')}") for k, v in given.items()]
    if before is None or folder is None:
        return resolve([*(read_recipe(name) for name in presets or ["digits"]), *changes])
    if presets or request.out is not None or request.name is not None:
        raise RecipeError("--resume goes on in its own folder, with its own recipe; give KEY=VALUE")
    old = before.config.get("recipe")
    if not old:
        raise RecipeError(
            f"{folder.path}: was made by snnx.fit, not by a recipe; go on there: snnx.fit(..., "
            f"resume={str(folder.path)!r})"
        )
    # a limit of steps is one of the old call; device and form are those of the old backend
    old = {k: v for k, v in old.items() if k != "max_steps" and v is not None}
    moved = any("backend" in values for values, _ in changes)
    base: Layer = (without_none(old), f"run {folder.path}")
    reset: Layer = (
        dict.fromkeys(("device", "compile", "graph", "lean", "kernels"), "auto"),
        "other backend",
    )
    resolved = resolve([base, *([reset] if moved else []), *changes])
    changed = changed_keys(resolve([base]).values, resolved.values)
    refused = [k for k in changed if k not in RESUMABLE]
    if refused:
        raise RecipeError(
            f"{', '.join(refused)}: cannot change in a resumed run; start a new one, or change "
            f"only {', '.join(sorted(RESUMABLE))}"
        )
    return resolved


def _with_backend(resolved: Resolved) -> Resolved:
    """Return the recipe with the backend that "auto" means here, and the data's full path."""
    values, origins = dict(resolved.values), dict(resolved.origins)
    if values["backend"] == "auto":
        values["backend"] = default_backend()
        origins["backend"] += ": auto"
    name = values["data"]["name"]
    if name.endswith(".npz"):
        values["data"] = {**values["data"], "name": str(Path(name).absolute())}
    return replace(resolved, values=values, origins=origins)


def _check_data(before: Checkpoint, dataset: Source) -> None:
    old = before.config.get("data", {})
    if old.get("hash") != dataset.hash:
        raise CheckpointError(
            f"the run was trained on {old.get('id')}, the data now are {dataset.id}; "
            "a resumed run needs the same bytes"
        )
