"""`snnx plan`: what a recipe will take, before it is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnx.analysis.memory import RESERVE, fitted, memory_of, readable
from snnx.backend import Footprint, load_backend
from snnx.building import initial_parameters
from snnx.commands.header import runs_by
from snnx.commands.screen import Screen
from snnx.commands.steps import LEGEND, print_steps, step_table
from snnx.data import Dataset
from snnx.data.lazy import Source
from snnx.random import uniform
from snnx.training.plan import Plan
from snnx.training.recipe import RecipeError, override, read_recipe, resolve
from snnx.training.recipe_data import open_data
from snnx.training.recipe_plan import make_plan


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for; `shape` and `classes` stand for data that are not here."""

    words: Sequence[str]
    device: str | None = None
    shape: str | None = None
    classes: int | None = None


def plan(request: Request, screen: Screen) -> None:
    """Print steps, kept bytes, peak and, for a named device, the largest batch."""
    try:
        memory = None if request.device is None else memory_of(request.device)
    except ValueError as error:
        raise RecipeError(f"--device: {error}") from error
    chosen, _ = planned(request.words, request.shape, request.classes)
    program = chosen.program()
    backend = load_backend(chosen.backend)

    def run(samples: int) -> Footprint:
        return backend.footprint(
            program,
            chosen.objective,
            chosen.optim,
            steps=chosen.steps,
            samples=samples,
            precision=chosen.precision,
            lean=chosen.lean,
            kernels=chosen.kernels,
            chunk=chosen.chunk,
            recompute=chosen.recompute,
        )

    fit, found = fitted(run, chosen.batch_size)
    samples = max(min(chosen.batch_size, 64), 2)
    kept = {path: size / samples for path, size in found.kept.items()}
    print_steps(step_table(program, {"kept": kept}), screen)
    screen.line(LEGEND)
    values = initial_parameters(program, chosen.seed)
    net = backend.build(program, values, **chosen.build_options())
    screen.line(f"here its neurons run by   {runs_by(net.implementations())}")
    peak = fit.peak(chosen.batch_size)
    values = {
        "backend": backend.name,
        "precision": chosen.precision,
        "T": chosen.steps,
        "batch_size": chosen.batch_size,
        "parameters": sum(p.size for p in program.parameters),
        "standing_bytes": found.standing,
        "kept_bytes_per_sample": sum(kept.values()),
        "peak_bytes": round(peak),
        "bytes_per_sample": round(fit.per_sample),
    }
    screen.line()
    screen.line(f"parameters, statistics, moments   {readable(found.standing)}")
    screen.line(f"each sample, at the peak          {readable(fit.per_sample)}")
    screen.line(f"peak at batch {chosen.batch_size:<6}              {readable(peak)}")
    if memory is not None:
        values["device_bytes"], values["largest_batch"] = memory, fit.largest(memory)
        screen.line(
            f"largest batch on {request.device:<10}       {values['largest_batch']}"
            f"   ({readable(memory)}, {100 * RESERVE:.0f} % left to the framework: a guess)"
        )
    screen.final(values)


def planned(
    words: Sequence[str], shape: str | None = None, classes: int | None = None
) -> tuple[Plan, Source]:
    """Return a recipe's last stage and its data; `shape` and `classes` stand for data not here."""
    presets = [word for word in words if "=" not in word]
    changes = [override(word) for word in words if "=" in word]
    values = resolve([*(read_recipe(name) for name in presets or ["digits"]), *changes]).values
    dataset = open_data(values["data"]) if shape is None else stand_in(shape, classes)
    found = make_plan(values, dataset)
    return found.stage(found.epochs - 1)[0], dataset


def stand_in(shape: str, classes: int | None, samples: int = 2) -> Dataset:
    """Return noise of a shape, two or more samples, for a recipe whose data are not here."""
    try:
        sizes = tuple(int(word) for word in shape.split(","))
    except ValueError as error:
        raise RecipeError(f"--shape {shape}: give sizes such as 32,32,3") from error
    if classes is None or classes < 2:
        raise RecipeError("--shape needs --classes N too, since it stands for the data set")
    draw = uniform(0, "stand-in", "", 0, np.arange(samples), [0], math.prod(sizes))
    x = (3.4 * (draw[0] - 0.5)).reshape(samples, *sizes).astype(np.float32)  # deviation about 1
    y = np.arange(samples) * (classes - 1) // (samples - 1)
    return Dataset(x, y, x, y, name="stand-in", label="synthetic")
