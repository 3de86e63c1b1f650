"""The picture of a run's energy: what each product costs, beside an ANN of the same shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.analysis import style
from snnx.analysis.energy import ADD_PJ, MULTIPLY_PJ
from snnx.analysis.rundata import RunData, number
from snnx.analysis.style import BLUE, INK, MUTED, ORANGE, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2
MOST_ROWS = 40  # bars of a deep network that still are told apart
COUNTS = ("macs", "acs", "ann_macs")
UNITS = (("pJ", 1.0), ("nJ", 1e3), ("µJ", 1e6), ("mJ", 1e9))


def energy_rows(run: RunData) -> list[tuple[str, dict[str, float]]]:
    """Return (path and layer, counts) of every product of result.json's energy; [] without."""
    energy = run.result.get("energy")
    layers = energy.get("layers") if isinstance(energy, Mapping) else None
    rows = []
    for row in layers if isinstance(layers, list) else ():
        if not isinstance(row, Mapping):
            return []
        counts = {name: number(row.get(name)) for name in COUNTS}
        if not all(v is not None and math.isfinite(v) and v >= 0 for v in counts.values()):
            return []
        name = f"{row.get('path', '')} {row.get('layer', '')}".strip()
        rows.append((name, {k: v for k, v in counts.items() if v is not None}))
    return rows


def draw_energy(run: RunData) -> Figure | None:
    """Draw MAC and AC energy of every product and in all; None where it was not measured."""
    rows = energy_rows(run)
    if not rows:
        return None
    names = [name for name, _ in rows]
    macs, acs, ann = (np.array([row[name] for _, row in rows]) for name in COUNTS)
    parts = [MULTIPLY_PJ * macs, ADD_PJ * acs, MULTIPLY_PJ * ann]
    if len(rows) > MOST_ROWS:
        kept = MOST_ROWS // 2
        names = [*names[:kept], f"{len(rows) - 2 * kept} more", *names[-kept:]]
        parts = [np.concatenate([p[:kept], [p[kept:-kept].sum()], p[-kept:]]) for p in parts]
    height = 0.3 * max(3, len(names)) + 0.9
    figure = style.new_figure(WIDTH, height)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _bars(left, names, parts, "Energy of each product")
    whole = [np.array([p.sum(), 0.0]) for p in parts[:2]]
    ann_all = np.array([0.0, parts[2].sum()])
    _bars(right, ["this network", "an ANN"], [*whole, ann_all], "In all")
    if len(names) > 2:
        right.set_ylim(len(names) - 0.4, -0.6)
    _key(left)
    return figure


def _bars(ax: Axes, names: Sequence[str], parts: Sequence[NDArray[Any]], title: str) -> None:
    """Draw MAC and AC parts end to end, and the ANN's bar behind them."""
    mac, ac, ann = parts
    longest = max(float((mac + ac).max()), float(ann.max()))
    unit, scale = next((u for u in reversed(UNITS) if longest >= u[1]), UNITS[0])
    mac, ac, ann = mac / scale, ac / scale, ann / scale
    y = np.arange(len(names))
    ax.barh(y, ann, color=PALE, height=0.8)
    ax.barh(y, mac, color=ORANGE, height=0.44)
    ax.barh(y, ac, left=mac, color=BLUE, height=0.44)
    for i, (a, b, c) in enumerate(zip(mac, ac, ann, strict=True)):
        told = a + b if a + b > 0 or not c else c
        ax.annotate(
            f"{told:.3g}",
            (max(a + b, c), i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.0,
        )
    ax.set_title(f"{title}, {unit} / sample")
    ax.set_yticks(y, names, color=INK)
    ax.set_ylim(max(2, len(names)) - 0.4, -0.6)
    ax.set_xlim(0.0, 1.2 * max(longest / scale, 1e-9))
    ax.spines["left"].set_visible(False)


def _key(ax: Axes) -> None:
    """Write below the bars which colour is what."""
    for share, word, colour in ((0.0, "MAC", ORANGE), (0.14, "AC", BLUE), (0.24, "ANN", MUTED)):
        ax.annotate(
            word,
            (share, 0.0),
            xycoords="axes fraction",
            xytext=(0, -30),
            textcoords="offset points",
            color=colour,
            fontsize=9.0,
            fontweight="bold",
            annotation_clip=False,
        )
