"""The same runs on torch and on MLX: their accuracies side by side, by way of training and seed."""

from __future__ import annotations

from collections.abc import Callable

from common import (
    Record,
    Values,
    beside,
    difference,
    mean_deviation,
    percent,
    table,
    verdict_of_likeness,
)

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
    """Return the row of the verdicts, of the mean over all ways of each seed; none without MLX."""
    each = [gaps(pairs) for pairs in pairs_of(record).values()]
    if not each:
        return []
    seeds = [mean_deviation(of_seed)[0] for of_seed in zip(*each, strict=True)]
    about = f"seeds, each the mean of {len(each)} ways"
    words = ["MLX less torch in accuracy, points", "not in the paper", difference(seeds, about)]
    return [[*words, verdict_of_likeness(seeds), "mlx"]]


def on_mlx(record: Record, claims: Callable[[Record], list[list[str]]]) -> list[list[str]]:
    """Return the rows of MLX's own record, and that of the likeness; none without MLX."""
    other = beside(record.values["claim"], "mlx")
    if other is None:
        return []
    rows = [[f"On MLX: {what}", *rest, "mlx"] for what, *rest in claims(other)]
    return rows + likeness(record)


def _preloaded(record: Record) -> str:
    """Return which library stood in the place of MLX's own BLAS, where one did."""
    other = beside(record.values["claim"], "mlx")
    assert other is not None
    library = other.values["environment"]["backend"].get("preloaded")
    return f", {library} in the place of MLX's own BLAS (`LD_PRELOAD`)" if library else ""


def accuracies(record: Record) -> str:
    """Return the section that has both; nothing without MLX."""
    rows = [
        [
            way,
            percent([torch["test_accuracy"] for torch, _ in pairs], 2),
            percent([mlx["test_accuracy"] for _, mlx in pairs], 2),
            f"{max(map(abs, gaps(pairs))):.2f}",
        ]
        for way, pairs in pairs_of(record).items()
    ]
    if not rows:
        return ""
    seeds = len(next(iter(pairs_of(record).values())))
    head = ["way", "torch", "MLX", "largest difference of a seed, points"]
    return f"""## On MLX

The same script with `--backend mlx`{_preloaded(record)}: the same initial weights, batches and
settings, {seeds} seeds, test accuracy in percent after the last update. Two runs of a spiking
network part at the first spike that falls on the other side of its threshold.

{table(head, rows)}
"""
