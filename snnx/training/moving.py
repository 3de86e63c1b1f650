"""Where a run computes, and what stays exact when it goes on somewhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snnx.checkpoint import Checkpoint

if TYPE_CHECKING:
    from snnx.training.progress import Training

EXACT = (
    "weights, moments, statistics, counters, the order of the batches and all random draws are "
    "exactly those of the checkpoint"
)
# what may differ between two places, and what that does to the numbers from there on
CHANGES = {
    "backend": "rounding is that of another framework from here on",
    "device": "rounding is that of another device from here on",
    "precision": "every step from here on rounds to another precision",
    "processes": "sums over a batch are taken in another order, which rounds otherwise",
    "micro_batches": "sums over a batch are taken in another order, which rounds otherwise; batch "
    "norm sees other parts",
    "versions": "other versions may round otherwise",
    "machine": "another machine may round otherwise",
}
# recipe keys of the form of a step; another backend has its own
FORMS = ("compile", "graph", "lean", "kernels", "deterministic")
OTHER_FORM = "another form of the step may round otherwise"
SCHEDULED = "what is scheduled over all epochs has other values from here on"
REPEATS = ", and so is every step from here on"
LOOSE = (
    "; from here on a sum may be taken in another order than without the stop, since CUDA chooses "
    "algorithms by trial and deterministic = false"
)
DROPPED = (
    "max_steps = {} was the limit of the command before and is none of this one; it goes on to the "
    "last epoch (--max-steps sets another)"
)
KEPT_IN = "float32"
WIDE = "fp64"


def place(training: Training) -> dict[str, Any]:
    """Return where a run computes, as JSON values that a checkpoint keeps."""
    import platform

    plan = training.plan
    described = training.backend.describe()
    device = plan.device or described.get("device", "auto")
    return {
        "backend": plan.backend,
        "device": device,
        "precision": plan.precision,
        "processes": training.world.size,
        "micro_batches": plan.micro_batches,
        "versions": {k: v for k, v in described.items() if k not in ("device", "device_name")},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a sentence for everything in which two places differ, where both say it."""
    found = []
    for name, effect in CHANGES.items():
        if name not in then or name not in now or then[name] == now[name]:
            continue
        if name in ("versions", "device") and then["backend"] != now["backend"]:
            continue  # another framework has other versions and names its devices otherwise
        found.append(f"{name} {_text(then[name])} -> {_text(now[name])}: {effect}")
    if then.get("precision") == WIDE != now["precision"]:
        found.append(f"weights written in {WIDE} are rounded to {KEPT_IN}")
    return found


def recipe_changes(then: Mapping[str, Any], now: Mapping[str, Any], moved: bool) -> list[str]:
    """Return a sentence for every key of two recipes that gives later steps other numbers.

    `moved`: to another backend, whose form is its own.
    """
    effects = {"epochs": SCHEDULED, **({} if moved else dict.fromkeys(FORMS, OTHER_FORM))}
    return [
        f"{name} {_text(then[name])} -> {_text(now[name])}: {effect}"
        for name, effect in effects.items()
        if name in then and name in now and then[name] != now[name]
    ]


def onwards(training: Training) -> str:
    """Return what holds of the steps after a stop in one place: bits, or the order of sums not."""
    here = place(training)
    free = here["device"] != "cpu" and "cuda" in here["versions"]
    return LOOSE if free and not training.plan.deterministic else REPEATS


def statement(before: Checkpoint, training: Training) -> list[str]:
    """Return what a resumed run prints: where it goes on, what is exact and what is not."""
    old: Mapping[str, Any] = before.config.get("place", {})
    here = place(training)
    recipe, config = before.config.get("recipe") or {}, training.plan.config
    found = changes(old, here)
    if recipe and config:
        found += recipe_changes(recipe, config, old.get("backend") != here["backend"])
    head = (
        f"resumed on {training.plan.backend} at epoch {before.epoch + 1}, "
        f"optimiser step {before.step}"
    )
    if not old:
        return [f"{head}: {EXACT}; the checkpoint does not say where it was written"]
    limit, now = recipe.get("max_steps"), training.plan.max_steps
    dropped = [] if limit is None or now is not None else [DROPPED.format(limit)]
    if not found:
        return [f"{head}: as if it had not stopped; {EXACT}{onwards(training)}", *dropped]
    return [f"{head}: {EXACT}; what is not:", *(f"  {line}" for line in found), *dropped]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
