"""The picture of what a method did: its dials, the numbers that it learned, what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx.analysis import style
from snnx.analysis.rundata import RunData
from snnx.analysis.stage_marks import mark_stages
from snnx.analysis.style import BLUE, MUTED, PAPER, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2
TITLES = {
    "temperature": "Temperature b of the surrogate",
    "analog": "Noise: analog share, 1 - p",
    "cosine": "Cosine, finite difference gradient",
    "similarity": "Similarity, noisy to spiking net",
    "worst_step": "Accuracy of the worst step alone",
    "all_steps": "Accuracy of all steps together",
    "width": "Width of the surrogate",
    "threshold": "Threshold",
    "decay": "Decay per time step",
    "synapse_decay": "Decay of the synapse",
}
FIGURES = (
    "cosine",
    "similarity",
    "worst_step",
    "all_steps",
)  # what a method measures, one number an epoch
LEARNED = ("width", "threshold", "decay", "synapse_decay")  # each followed by a layer's path

Line = tuple[str, Any, Any]


def method_lines(run: RunData) -> dict[str, list[Line]]:
    """Return the lines (layer, epochs, values) of every panel, by its title's key.

    Dials but the learning rates, then what is learned layer by layer, then what was measured.
    """
    found: dict[str, list[Line]] = {}
    layers = run.arrays.get("layers")
    named = {} if layers is None else {str(n).partition(" ")[0]: str(n) for n in layers}
    for name in dict.fromkeys([*run.names("dials."), *run.names("dial.")]):
        key = name.split(".", 1)[1]
        if not is_rate(key):
            found.setdefault(key, []).append(("", *run.series(name)))
    for name in ("temperature", *LEARNED):  # a dial at the top of a row, a number of one layer
        if name not in found and len(run.series(name)[0]):
            found[name] = [("", *run.series(name))]
    for key in LEARNED:
        paths = sorted((n.removeprefix(f"{key}.") for n in run.names(f"{key}.")), key=_place)
        if paths:
            found[key] = [(named.get(p, p), *run.series(f"{key}.{p}")) for p in paths]
    for key in FIGURES:
        epochs, values = run.series(key)
        if len(epochs):
            found[key] = [("", epochs, values)]
    return found


def is_rate(dial: str) -> bool:
    """Tell whether a dial is a learning rate: "lr", or "lr.GROUP"."""
    return dial == "lr" or dial.startswith("lr.")


def _place(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in path.split(".")]


def draw_method(run: RunData) -> Figure | None:
    """Draw every number that a method set, learned or measured; None where there is none."""
    panels = method_lines(run)
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = style.new_figure(WIDTH if columns > 1 else WIDTH / 2, 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (key, lines) in zip(axes, panels.items(), strict=False):
        _panel(ax, lines)
        ax.set_title(TITLES.get(key, key))
        ax.set_xlabel("epoch")
        mark_stages(ax, run)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure


def _panel(ax: Axes, lines: Sequence[Line]) -> None:
    """Draw one line per layer; many layers are one blue that darkens with depth."""
    few, ends = len(lines) <= len(SERIES), []
    for i, (name, x, y) in enumerate(lines):
        colour = SERIES[i] if few else BLUE
        alpha = 1.0 if few else 0.2 + 0.8 * i / (len(lines) - 1)
        marker = "o" if len(x) <= 12 else ""
        ax.plot(x, y, color=colour, alpha=alpha, marker=marker, markeredgecolor=PAPER)
        finite = y[np.isfinite(y)]
        if len(finite) and (few or i in (0, len(lines) - 1)):
            text = f"{name}: {finite[-1]:.3g}" if name else f"{finite[-1]:.3g}"
            ends.append((float(finite[-1]), text, colour if few or i else MUTED))
    style.room_for_constants(ax)
    style.horizontal_grid(ax)
    style.whole_ticks(ax.xaxis)
    style.span(ax, [x for _, x, _ in lines])
    style.label_ends(ax, ends, gap=0.1)
