"""Do two backends reach the same accuracy? Ten seeds on each, and a test of equivalence.

Two one-sided Welch tests (TOST): the means of the last-epoch test accuracy are equivalent where
both "the difference is at most -margin" and "at least +margin" are rejected at level alpha.

`python -m snnx_conformance.equivalence` trains the recipe `digits`, writes its file after every
run, and goes on where it was stopped. Source of the test: Schuirmann 1987; degrees of freedom by
Welch and Satterthwaite.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnx_conformance.record import environment

FORMAT = 1
SEEDS = 10
MARGIN = 0.01
ALPHA = 0.05
RECIPE = "digits"
PLACE = Path("conformance/records/equivalence.json")


def beta_fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function, by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1.0 + term * d, 1.0 + term / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * beta_fraction(a, b, x) / a
    return 1.0 - front * beta_fraction(b, a, 1.0 - x) / b


def student_tail(t: float, freedom: float) -> float:
    """Return the probability that Student's t of these degrees of freedom is above t."""
    tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
    return tail if t >= 0 else 1.0 - tail


def tost(
    a: Sequence[float], b: Sequence[float], margin: float = MARGIN, alpha: float = ALPHA
) -> dict[str, Any]:
    """Return means, their difference, the larger of both p-values, and whether they are equivalent.

    Raises: ValueError for fewer than two values on a side.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"the test needs two runs a side, there are {len(a)} and {len(b)}")
    means = [math.fsum(v) / len(v) for v in (a, b)]
    shares = [
        math.fsum((x - mean) ** 2 for x in v) / (len(v) - 1) / len(v)
        for v, mean in zip((a, b), means, strict=True)
    ]
    difference, error = means[0] - means[1], math.sqrt(sum(shares))
    if error == 0.0:
        freedom, p = float(len(a) + len(b) - 2), 0.0 if abs(difference) < margin else 1.0
    else:
        parts = [s * s / (len(v) - 1) for s, v in zip(shares, (a, b), strict=True)]
        freedom = sum(shares) ** 2 / sum(parts)
        lower = student_tail((difference + margin) / error, freedom)
        upper = student_tail((margin - difference) / error, freedom)
        p = max(lower, upper)
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


def accuracy(backend: str, seed: int, words: Sequence[str]) -> dict[str, Any]:
    """Train the recipe once and return the last-epoch test accuracy and the seconds it took."""
    from snnx import data
    from snnx.training import loop
    from snnx.training.recipe import override, read_recipe, resolve
    from snnx.training.recipe_plan import make_plan

    words = [*words, f"backend={backend}", f"seed={seed}"]
    resolved = resolve([read_recipe(RECIPE), *(override(word) for word in words)])
    dataset = data.load(resolved.values["data"])
    began = time.monotonic()
    training = loop.start(make_plan(resolved.values, dataset), dataset)
    test = loop.run(training, loop.Nobody())
    seconds = round(time.monotonic() - began, 1)
    return {"test_accuracy": test.accuracy, "seconds": seconds, "describe": _describe(training)}


def _describe(training: Any) -> dict[str, str]:
    return dict(training.backend.describe())


def _start(place: Path, names: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    """Return the file's content, or a new one; ValueError where the file is of something else."""
    from snnx.ops import SPEC_HASH

    fresh = {
        "format": FORMAT,
        "spec": SPEC_HASH,
        "recipe": [RECIPE, *words],
        "environment": environment(),
        "runs": {name: {} for name in names},
    }
    if not place.exists():
        return fresh
    old = json.loads(place.read_text(encoding="utf-8"))
    for key in ("format", "spec", "recipe"):
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
    parser.add_argument("--backends", default="torch,mlx", help="two names")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=PLACE)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="changes of the recipe")
    options = parser.parse_args(argv)
    names = options.backends.split(",")
    if len(names) != 2 or options.seeds < 2:
        parser.error("give two backends and at least two seeds")
    try:
        content = _start(options.out, names, options.words)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for seed in range(options.seeds):
        for name in names:
            runs = content["runs"][name]
            if str(seed) not in runs:
                runs[str(seed)] = accuracy(name, seed, options.words)
                _write(options.out, content)
            share, seconds = runs[str(seed)]["test_accuracy"], runs[str(seed)]["seconds"]
            print(f"seed {seed}  {name:<6} {100 * share:.2f} %  {seconds} s", flush=True)
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
