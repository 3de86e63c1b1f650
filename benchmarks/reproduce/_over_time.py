"""Accuracy of TET and SDT against time, after each step and at each step alone."""

from __future__ import annotations

from common import Values, percent, table
from tet import LOSSES


def over_time(runs: dict[str, list[Values]], steps: int) -> str:
    """Return the table of both losses, of runs trained at so many steps."""
    count = len(runs["sdt"][0]["after"])
    rows = [
        [
            f"{loss.upper()} {what}",
            *(percent([run[name][t] for run in runs[loss]]) for t in range(count)),
        ]
        for name, what in (("after", "mean of 1..T"), ("single", "step T alone"))
        for loss in LOSSES
    ]
    return table([f"percent, trained at T = {steps}", *range(1, count + 1)], rows)
