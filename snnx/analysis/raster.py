"""Spike rasters and output logits of a few samples, from plots/data.npz."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.analysis import style
from snnx.analysis.rundata import RunData
from snnx.analysis.style import BLUE, GREEN, INK, MUTED, ORANGE, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEURONS = 32  # of each layer in a raster
SAMPLES = 3
LAYERS = 8  # panels in a raster: first, last and evenly between


def chosen_neurons(total: int, count: int = NEURONS) -> NDArray[np.int64]:
    """Return up to `count` of `total` neurons, evenly spread and in order.

    The stride shares no divisor with `total`, so that in the order H, W, C it does not fall on the
    same channel again and again.
    """
    if total <= count:
        return np.arange(total)
    stride = max(1, total // count)
    while math.gcd(stride, total) != 1:
        stride -= 1
    return np.arange(count) * stride


def chosen_samples(y: NDArray[Any], count: int = SAMPLES) -> NDArray[np.int64]:
    """Return the first sample of each of up to `count` classes, spread evenly over the classes."""
    _, first = np.unique(y, return_index=True)
    picks = np.linspace(0, len(first) - 1, min(count, len(first))).round().astype(np.int64)
    return first[picks].astype(np.int64)


def draw_raster(run: RunData) -> Figure | None:
    """Draw spikes as time x neuron, a column per sample and a row per layer."""
    a = run.arrays
    names = [str(n) for n in a.get("layers", np.zeros(0))]
    shown = [i for i in range(len(names)) if f"raster.{i}" in a]
    if not shown or not {"sample_y", "sample_index"} <= a.keys():
        return None
    picks = np.linspace(0, len(shown) - 1, min(LAYERS, len(shown))).round().astype(int)
    shown = [shown[i] for i in picks]
    columns = a[f"raster.{shown[0]}"].shape[1]
    steps = a[f"raster.{shown[0]}"].shape[0]
    image = _image(a)
    top = [] if image is None else [0.75]
    figure = style.new_figure(7.2, 0.6 + sum(top) + 1.25 * len(shown))
    rows = figure.subplots(
        len(top) + len(shown),
        columns,
        squeeze=False,
        height_ratios=[*top, *[1.25] * len(shown)],
    )
    for column in range(columns):
        title = _sample_title(a, column)
        rows[0][column].set_title(title, loc="left")
        if image is not None:
            _thumbnail(rows[0][column], image[column])
        length = _length(a, column, steps)
        for row, i in zip(rows[len(top) :], shown, strict=True):
            _spikes(row[column], a[f"raster.{i}"][:, column], length)
            row[column].tick_params(bottom=False, labelbottom=False)
        rows[-1][column].tick_params(bottom=True, labelbottom=True)
        rows[-1][column].set_xlabel("time step")
    for row, i in zip(rows[len(top) :], shown, strict=True):
        total = int(a["neurons"][i]) if "neurons" in a else 0
        count = a[f"raster.{i}"].shape[2]
        shares = f"{count} of {total}" if total > count else f"{count}"
        row[0].set_ylabel(f"{names[i]}\n{shares} neurons", color=INK, fontsize=8.0)
    return figure


def draw_logits(run: RunData) -> Figure | None:
    """Draw the output of every class over time for the samples of the raster."""
    a = run.arrays
    logits = a.get("logits")
    if logits is None or not {"sample_y", "sample_index"} <= a.keys():
        return None
    columns = logits.shape[1]
    figure = style.new_figure(7.2, 2.5)
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    for column, ax in enumerate(axes):
        length = _length(a, column, len(logits))
        y = logits[:length, column]
        _classes(ax, y, int(a["sample_y"][column]))
        ax.set_title(_sample_title(a, column))
        ax.set_xlabel("time step")
    finite = logits[np.isfinite(logits)]
    if finite.size:
        pad = 0.06 * (float(np.ptp(finite)) or 1.0)
        axes[0].set_ylim(float(finite.min()) - pad, float(finite.max()) + pad)
    for column, ax in enumerate(axes):
        _name_classes(ax, logits[:, column], a, column)
    return figure


def _length(a: Any, column: int, steps: int) -> int:
    """Return how many of the steps of a sample are valid."""
    return min(max(int(a["sample_length"][column]), 1), steps) if "sample_length" in a else steps


def _sample_title(a: Any, column: int) -> str:
    return f"test sample {int(a['sample_index'][column])}, class {int(a['sample_y'][column])}"


def _classes(ax: Axes, y: NDArray[Any], true: int) -> None:
    steps = np.arange(1, len(y) + 1)
    marker = "o" if len(y) <= 12 else ""
    best = int(np.nanmean(y, 0).argmax()) if np.isfinite(y).any() else true
    for k in range(y.shape[1]):
        if k not in (true, best):
            ax.plot(steps, y[:, k], color=PALE, linewidth=1.0, marker=marker, markersize=2.5)
    if best != true:
        ax.plot(steps, y[:, best], color=ORANGE, marker=marker)
    if true < y.shape[1]:
        ax.plot(steps, y[:, true], color=GREEN, marker=marker)
    style.horizontal_grid(ax)
    style.whole_ticks(ax.xaxis)
    style.span(ax, [steps])


def _name_classes(ax: Axes, y: NDArray[Any], a: Any, column: int) -> None:
    length = _length(a, column, len(y))
    true = int(a["sample_y"][column])
    last = y[length - 1]
    if not np.isfinite(y[:length]).all() or true >= y.shape[1]:
        style.label_ends(ax, [(0.0, "not finite", MUTED)])
        return
    best = int(y[:length].mean(0).argmax())
    ends = [(float(last[true]), f"{true}", GREEN)]
    if best != true:
        ends.append((float(last[best]), f"{best}", ORANGE))
    style.label_ends(ax, ends, gap=0.1)


def _spikes(ax: Axes, spikes: NDArray[Any], length: int) -> None:
    """Draw a mark for every spike of [T, K], and shade what lies behind the sample's end."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    steps, neurons = spikes.shape
    t, k = np.nonzero(spikes)
    w, h = min(0.36, 0.03 * steps), 0.38  # few steps give marks, not bars
    corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h), (-w, -h)])
    centres = np.stack([t + 1.0, k.astype(np.float64)], 1)
    points = (centres[:, None] + corners).reshape(-1, 2)
    if len(points):
        codes = np.tile(
            np.array([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], Path.code_type), len(t)
        )
        ax.add_patch(PathPatch(Path(points, codes), facecolor=BLUE, edgecolor=BLUE, linewidth=0.3))
    if length < steps:
        ax.axvspan(length + 0.5, steps + 0.5, color=style.GRID, linewidth=0)
    ax.set_xlim(0.5, steps + 0.5)
    ax.set_ylim(neurons - 0.4, -0.6)
    ax.set_yticks([])
    style.whole_ticks(ax.xaxis)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(style.GRID)


def _image(a: Any) -> NDArray[Any] | None:
    """Return the samples as images [S, H, W, 1 or 3] in [0, 1], or None where they are none."""
    x = a.get("sample_x")
    if x is None or x.ndim != 4 or x.shape[-1] not in (1, 3):
        return None
    low, high = float(x.min()), float(x.max())
    return (x - low) / (high - low or 1.0)


def _thumbnail(ax: Axes, image: NDArray[Any]) -> None:
    """Show one image as dark on light, its pixels sharp."""
    if image.shape[-1] == 1:
        from matplotlib.colors import LinearSegmentedColormap

        inks = LinearSegmentedColormap.from_list("ink", [style.PAPER, INK])
        ax.imshow(image[..., 0], cmap=inks, vmin=0.0, vmax=1.0, interpolation="nearest")
    else:
        ax.imshow(image, interpolation="nearest")
    ax.set_anchor("W")
    ax.set_axis_off()
