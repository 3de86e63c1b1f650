"""Landscapes of both losses around the weights of both trainings, for `tet_long`."""

from __future__ import annotations

from itertools import product

import numpy as np
from common import Record, Values, clear, difference, picture, table, verdict
from tet import LOSSES
from time_inheritance import network

import snnx
from snnx.analysis import style
from snnx.analysis.landscape import landscape
from snnx.backend import Session, load_backend
from snnx.data import Dataset
from snnx.program import flatten

HEAD = ("", "at the weights", "rise within 1/2, by seed", "within 1")

Shown = dict[str, list[Values]]


def landscapes(s: Values, session: Session, few: Dataset, seed: int, backend: str) -> Values:
    """Return both losses, without the squared error, around the weights of a session."""
    program, snapshot, found = flatten(network(s["channels"])), session.export(), {}
    for loss in LOSSES:
        looked = snnx.TET(mse=0.0) if loss == "tet" else snnx.SDT()
        net = snnx.build(program, backend, seed=seed)
        other = load_backend(backend).session(
            net, looked, snnx.Optim(snnx.Adam()), steps=s["landscape_T"]
        )
        other.load(snapshot)
        _, losses = landscape(
            other,
            program,
            few,
            points=s["points"],
            span=s["span"],
            samples=s["landscape_samples"],
            batch_size=s["landscape_samples"],
            seed=seed,
        )
        found[loss] = [[round(float(v), 5) for v in row] for row in losses]
    return found


def rise(record: Record, run: Values, loss: str, radius: float = 0.5) -> float:
    """Return by how much a loss rises around the weights: its mean over a disc.

    The radius is in units of the directions' length, which is that of the filters.
    """
    s, losses = record.settings, np.array(run["landscape"][loss])
    grid = s["span"] * np.linspace(-1.0, 1.0, s["points"])
    near = grid[:, None] ** 2 + grid[None, :] ** 2 <= radius**2 + 1e-9
    middle = s["points"] // 2
    return float(losses[near].mean() - losses[middle, middle])


def flatness(record: Record, shown: Shown, looked: str, radius: float = 0.5) -> dict[str, list]:
    """Return the rise of one loss around the nets of both trainings, by seed."""
    return {of: [rise(record, run, looked, radius) for run in shown[of]] for of in LOSSES}


def verdict_rows(record: Record, shown: Shown) -> list[list[str]]:
    """Return claim, the paper's finding, ours and the verdict for each loss."""
    rows = []
    for looked in LOSSES:
        found = flatness(record, shown, looked)
        less = [a - b for a, b in zip(found["sdt"], found["tet"], strict=True)]
        rows.append(
            [
                f"Landscape of {looked.upper()}'s loss: flatter around TET's weights than SDT's",
                "flatter (Fig. 2)",
                f"rises less by {difference(less, digits=3)}",
                verdict(clear(less)),
            ]
        )
    return rows


def rises(record: Record, shown: Shown) -> str:
    """Return the table of what each loss is at the weights and how it rises around them."""
    middle = record.settings["points"] // 2
    rows = [
        [
            f"{looked.upper()}'s loss around the weights of {of.upper()}",
            f"{np.mean([r['landscape'][looked][middle][middle] for r in shown[of]]):.3f}",
            *(
                ", ".join(f"{v:.3f}" for v in flatness(record, shown, looked, r)[of])
                for r in (0.5, 1.0)
            ),
        ]
        for looked, of in product(LOSSES, LOSSES)
    ]
    return table(HEAD, rows)


def contours(record: Record, shown: Shown) -> None:
    """Draw both losses around the weights of both trainings, of the first seed."""
    s = record.settings
    grid = s["span"] * np.linspace(-1.0, 1.0, s["points"])
    with picture(record.claim, 8.4, 2.8) as figure:
        axes = figure.subplots(1, 4, sharey=True)
        for ax, (looked, of) in zip(axes, product(LOSSES, LOSSES), strict=True):
            both = [np.array(shown[name][0]["landscape"][looked]) for name in LOSSES]
            low, high = min(b.min() for b in both), max(b.max() for b in both)
            levels = low + (high - low) * np.linspace(0.0, 1.0, 13) ** 2
            losses = both[LOSSES.index(of)]
            lines = ax.contour(grid, grid, losses.T, levels[1:], colors=style.BLUE)
            lines.set_linewidth(0.8)
            ax.clabel(lines, lines.levels[3:8:2], fmt="%.2g", fontsize=6.5)
            ax.plot([0.0], [0.0], marker="+", color=style.ORANGE, markersize=8.0)
            ax.set_aspect("equal")
            ax.set_title(f"{looked.upper()}'s loss,\ntrained by {of.upper()}")
