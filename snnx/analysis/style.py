"""One look for all pictures: colours, type and sizes, set around a figure and nowhere else.

The colours follow Okabe and Ito (2008), darkened until text in them is readable on white, and can
be told apart by colour-blind readers. `DARK` is what a page shows for each of them at night.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1c2430", "#5c6776", "#e4e8ed", "#fefefe"
BLUE, ORANGE, GREEN = "#0a6cad", "#c4500b", "#00795a"
PURPLE, AMBER, SKY, PALE = "#9a4a80", "#9c6a00", "#2f86ba", "#c3d6e6"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
DARK = {
    INK: "#e6eaf0",
    MUTED: "#a3aebc",
    GRID: "#313b48",
    PAPER: "#171d25",
    BLUE: "#62b4f2",
    ORANGE: "#ff9d61",
    GREEN: "#45cba1",
    PURPLE: "#e59fca",
    AMBER: "#efbc4b",
    SKY: "#93cdf6",
    PALE: "#3a536b",
}
FORMATS = ("svg", "png", "pdf")

End: TypeAlias = tuple[float, str, str]

_RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # names come from files: a $ is a dollar sign
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.dpi": 200,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 8.0,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "xtick.major.width": 0.7,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and edited
    "svg.hashsalt": "snnx",  # the same data give the same file
    "pdf.fonttype": 42,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in snnx's look; every setting is as before afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own settings do not leak in
        settings: Any = matplotlib.rcParams
        settings.update(_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure in inches, known to no global list of figures."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, format: str) -> bytes:
    """Return the figure as a file of that format, equal bytes for equal figures.

    Raises: ValueError if the format is none of `FORMATS`.
    """
    if format not in FORMATS:
        raise ValueError(f"pictures are written as {', '.join(FORMATS)}, not {format!r}")
    file = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    with styled():
        figure.savefig(file, format=format, metadata=undated[format])
    return file.getvalue()


def whole_ticks(axis: Any) -> None:
    """Put ticks on whole numbers only (epochs, steps)."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def span(ax: Axes, xs: Sequence[Any]) -> None:
    """Let the x axis hold all of these arrays with half a step, or a little, beside them."""
    ends = [float(x[i]) for x in xs if len(x) for i in (0, -1)]
    if ends:
        low, high = min(ends), max(ends)
        pad = min(0.5, 0.04 * (high - low)) or 0.5
        ax.set_xlim(low - pad, high + pad)


def room_for_constants(ax: Axes) -> None:
    """Widen the y axis where every line is constant: that is no drama."""
    low, high = ax.get_ylim()
    lines = [np.asarray(line.get_ydata(), np.float64) for line in ax.get_lines()]
    flat = all(np.ptp(y[np.isfinite(y)]) == 0 for y in lines if np.isfinite(y).any())
    if flat or high - low < 1e-6 * max(abs(low), abs(high)):
        middle = 0.5 * (low + high)
        room = 0.5 * abs(middle) or 0.5
        ax.set_ylim(middle - room, middle + room)


def horizontal_grid(ax: Axes) -> None:
    """Draw faint lines at the y ticks, and no axis line beside them."""
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.grid(True, axis="y")
    ax.spines["left"].set_visible(False)


def label_ends(ax: Axes, ends: Sequence[End], gap: float = 0.085) -> None:
    """Write each (y, text, colour) beside the right end of its line, moved apart where they meet.

    Call it when the limits of the axes are final; `gap` is a share of the axes' height.
    """
    low, high = ax.get_ylim()
    placed = sorted(((y - low) / (high - low or 1.0), text, colour) for y, text, colour in ends)
    heights = _spread([y for y, _, _ in placed], gap)
    for height, (_, text, colour) in zip(heights, placed, strict=True):
        ax.annotate(
            text,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            color=colour,
            fontsize=8.5,
            va="center",
            annotation_clip=False,
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return sorted heights moved as little as needed to lie `gap` apart, inside 0 .. 1."""
    groups: list[list[float]] = []  # [centre, count] of labels that touch
    for y in heights:
        groups.append([y, 1.0])
        while len(groups) > 1:
            (a, n), (b, m) = groups[-2:]
            if b - a >= gap * (n + m) / 2:
                break
            groups[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    spread: list[float] = []
    for centre, count in groups:
        half = gap * (count - 1) / 2
        middle = min(max(centre, half), max(half, 1.0 - half))
        spread += [middle - half + gap * i for i in range(int(count))]
    return spread
