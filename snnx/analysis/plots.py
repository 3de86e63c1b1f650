"""Pictures of a run, drawn from the files of its directory alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.analysis import style
from snnx.analysis.atomic import write_bytes
from snnx.analysis.energy_plot import draw_energy
from snnx.analysis.landscape import draw_landscape
from snnx.analysis.method_plot import draw_method, is_rate
from snnx.analysis.raster import draw_logits, draw_raster
from snnx.analysis.rundata import RunData, read_run
from snnx.analysis.stage_marks import mark_stages
from snnx.analysis.style import BLUE, INK, MUTED, ORANGE, PAPER, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches; every picture is as wide as a text column
DIALS = ("lr", "learning_rate", "momentum", "weight_decay")

Draw = Callable[[RunData], "Figure | None"]


def draw_curves(run: RunData) -> Figure | None:
    """Draw loss and accuracy over epochs; None where no row has either."""
    loss = [("train", ORANGE, *run.series("train_loss", "loss"))]
    loss += [("test", BLUE, *run.series("test_loss"))]
    accuracy = [("train", ORANGE, *run.series("train_accuracy"))]
    accuracy += [("test", BLUE, *run.series("test_accuracy"))]
    panels = [
        ("Loss", "{:.3g}", 1.0, [s for s in loss if len(s[2])]),
        ("Accuracy, %", "{:.1f}", 100.0, [s for s in accuracy if len(s[2])]),
    ]
    panels = [p for p in panels if p[3]]
    if not panels:
        return None
    figure = style.new_figure(WIDTH, 2.7)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, form, scale, lines) in zip(axes, panels, strict=True):
        _lines(ax, [(n, c, x, y * scale) for n, c, x, y in lines], form)
        ax.set(title=title, xlabel="epoch")
        mark_stages(ax, run)
    return figure


def draw_dials(run: RunData) -> Figure | None:
    """Draw the learning rates from epoch to epoch; None where nothing was recorded."""
    told = [n for n in (*run.names("dials."), *run.names("dial.")) if is_rate(n.split(".", 1)[1])]
    names = dict.fromkeys([*told, *DIALS])
    series = {n: run.series(n) for n in names}
    series = {n: s for n, s in series.items() if len(s[0])}
    if not series:
        return None
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure = style.new_figure(WIDTH if columns > 1 else WIDTH / 2, 2.2 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, (x, y)) in zip(axes, series.items(), strict=False):
        _lines(ax, [("", BLUE, x, y)], "{:.3g}")
        name = name.split(".", 1)[1] if name.startswith("dial") else name
        ax.set_title(
            name.replace("lr", "Learning rate", 1).replace(".", " of ") if is_rate(name) else name
        )
        ax.set_xlabel("epoch")
    for ax in axes[len(series) :]:
        ax.set_axis_off()
    return figure


def draw_rates(run: RunData) -> Figure | None:
    """Draw rate, dead and saturated share of every layer, and rates over time and epochs."""
    a = run.arrays
    if not all(k in a for k in ("rate", "dead", "saturated", "rate_over_time", "layers")):
        return None
    names = [str(n) for n in a["layers"]]
    if not names:
        return None
    epochs = [run.series(f"rates.{n.split(' ')[0]}", f"rate.{n.split(' ')[0]}") for n in names]
    recorded = any(len(x) for x, _ in epochs)
    timed = a["rate_over_time"].shape[1] > 1
    below = [("time", timed), ("epochs", recorded)]
    below = [name for name, there in below if there]
    height = 0.27 * max(2, len(names)) + 0.65
    figure = style.new_figure(WIDTH, height + (2.5 if below else 0.0))
    grid = figure.add_gridspec(
        2 if below else 1, 2, height_ratios=(height, 2.5) if below else (height,)
    )
    _rate_bars(figure.add_subplot(grid[0, 0]), names, a["rate"])
    _share_bars(figure.add_subplot(grid[0, 1]), a["dead"], a["saturated"])
    for place, name in enumerate(below):
        ax = figure.add_subplot(grid[1, place] if len(below) == 2 else grid[1, :])
        if name == "time":
            steps = np.arange(1.0, a["rate_over_time"].shape[1] + 1)
            _layers(ax, names, [(steps, r) for r in a["rate_over_time"]])
            ax.set_title("Rate at each time step, %")
            ax.set_xlabel("time step")
        else:
            _layers(ax, names, epochs)
            ax.set_title("Rate over training, %")
            ax.set_xlabel("epoch")
    return figure


def draw_time(run: RunData) -> Figure | None:
    """Draw accuracy against T, read after T steps and at each alone; None for one step."""
    accuracy = run.arrays.get("accuracy_over_time")
    if accuracy is None or accuracy.size < 2:
        return None
    figure = style.new_figure(WIDTH / 2, 2.5)
    ax = figure.subplots()
    steps = np.arange(1.0, accuracy.size + 1)
    single = run.arrays.get("accuracy_of_step")
    if single is not None and single.size != accuracy.size:
        single = None
    lines = [("read after T" if single is not None else "", BLUE, steps, 100.0 * accuracy)]
    if single is not None:
        lines.append(("step T alone", ORANGE, steps, 100.0 * single))
    _lines(ax, lines, "{:.1f}")
    ax.set(title="Accuracy when read out early, %", xlabel="time steps T")
    return figure


DRAWINGS: dict[str, Draw] = {
    "curves": draw_curves,
    "method": draw_method,
    "energy": draw_energy,
    "rates": draw_rates,
    "raster": draw_raster,
    "logits": draw_logits,
    "time": draw_time,
    "dials": draw_dials,
    "landscape": draw_landscape,
}


def draw(run: RunData, which: str = "all") -> dict[str, Figure]:
    """Return the picture of that name, or with "all" every one that the run's files allow.

    Raises: ValueError for a name that is not in `DRAWINGS`, or where the files lack its data.
    """
    if which != "all" and which not in DRAWINGS:
        raise ValueError(f"there is no picture {which!r}; there are {', '.join(DRAWINGS)} and all")
    with style.styled():
        chosen = DRAWINGS if which == "all" else {which: DRAWINGS[which]}
        figures = {name: function(run) for name, function in chosen.items()}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    if not drawn and which != "all":
        why = (
            "its method, if it had one, set, learned and measured no number of its own"
            if which == "method" and run.result
            else "metrics.jsonl grows with every epoch, and plots/data.npz is written when the run "
            "ends"
        )
        raise ValueError(f"{run.folder}: holds no data for the picture {which!r}; {why}")
    return drawn


def main(run_dir: Path, which: str = "all", format: str = "svg") -> list[Path]:
    """Draw the pictures of a run into its folder plots/ and return their paths."""
    if format not in style.FORMATS:
        raise ValueError(f"pictures are written as {', '.join(style.FORMATS)}, not {format!r}")
    figures = draw(read_run(Path(run_dir)), which)
    folder = Path(run_dir) / "plots"
    folder.mkdir(exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.{format}"
        write_bytes(path, style.save(figure, format))
        paths.append(path)
    return paths


def _lines(
    ax: Axes,
    lines: Sequence[tuple[str, str, NDArray[Any], NDArray[Any]]],
    form: str,
) -> None:
    """Draw lines (name, colour, x, y), each labelled at its end with its last finite value."""
    ends = []
    for name, colour, x, y in lines:
        finite = np.flatnonzero(np.isfinite(y))
        marker = "o" if len(x) <= 12 or len(finite) < 2 else ""
        ax.plot(x, y, color=colour, marker=marker, markeredgecolor=PAPER, markeredgewidth=0.6)
        value = form.format(y[finite[-1]]) if len(finite) else "not finite"
        place = float(y[finite[-1]]) if len(finite) else 0.5
        ends.append((place, f"{name} {value}".strip(), colour))
    style.horizontal_grid(ax)
    style.whole_ticks(ax.xaxis)
    style.span(ax, [x for _, _, x, _ in lines])
    style.label_ends(ax, ends)


def _layers(ax: Axes, names: Sequence[str], lines: Sequence[tuple[Any, Any]]) -> None:
    """Draw one line of rates per layer; many layers are one blue that darkens with depth."""
    few = len(names) <= len(SERIES)
    ends = []
    for i, (name, (x, y)) in enumerate(zip(names, lines, strict=True)):
        if not len(x):
            continue
        y = 100.0 * np.asarray(y, np.float64)
        colour = SERIES[i] if few else BLUE
        alpha = 1.0 if few else 0.2 + 0.8 * i / (len(names) - 1)
        marker = "o" if len(x) <= 12 else ""
        ax.plot(
            x, y, color=colour, alpha=alpha, marker=marker, markeredgecolor=PAPER, linewidth=1.5
        )
        finite = y[np.isfinite(y)]
        if len(finite) and (few or i in (0, len(names) - 1)):
            ends.append((float(finite[-1]), name, colour if few or i else MUTED))
    ax.set_ylim(0.0, 1.04 * ax.get_ylim()[1])  # so that no marker is cut
    style.horizontal_grid(ax)
    style.whole_ticks(ax.xaxis)
    style.span(ax, [x for x, _ in lines])
    style.label_ends(ax, ends, gap=0.1)


def _rate_bars(ax: Axes, names: Sequence[str], rate: NDArray[Any]) -> None:
    """Draw one bar per layer, first layer on top, with its value beside it."""
    y = np.arange(len(names))
    ax.barh(y, 100.0 * rate, color=BLUE, height=0.62)
    for i, r in enumerate(rate):
        ax.annotate(
            f"{100.0 * r:.1f}",
            (100.0 * r, i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.0,
        )
    ax.set_title("Mean firing rate, % of steps")
    ax.set_yticks(y, names, color=INK)
    ax.set_ylim(max(2, len(names)) - 0.4, -0.6)
    ax.set_xlim(0.0, max(1.0, 118.0 * float(np.max(rate))))
    ax.spines["left"].set_visible(False)


def _share_bars(ax: Axes, dead: NDArray[Any], saturated: NDArray[Any]) -> None:
    """Draw the shares of dead, active and saturated neurons of every layer as one bar."""
    y = np.arange(len(dead))
    active = 1.0 - dead - saturated
    ax.barh(y, 100.0 * dead, color=MUTED, height=0.62)
    ax.barh(y, 100.0 * active, left=100.0 * dead, color=style.PALE, height=0.62)
    ax.barh(y, 100.0 * saturated, left=100.0 * (dead + active), color=ORANGE, height=0.62)
    for i, (d, s) in enumerate(zip(dead, saturated, strict=True)):
        for share, colour, shift in ((d, MUTED, 18), (s, ORANGE, 38)):
            ax.annotate(
                f"{100.0 * share:.0f}",
                (100.0, i),
                xytext=(shift, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=colour,
                fontsize=8.0,
                annotation_clip=False,
            )
    ax.set_title("Neurons, %:")
    ax.annotate(
        "dead",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(68, 8),
        textcoords="offset points",
        color=MUTED,
        fontsize=9.5,
        fontweight="bold",
    )
    ax.annotate(
        "saturated",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(104, 8),
        textcoords="offset points",
        color=ORANGE,
        fontsize=9.5,
        fontweight="bold",
    )
    ax.set_yticks([])
    ax.set_ylim(max(2, len(dead)) - 0.4, -0.6)
    ax.set_xlim(0.0, 100.0)
    ax.spines["left"].set_visible(False)
