"""What `snnx train` prints before a run: its facts, and what its paper left open."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from snnx.training.loop import Training
from snnx.training.plan import Plan, Stage


def facts(training: Training, out: str) -> dict[str, str]:
    """Return the header of a run."""
    plan, dataset = training.plan, training.dataset
    layers = [
        f"{s.layer}{s.shape[-1]}" if s.op in ("conv2d", "linear") else s.layer
        for s in training.program.steps
        if s.op in ("conv2d", "linear") or "neuron" in s.attributes
    ]
    shown = "-".join(layers if len(layers) <= 8 else [*layers[:4], "...", *layers[-3:]])
    T = " then ".join(f"{s.epochs} epochs at {_time(s)}" for s in plan.stages)
    count = sum(p.size for p in training.program.parameters)
    described = training.backend.describe()
    versions = " ".join(f"{k} {v}" for k, v in described.items() if k != "device")
    device = plan.device or described.get("device", "")
    size = training.world.size
    split = f" ({plan.batch_size / size:g} a process)" if size > 1 else ""
    split += f" in {plan.micro_batches} micro-batches" if plan.micro_batches > 1 else ""
    processes = {"processes": f"{size}{_norms(training)}"} if size > 1 else {}
    return {
        **published(plan.config),
        "data": f"{dataset.name} ({dataset.label})  {dataset.size('train')} train  "
        f"{dataset.size('test')} test",
        "model": f"{shown}   {T or f'T={plan.steps}'}   {count} parameters",
        "loss": f"{_losses(plan)}   {type(plan.optim.default).__name__}   "
        f"{plan.epochs} epochs of {plan.batch_size}-sample batches{split}",
        "method": "; ".join(method.describe() for method in plan.methods),
        "backend": f"{plan.backend}   {versions}   {device}   {plan.precision}   seed {plan.seed}",
        "step": training.session.step_form(),
        "neurons": runs_by(training.session.implementations()),
        **processes,
        "out": out,
    }


def _norms(training: Training) -> str:
    """Return whose statistics the batch norms take, where there are any."""
    if not any(step.op == "batch_norm" for step in training.program.steps):
        return ""
    return f"   batch norms {'synchronised' if training.plan.sync_norm else 'by process'}"


def runs_by(implementations: Mapping[str, str]) -> str:
    """Return what runs the spiking steps: each implementation once, with how many steps it has."""
    counts: dict[str, int] = {}
    for text in implementations.values():
        counts[text] = counts.get(text, 0) + 1
    return "; ".join(f"{count} x {text}" for text, count in counts.items())


def _time(stage: Stage) -> str:
    return f"T={stage.steps}{' as an ANN' if stage.ann else ''}"


def _losses(plan: Plan) -> str:
    """Return the objectives of the stages in order, each change named once."""
    found = [type(stage.objective or plan.objective).__name__ for stage in plan.stages]
    return " then ".join(k for k, _ in groupby(found)) or type(plan.objective).__name__


def published(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the paper whose row a recipe is, the accuracy printed there, and the note."""
    found = {"paper": config.get("paper", "")}
    if config.get("expected_accuracy") is not None:
        deviation = config.get("expected_deviation")
        spread = "" if deviation is None else f" +- {100 * deviation:.2f}"
        figure = f"{100 * config['expected_accuracy']:.2f}{spread} % as published"
        found["expected"] = f"{figure}, by the recipe as it is"
    found["note"] = config.get("note", "")
    return {key: text for key, text in found.items() if text}


def open_choices(config: Mapping[str, Any]) -> list[str]:
    """Return a line for each value that paper and code leave open, with the choice and why."""
    lines = [f"  {text}" for text in config.get("undetermined", ())]
    return ["left open by paper and code, and chosen here:", *lines] if lines else []
