"""`snnx info`: what is here, without needing a framework."""

from __future__ import annotations

import platform
from difflib import get_close_matches
from pathlib import Path

from snnx import __version__, data
from snnx import checkpoint as checkpoints
from snnx.backend import BackendError, backend_names, installed, load_backend
from snnx.checkpoint import spec_hash
from snnx.commands.model_info import STEPS, Request, describe, is_model, model_info
from snnx.commands.screen import Screen
from snnx.models import MODELS
from snnx.program import flatten
from snnx.training.recipe import RecipeError, recipe_folder, recipe_names
from snnx.training.rundir import DONE, FAILED, RunDir

TOPICS = ("backends", "recipes", "models", "data")


def info(request: Request | None, screen: Screen) -> None:
    """Print one topic, a run, a model, or everything that is installed."""
    shown = {"backends": _backends, "recipes": _recipes, "models": _models, "data": _data}
    if request is not None:
        topic = request.name
        if topic in shown:
            shown[topic](screen)
        elif topic == "latest" or Path(topic).is_dir():
            _run(RunDir.find(topic), request, screen)
        elif is_model(topic):
            model_info(request, screen)
        else:
            raise RecipeError(_unknown(topic))
        return
    screen.line(f"snnx {__version__}   Python {platform.python_version()}   {platform.platform()}")
    screen.line(f"op table {spec_hash()[:12]}")
    for name in TOPICS:
        screen.line()
        screen.line(name, "bold")
        shown[name](screen)


def _unknown(topic: str) -> str:
    if topic in recipe_names():
        return f"snnx info {topic}: is a recipe; `snnx plan {topic}` tells its steps and its memory"
    near = get_close_matches(topic, [*TOPICS, *MODELS], 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    wanted = f"{', '.join(TOPICS)}, a run's folder, a model of the zoo or its FILE.json"
    return f"snnx info {topic}: expects {wanted}{hint}"


def _backends(screen: Screen) -> None:
    for name in backend_names():
        if not installed(name):
            screen.line(f'  {name:<8} not installed   pip install "snnx[{name}]"')
            continue
        try:
            backend = load_backend(name)
            facts = "   ".join(f"{k} {v}" for k, v in backend.describe().items())
            screen.line(f"  {name:<8} {facts}   {', '.join(backend.precisions)}")
        except (ImportError, BackendError) as error:
            screen.line(f"  {name:<8} installed, but cannot be used: {error}")


def _recipes(screen: Screen) -> None:
    names = recipe_names()
    wide = max(map(len, names))
    for name in names:
        first = (recipe_folder() / f"{name}.toml").read_text("utf-8").partition("\n")[0]
        screen.line(f"  {name:<{wide}}  {first.lstrip('# ')}")


def _models(screen: Screen) -> None:
    for name, make in MODELS.items():
        first = (make.__doc__ or "").strip().partition("\n")[0].removeprefix("Return ")
        screen.line(f"  {name:<26} {first}")


def _run(folder: RunDir, request: Request, screen: Screen) -> None:
    rows = folder.rows()
    ended = next((m for m in (DONE, FAILED) if (folder.path / m).exists()), "not ended")
    screen.line(f"{folder.path}   {ended}   {len(rows)} epochs")
    if rows:
        last = rows[-1]
        screen.line(f"  loss {last['loss']:.3f}   test {100 * last['test_accuracy']:.1f} %")
    checkpoint = checkpoints.load(folder.path, screen.warn)
    program = flatten(checkpoint.model)
    screen.line(f"  checkpoint: epoch {checkpoint.epoch}, optimiser step {checkpoint.step}")
    steps = request.steps or checkpoint.config.get("plan", {}).get("steps", STEPS)
    found = describe(program, request.backend, steps, screen)
    screen.final(
        {
            **found,
            "run": str(folder.path),
            "ended": ended,
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "last": rows[-1] if rows else None,
        }
    )


def _data(screen: Screen) -> None:
    for name, entry in data.DATASETS.items():
        screen.line(f"  {name:<18} {entry.label:<16} {entry.title}")
    screen.line("  FILE.npz           yours            x_train, y_train, x_test, y_test")
