"""Pictures of several runs at once: a colour and a letter per group, thin lines for its seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snnx.analysis import style
from snnx.analysis.comparison import Group
from snnx.analysis.method_plot import TITLES, is_rate
from snnx.analysis.plots import WIDTH
from snnx.analysis.rundata import RunData, flat, number
from snnx.analysis.style import INK, PAPER, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Curve = Callable[[RunData], tuple[Floats, Floats]]

DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)))
# the columns of a row that are no number of a method
COMMON = ("epoch", "step", "T", "loss", "train_loss", "train_accuracy", "test_loss")
MEAN = ", mean"  # of a number that every layer has
COMMON += ("test_accuracy", "gradient_norm", "spikes_per_neuron_step", "seconds")


def look_of(place: int) -> tuple[str, int]:
    """Return the colour of a group and which of `DASHES` draws it."""
    return SERIES[place % len(SERIES)], place // len(SERIES) % len(DASHES)


def draw_comparison(groups: Sequence[Group]) -> dict[str, Figure]:
    """Return the pictures that the runs' files allow, by name."""
    with style.styled():
        figures = {
            "curves": _curves(groups),
            "rates": _rates(groups),
            "time": _time(groups),
            "dials": _dials(groups),
        }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _curves(groups: Sequence[Group]) -> Figure | None:
    panels = [
        ("Training loss", lambda run: run.series("train_loss", "loss"), "{:.3g}", 1.0),
        ("Test accuracy, %", lambda run: run.series("test_accuracy"), "{:.1f}", 100.0),
    ]
    figure = style.new_figure(WIDTH, 3.0)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, curve, form, scale) in zip(axes, panels, strict=True):
        _overlay(ax, groups, curve, form, scale)
        ax.set_title(title)
        ax.set_xlabel("epoch")
    return figure


def _time(groups: Sequence[Group]) -> Figure | None:
    def curve(run: RunData) -> tuple[Floats, Floats]:
        accuracy = run.arrays.get("accuracy_over_time")
        if accuracy is None or accuracy.size < 2:
            return np.zeros(0), np.zeros(0)
        return np.arange(1.0, accuracy.size + 1), np.asarray(accuracy, np.float64)

    if not any(len(curve(run)[0]) for group in groups for run in group.runs):
        return None
    figure = style.new_figure(WIDTH / 2, 2.8)
    ax = figure.subplots()
    _overlay(ax, groups, curve, "{:.1f}", 100.0)
    ax.set_title("Accuracy when read out early, %")
    ax.set_xlabel("time steps T")
    return figure


