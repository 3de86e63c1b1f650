"""Do two sides reach the same accuracy? Ten seeds on each, and a test of equivalence.

A side is a backend, or one with keys of the recipe that say how it runs: `torch/kernels=fused`.

Two one-sided Welch tests (TOST): the means of the last-epoch test accuracy are equivalent where
both "the difference is at most -margin" and "at least +margin" are rejected at level alpha.

`python -m snnx_conformance.equivalence` trains a recipe, `digits`, writes its file after every
run, and goes on where it was stopped. The file carries the hash of the ops that the recipe uses and
of the recipe itself: it stands until one of them changes. Source of the test: Schuirmann 1987.
Needs scipy, which the extra "test" brings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnx.ops.levels import ALPHA, MARGIN
from snnx_conformance.record import environment

FORMAT = 1
SEEDS = 10
RECIPE = "digits"
PLACE = Path("conformance/records/equivalence.json")


def tost(
    a: Sequence[float], b: Sequence[float], margin: float = MARGIN, alpha: float = ALPHA
) -> dict[str, Any]:
    """Return means, their difference, the larger of both p-values, and whether they are equivalent.

    Raises: ValueError for fewer than two values on a side.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"the test needs two runs a side, there are {len(a)} and {len(b)}")
    from scipy import stats

    means = [math.fsum(v) / len(v) for v in (a, b)]
    difference = means[0] - means[1]
    if max(a) == min(a) and max(b) == min(b):  # no spread, so Student's t has no scale
        p, error, freedom = 0.0 if abs(difference) < margin else 1.0, 0.0, len(a) + len(b) - 2.0
    else:
        above = [x + margin for x in a]
        below = [x - margin for x in a]
        lower: Any = stats.ttest_ind(above, b, equal_var=False, alternative="greater")
        upper: Any = stats.ttest_ind(below, b, equal_var=False, alternative="less")
        p, freedom = max(float(lower.pvalue), float(upper.pvalue)), float(lower.df)
        error = (difference + margin) / float(lower.statistic)
    return {
        "means": means,
        "difference": difference,
        "standard_error": error,
        "degrees_of_freedom": freedom,
        "p": p,
        "margin": margin,
        "alpha": alpha,
        "equivalent": p < alpha,
    }


def accuracy(recipe: str, side: str, seed: int, words: Sequence[str]) -> dict[str, Any]:
    """Train the recipe once on a side; return its last-epoch test accuracy and seconds."""
    from snnx.training import loop
    from snnx.training.recipe import override, read_recipe, resolve
    from snnx.training.recipe_data import open_data
    from snnx.training.recipe_plan import make_plan

    backend, *keys = side.split("/")
    words = [*words, f"backend={backend}", *keys, f"seed={seed}"]
    resolved = resolve([read_recipe(recipe), *(override(word) for word in words)])
    dataset = open_data(resolved.values["data"])
    began = time.monotonic()
    training = loop.start(make_plan(resolved.values, dataset), dataset)
    test = loop.run(training, loop.Nobody())
    seconds = round(time.monotonic() - began, 1)
    return {"test_accuracy": test.accuracy, "seconds": seconds, "describe": _describe(training)}


def _describe(training: Any) -> dict[str, str]:
    found = training.session.implementations()
    return {**training.backend.describe(), "neurons": "; ".join(sorted(set(found.values())))}


def identity(recipe: str = RECIPE, words: Sequence[str] = ()) -> dict[str, Any]:
    """Return by what a result is known: the ops it used, the hash of their spec, the run."""
    from snnx import serial
    from snnx.ops import hash_of
    from snnx.training.recipe import override, read_recipe, resolve
    from snnx.training.recipe_data import open_data
    from snnx.training.recipe_plan import make_plan

    resolved = resolve([read_recipe(recipe), *(override(word) for word in words)])
    dataset = open_data(resolved.values["data"])
    plan = make_plan(resolved.values, dataset)
    used = plan.ops()
    run = {
        "model": serial.encode(plan.model),
        "objective": serial.encode(plan.objective),
        "optim": serial.encode(plan.optim),
        "schedule": repr(plan.schedule),
        "T": plan.steps,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "data": dataset.hash,
    }
    return {
        "ops": sorted(used),
        "spec": hash_of(used),
        "recipe": [recipe, *words],
        "run": hashlib.sha256(json.dumps(_set(run), sort_keys=True).encode()).hexdigest(),
    }


def _set(value: Any) -> Any:
    """Return nested JSON values without what is not set: a later option changes no old run."""
    if isinstance(value, Mapping):
        return {k: _set(v) for k, v in value.items() if v is not None}
    return [_set(v) for v in value] if isinstance(value, list) else value


def _start(place: Path, names: Sequence[str], recipe: str, words: Sequence[str]) -> dict[str, Any]:
    """Return the file's content, or a new one; ValueError where the file is of something else."""
    fresh = {
        "format": FORMAT,
        **identity(recipe, words),
        "environment": environment(),
        "runs": {name: {} for name in names},
    }
    if not place.exists():
        return fresh
    old = json.loads(place.read_text(encoding="utf-8"))
    for key in ("format", "ops", "spec", "recipe", "run"):
        if old.get(key) != fresh[key]:
            raise ValueError(
                f"{place}: its {key} is {old.get(key)!r}, now it is {fresh[key]!r}; "
                "move the file away to start anew"
            )
    return {**old, "runs": {name: old["runs"].get(name, {}) for name in names}}


def _write(place: Path, content: dict[str, Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}.writing")
    fresh.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(place)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, test, and return 0 (equivalent), 2 (usage) or 5 (not equivalent)."""
    parser = argparse.ArgumentParser(prog="python -m snnx_conformance.equivalence")
    parser.add_argument("--sides", default="torch,mlx", help="two, BACKEND[/KEY=VALUE...]")
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=PLACE)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="changes of the recipe")
    options = parser.parse_args(argv)
    names = options.sides.split(",")
    if len(names) != 2 or options.seeds < 2:
        parser.error("give two sides and at least two seeds")
    try:
        content = _start(options.out, names, options.recipe, options.words)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    width = max(map(len, names))
    for seed in range(options.seeds):
        for name in names:
            runs = content["runs"][name]
            if str(seed) not in runs:
                runs[str(seed)] = accuracy(options.recipe, name, seed, options.words)
                _write(options.out, content)
            share, seconds = runs[str(seed)]["test_accuracy"], runs[str(seed)]["seconds"]
            print(f"seed {seed}  {name:<{width}} {100 * share:.2f} %  {seconds} s", flush=True)
    first, second = (
        [content["runs"][name][str(seed)]["test_accuracy"] for seed in range(options.seeds)]
        for name in names
    )
    content["test"] = tost(first, second)
    _write(options.out, content)
    found = content["test"]
    print(
        f"difference {100 * found['difference']:+.3f} points, margin {100 * MARGIN:g}, "
        f"p {found['p']:.2g}: {'equivalent' if found['equivalent'] else 'NOT equivalent'}"
    )
    return 0 if found["equivalent"] else 5


if __name__ == "__main__":
    sys.exit(main())
