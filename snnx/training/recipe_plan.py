"""From the values of a recipe to a plan: names become models, objectives, rules and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snnx import serial
from snnx.methods import METHODS
from snnx.methods.method import Method, applied
from snnx.models import MODELS
from snnx.objective import Objective
from snnx.optim import Optim, Rule
from snnx.program import Program
from snnx.rotation import Retention
from snnx.scalars import Dial, Learned
from snnx.training import schedules
from snnx.training.plan import Plan, Stage, check_stages, time_steps, with_objectives
from snnx.training.recipe import RecipeError, as_tuples
from snnx.training.recipe_schema import NEURONS, OBJECTIVES, RULES, SURROGATES, tag

if TYPE_CHECKING:
    from snnx.data.lazy import Source


def make_plan(values: Mapping[str, Any], dataset: Source, model: Any = None) -> Plan:
    """Return the plan of a resolved recipe for a data set.

    `model` stands for the named one, as the method has rewritten it already.

    Raises: RecipeError where the values do not fit together or do not fit the data.
    """
    try:
        steps = time_steps(dataset, values["T"])
        method = METHODS[values["method"]["name"]](**_options(values["method"])).for_steps(steps)
        objective = method.objective(_objective(values["objective"]))
        optim = _optim(values["optim"])
        if model is None:
            model, optim = applied((method,), _model(values, dataset), optim, objective)
        else:
            optim = method.optim(optim)
        plan = Plan(
            model=model,
            objective=objective,
            optim=optim,
            methods=(method,),
            schedule=_schedule(values["schedule"], values["epochs"]),
            steps=steps,
            epochs=values["epochs"],
            batch_size=values["batch_size"],
            seed=values["seed"],
            max_steps=values.get("max_steps"),
            checkpoint_steps=values.get("checkpoint_steps"),
            retention=Retention(values["keep_checkpoints"], values.get("archive_epochs")),
            backend=values["backend"],
            device=None if values["device"] == "auto" else values["device"],
            precision=values["precision"],
            compile=None if values["compile"] == "auto" else values["compile"],
            graph=None if values["graph"] == "auto" else values["graph"],
            lean=None if values["lean"] == "auto" else values["lean"],
            kernels=values["kernels"],
            deterministic=values["deterministic"],
            chunk=values.get("chunk"),
            micro_batches=values["micro_batches"],
            sync_norm=values["sync_norm"],
            recompute=values.get("recompute"),
            config=values,
            stages=with_objectives(_stages(values, method), (method,), model),
        )
        check_stages(plan.stages, dataset)
        program = plan.program()
    except (TypeError, ValueError) as error:
        raise RecipeError(str(error)) from error
    check_data(program, dataset)
    return plan


def check_data(program: Program, dataset: Source) -> None:
    """Raise RecipeError where a model's input or output does not fit the data."""
    if program.input_shape != dataset.features:
        raise RecipeError(
            f"the model's Input is {program.input_shape}, the samples of {dataset.name!r} are "
            f"{dataset.features}; write snnx.Input{dataset.features}"
        )
    if len(program.output_shape) != 1 or program.output_shape[0] < dataset.classes:
        raise RecipeError(
            f"the model's output is {program.output_shape} per step, {dataset.name!r} has "
            f"{dataset.classes} classes; let it end with Linear({dataset.classes})"
        )


def _model(values: Mapping[str, Any], dataset: Source) -> Any:
    table = values["model"]
    if tag(table) == "FILE.json":
        return serial.load_file(table["name"])
    surrogate = SURROGATES[values["surrogate"]["name"]](**numbers(values["surrogate"]))
    neuron = NEURONS[values["neuron"]["name"]](surrogate=surrogate, **numbers(values["neuron"]))
    given = {"neuron": neuron, "input": dataset.features, "classes": dataset.classes}
    return MODELS[table["name"]](**numbers(table), **given)


def numbers(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table's options; one that is a table itself is a learned number."""
    options = _options(table)
    return {k: Learned(**v) if isinstance(v, Mapping) else v for k, v in options.items()}


def _optim(table: Mapping[str, Any]) -> Optim:
    options = _options(table)
    groups = options.pop("groups", {})
    clips = [options.pop(name, None) for name in ("clip_norm", "clip_value")]
    default: Rule = RULES[table["name"]](**{**options, "lr": Dial("lr", options["lr"])})
    changed = {
        name: replace(default, **{**as_tuples(own), "lr": Dial(f"lr.{name}", own["lr"])})
        if "lr" in own
        else replace(default, **as_tuples(own))
        for name, own in groups.items()
    }
    return Optim(default, changed, *clips)


def _stages(values: Mapping[str, Any], method: Method) -> tuple[Stage, ...]:
    return tuple(
        Stage(
            stage["T"],
            stage["epochs"],
            _schedule(stage.get("schedule", values["schedule"]), stage["epochs"]),
            stage.get("lr"),
            stage["ann"],
            method.optim(_optim(stage["optim"])) if "optim" in stage else None,
            stage.get("batch_size"),
            _objective(stage["objective"]) if "objective" in stage else None,
        )
        for stage in values["stages"]
    )


def _objective(table: Mapping[str, Any]) -> Objective:
    return OBJECTIVES[table["name"]](**_options(table))


def _schedule(table: Mapping[str, Any], epochs: int) -> schedules.Schedule:
    chosen: schedules.Schedule = schedules.Constant()
    if table["name"] == "cosine":
        chosen = schedules.Cosine(epochs)
    elif table["name"] == "step":
        chosen = schedules.Step(tuple(table["milestones"]), table["factor"])
    steps = table["warmup_steps"]
    return schedules.Warmup(steps, chosen) if steps else chosen


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: as_tuples(v) for k, v in table.items() if k != "name"}