def _dials(groups: Sequence[Group]) -> Figure | None:
    curves = dial_curves([run for group in groups for run in group.runs])
    if not curves:
        return None
    columns = min(2, len(curves))  # of three the titles would not fit
    rows = -(-len(curves) // columns)
    figure = style.new_figure(WIDTH if columns > 1 else WIDTH / 2, 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    # what a method did before the learning rates, which are the same in many runs
    for ax, (name, curve) in zip(axes, sorted(curves.items(), key=_is_rate), strict=False):
        _overlay(ax, groups, curve, "{:.3g}", 1.0)
        ax.set_title(_title(name))
        ax.set_xlabel("epoch")
    for ax in axes[len(curves) :]:
        ax.set_axis_off()
    return figure


def _is_rate(item: tuple[str, Curve]) -> bool:
    return is_rate(item[0])


def _title(name: str) -> str:
    """Return the title of a number's panel, as the page of a single run has it."""
    if is_rate(name):
        group = name.partition(".")[2]
        return f"Learning rate of {group}" if group else "Learning rate"
    own = name.removesuffix(MEAN)
    return TITLES.get(own, own) + ("" if own == name else MEAN)


def dial_curves(runs: Sequence[RunData]) -> dict[str, Curve]:
    """Return what the runs set or learned beside weights, by name.

    Numbers of single layers, such as width.3 and width.7, are one curve: their mean.
    """
    columns: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in (pair for row in run.rows for pair in flat(row).items()):
            head, _, rest = key.partition(".")
            if key in COMMON or head in ("rates", "rate") or number(value) is None:
                continue
            name = rest if head in ("dials", "dial") else f"{head}{MEAN}" if rest else head
            columns.setdefault(name, {})[key] = None
    return {name: _mean_of(tuple(keys)) for name, keys in columns.items()}


def _mean_of(keys: Sequence[str]) -> Curve:
    def curve(run: RunData) -> tuple[Floats, Floats]:
        found = [run.series(key) for key in keys]
        return _mean([series for series in found if len(series[0])])

    return curve


def _mean(series: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return the mean of curves at the places that all of them have."""
    if not series:
        return np.zeros(0), np.zeros(0)
    places = sorted(set.intersection(*(set(x.tolist()) for x, _ in series)))
    values = [dict(zip(x.tolist(), y.tolist(), strict=True)) for x, y in series]
    return np.array(places), np.array([np.mean([v[p] for v in values]) for p in places], np.float64)


def _overlay(ax: Axes, groups: Sequence[Group], curve: Curve, form: str, scale: float) -> None:
    """Draw every group's mean, thin lines for its runs, and the letter with the last value."""
    ends: list[style.End] = []
    drawn = []
    for place, group in enumerate(groups):
        colour, dash = look_of(place)
        series = [(x, y * scale) for x, y in map(curve, group.runs) if len(x)]
        x, y = _mean(series)
        if not len(x):
            continue
        drawn += [s[0] for s in series]
        if len(series) > 1:
            for one in series:
                ax.plot(*one, color=colour, linewidth=0.7, alpha=0.45)
        finite = np.flatnonzero(np.isfinite(y))
        marker = "o" if len(x) <= 12 or len(finite) < 2 else ""
        line = {"marker": marker, "markeredgecolor": PAPER, "markeredgewidth": 0.6}
        ax.plot(x, y, color=colour, linestyle=DASHES[dash], **line)
        last = form.format(y[finite[-1]]) if len(finite) else "not finite"
        ends.append((float(y[finite[-1]]) if len(finite) else 0.5, f"{group.key} {last}", colour))
    style.room_for_constants(ax)
    style.horizontal_grid(ax)
    style.whole_ticks(ax.xaxis)
    style.span(ax, drawn)
    style.label_ends(ax, ends, gap=0.095)


def _rates(groups: Sequence[Group]) -> Figure | None:
    """Draw, layer by layer, one bar per group; a mark per run where there are several."""
    tables = [[_rates_of(run) for run in group.runs] for group in groups]
    layers = list(dict.fromkeys(name for runs in tables for run in runs for name in run))
    if not layers:
        return None
    thick = 0.15  # inches
    height = len(layers) * (len(groups) * thick + 0.14) + 0.6
    figure = style.new_figure(WIDTH, height)
    ax = figure.subplots()
    step = 1.0 / (len(groups) + 0.9)
    top = 0.0
    for place, (group, runs) in enumerate(zip(groups, tables, strict=True)):
        colour, _ = look_of(place)
        for row, layer in enumerate(layers):
            values = [100.0 * run[layer] for run in runs if layer in run]
            if not values:
                continue
            y = row + (place - (len(groups) - 1) / 2) * step
            mean = float(np.mean(values))
            top = max(top, *values)
            ax.barh(y, mean, color=colour, height=0.82 * step)
            if len(values) > 1:
                ax.plot(values, [y] * len(values), "|", color=INK, markersize=5, alpha=0.7)
            ax.annotate(
                f"{group.key} {mean:.1f}",
                (max(values), y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                fontsize=8.0,
            )
    ax.set_title("Mean firing rate, % of steps")
    ax.set_yticks(range(len(layers)), layers, color=INK)
    ax.set_ylim(len(layers) - 0.5, -0.5)
    ax.set_xlim(0.0, max(1.0, 1.12 * top))
    ax.spines["left"].set_visible(False)
    return figure


def _rates_of(run: RunData) -> dict[str, float]:
    """Return the rates of the last epoch by layer, "path kind" where the kind is known."""
    names = {str(n).split(" ")[0]: str(n) for n in run.arrays.get("layers", ())}
    rates = run.result.get("rates")
    found = rates.items() if isinstance(rates, dict) else ()
    pairs = [(names.get(str(path), str(path)), number(rate)) for path, rate in found]
    return {name: rate for name, rate in pairs if rate is not None and 0 <= rate <= 1}
