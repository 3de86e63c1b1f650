"""`snnx info MODEL`: a network's steps, what runs each of them here, and the bytes each keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnx import serial
from snnx.backend import Backend, BackendError, default_backend, load_backend
from snnx.commands.screen import Screen
from snnx.commands.steps import LEGEND, print_steps, step_table
from snnx.models import MODELS
from snnx.objective import SDT
from snnx.optim import Optim
from snnx.passes import fuse_norm_neuron
from snnx.program import Program, flatten
from snnx.training.recipe import RecipeError, override, resolve
from snnx.training.recipe_plan import numbers

SAMPLES = 2  # in the batch whose kept bytes are counted: a norm needs more than one
STEPS = 4  # T, unless it is given or a run has its own
FORMS = {"kept": False, "kept lean": True}


@dataclass(frozen=True, slots=True)
class Request:
    """A model of the zoo with changes of its arguments, or a model's file.

    `shape` and `classes` are those of a sample and of the answer, the model's own unless given.
    """

    name: str
    words: Sequence[str] = ()
    steps: int | None = None
    backend: str | None = None
    shape: str | None = None
    classes: int | None = None


def is_model(name: str) -> bool:
    """Tell whether `snnx info NAME` asks for a model."""
    return name in MODELS or name.endswith(".json")


def model_info(request: Request, screen: Screen) -> None:
    """Print the steps of a model."""
    program = flatten(_model(request))
    shape = " x ".join(map(str, program.input_shape))
    size = sum(p.size for p in program.parameters)
    steps = request.steps or STEPS
    screen.line(f"{request.name}   input {shape}   {size:,} parameters   T={steps}")
    screen.final({"model": request.name, **describe(program, request.backend, steps, screen)})


def describe(program: Program, name: str | None, steps: int, screen: Screen) -> dict[str, Any]:
    """Print the table of a program's steps on a backend and return its figures."""
    try:
        backend = load_backend(name or default_backend())
    except BackendError as error:
        if name is not None:
            raise
        print_steps(step_table(program, {}), screen)
        screen.line(f"what runs the steps, and what they keep, is not known: {error}")
        return {"parameters": sum(p.size for p in program.parameters)}
    zeros = {p.path: np.zeros(p.shape, np.float32) for p in program.parameters}
    runs = dict(backend.build(program, zeros).implementations())
    generic = all("generic (" in text for text in runs.values())
    kept = _kept(backend, program, steps, "generic" if generic else "auto")
    short = {path: text.partition(" (")[0] for path, text in runs.items()}
    print_steps(step_table(program, kept, _inside(program, short) | short), screen)
    for text in dict.fromkeys(runs.values()):
        screen.line(f"{backend.name} here runs {text}")
    screen.line(LEGEND)
    if not kept:
        screen.line(f"{backend.name} does not tell what each step keeps; -b torch does")
    return {
        "backend": backend.name,
        "parameters": sum(p.size for p in program.parameters),
        "implementations": runs,
        "kept_bytes_per_sample": {name: dict(sizes) for name, sizes in kept.items()},
    }


def _inside(program: Program, runs: Mapping[str, str]) -> dict[str, str]:
    """Return the steps that a neuron's kernel computes too, where norms are fused with neurons."""
    if not any(text.startswith("norm_neuron") for text in runs.values()):
        return {}
    left = {step.path for step in fuse_norm_neuron(program).steps}
    return {step.path: "with its neuron" for step in program.steps if step.path not in left}


def _kept(
    backend: Backend, program: Program, steps: int, kernels: str
) -> dict[str, dict[str, float]]:
    """Return the bytes of one sample by step in both forms; nothing where they are not told."""
    found: dict[str, dict[str, float]] = {}
    for column, lean in FORMS.items():
        try:
            form: dict[str, Any] = {"steps": steps, "samples": SAMPLES, "lean": lean}
            told = backend.footprint(program, SDT(), Optim(), **form, kernels=kernels).kept
        except BackendError:
            return {}
        if told:
            found[column] = {path: size / SAMPLES for path, size in told.items()}
    return found


def _model(request: Request) -> Any:
    given = {"input": _shape(request.shape), "classes": request.classes}
    if request.name.endswith(".json"):
        if request.words or any(value is not None for value in given.values()):
            raise RecipeError(
                f"snnx info {request.name}: the file says all of its model; leave out the rest"
            )
        if not Path(request.name).is_file():
            raise RecipeError(f"snnx info {request.name}: there is no such file")
        return serial.load_file(request.name)
    words = [word if word.startswith("model.") else f"model.{word}" for word in request.words]
    layers = [override(f"model={request.name}"), *map(override, words)]
    table = resolve(layers).values["model"]
    try:
        return MODELS[request.name](
            **numbers(table), **{k: v for k, v in given.items() if v is not None}
        )
    except (TypeError, ValueError) as error:
        raise RecipeError(f"snnx info {request.name}: {error}") from error


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    sizes = text.split(",")
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise RecipeError(f"--shape {text}: give sizes such as 32,32,3")
    return tuple(map(int, sizes))
