"""The same runs on torch and on MLX: their accuracies side by side, by way of training and seed."""

from __future__ import annotations

from collections.abc import Callable

from common import (
    Record,
    Values,
    beside,
    clear,
    mean_error,
    percent,
    provenance,
    table,
)

# of so many seeds, one time in how many a mean is beyond two standard errors: Student's t
CHANCE = {
    2: "3 or 4",
    3: "5 or 6",
    4: "7",
    5: "8 or 9",
    6: "10",
    7: "11",
    8: "12",
    9: "12",
    10: "13",
}
Pairs = dict[str, list[tuple[Values, Values]]]  # of every way, the runs on torch and on MLX


def pairs_of(record: Record) -> Pairs:
    """Return the pairs of runs that torch's record and MLX's share, in the order of torch's."""
    other, found = beside(record.values["claim"], "mlx"), {}
    for key, run in record.runs.items():
        if other is not None and key in other.runs:
            found.setdefault(key.rpartition(" seed=")[0], []).append((run, other.runs[key]))
    return found


def gaps(pairs: list[tuple[Values, Values]]) -> list[float]:
    """Return accuracy on MLX less that on torch, in points, of every seed."""
    return [100 * (mlx["test_accuracy"] - torch["test_accuracy"]) for torch, mlx in pairs]


def likeness(record: Record) -> list[list[str]]:
    """Return the row of how many ways differ between the backends; none without MLX."""
    each = [gaps(pairs) for pairs in pairs_of(record).values()]
    if not each:
        return []
    apart = sum(clear(of) or clear([-gap for gap in of]) for of in each)
    here = f"{apart} by more than two standard errors ({len(each[0])} seeds)"
    word = "**a difference seen**" if apart else "no difference seen"
    what = f"Of {len(each)} ways to train, accuracy differs on MLX"
    return [[what, "not in the paper", here, word, "mlx"]]


def on_mlx(record: Record, claims: Callable[[Record], list[list[str]]]) -> list[list[str]]:
    """Return the rows of MLX's own record, and that of the likeness; none without MLX."""
    other = beside(record.values["claim"], "mlx")
    if other is None:
        return []
    rows = [[f"On MLX: {what}", *rest, "mlx"] for what, *rest in claims(other)]
    return rows + likeness(record)


def accuracies(record: Record, more: Callable[[Record], str] = lambda other: "") -> str:
    """Return the section that has both, and `more` of MLX's record; nothing without MLX."""
    rows = [
        [
            way,
            percent([torch["test_accuracy"] for torch, _ in pairs], 2),
            percent([mlx["test_accuracy"] for _, mlx in pairs], 2),
            "{:+.2f} ± {:.2f}".format(*mean_error(gaps(pairs))),
            f"{max(map(abs, gaps(pairs))):.2f}",
        ]
        for way, pairs in pairs_of(record).items()
    ]
    other = beside(record.values["claim"], "mlx")
    if not rows or other is None:
        return ""
    seeds = len(next(iter(pairs_of(record).values())))
    head = ["way", "torch", "MLX", "MLX less torch, points", "largest of a seed"]
    return f"""## On MLX

The same script with `--backend mlx`: the same initial weights, batches and settings, {seeds} seeds,
test accuracy in percent after the last update. Two runs of a spiking network part at the first
spike that falls on the other side of its threshold, and are then two draws of the same thing. So
many seeds put the difference of a way above two standard errors, in one direction or the other,
one time in {CHANCE[seeds]} by chance alone.

{table(head, rows)}

{more(other)}
{provenance(other)}
"""
