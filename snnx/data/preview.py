"""A picture of a few samples of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from snnx.data.arrays import Array
from snnx.data.draws import Draws
from snnx.data.lazy import Source
from snnx.data.registry import source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FRAMES = 12
OFF_COLOUR, ON_COLOUR = (0.77, 0.31, 0.04), (0.04, 0.42, 0.68)


def preview(
    name: str, n: int = 8, path: str | Path | None = None, root: str | Path | None = None
) -> Path:
    """Draw n training samples, evenly spread, into `path`, or into NAME-preview.png, and return it.

    Images and event frames are drawn as they are (brighter blue, darker orange), other sequences as
    values over time.

    Raises: DataError for missing data, ValueError for n below 1.
    """
    from matplotlib.figure import Figure

    if n < 1:
        raise ValueError(f"preview: n must be at least 1, got {n}")
    data = source(name, root)
    n = min(n, data.size("train"))
    picks = np.linspace(0, data.size("train") - 1, n).round().astype(np.int64)
    x, y, lengths = data.take("train", Draws(0, 0, picks, "train"))
    out = Path(path) if path is not None else Path(f"{Path(data.name).name}-preview.png")
    frames = x if data.layout == "TNF" else x[None]  # [T, N, *F]
    pictures = len(data.features) == 3
    steps = np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int))
    if pictures and len(frames) > 1:
        rows, columns = n, len(steps)
    else:
        rows, columns = -(-n // 4), min(n, 4)
    figure = Figure(figsize=(1.4 * columns + 0.6, 1.5 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i in range(n):
        title = f"{int(y[i])}"
        if pictures and len(frames) > 1:
            for column, t in enumerate(steps):
                axes[i, column].imshow(_colours(frames[t, i], data))
                axes[i, column].set_title(f"{title}, t = {t}", fontsize=7)
        elif pictures:
            axes.flat[i].imshow(_colours(frames[0, i], data))
            axes.flat[i].set_title(title, fontsize=8)
        else:
            stop = len(frames) if lengths is None else int(lengths[i])
            _values(axes.flat[i], frames[:stop, i].reshape(stop, -1), title)
    figure.suptitle(f"{data.name} ({data.label}), class above each sample", fontsize=9)
    figure.savefig(out, dpi=120)
    return out


def _colours(frame: Array, data: Source) -> Array:
    """[H, W, C] as RGB in [0, 1]: grey, colour, or two polarities."""
    x = frame.astype(np.float64) / data.full_scale
    if x.shape[-1] == 2:
        x = x / max(1e-12, float(x.max()))
        ink = x[..., :1] * (1 - np.array(OFF_COLOUR)) + x[..., 1:] * (1 - np.array(ON_COLOUR))
        return np.clip(1 - ink, 0, 1)
    return np.clip(np.repeat(x, 3, -1) if x.shape[-1] == 1 else x[..., :3], 0, 1)


def _values(ax: Axes, x: Array, title: str) -> None:
    ax.imshow(x.T, aspect="auto", interpolation="nearest", origin="lower", cmap="viridis")
    ax.set_title(f"{title}, {len(x)} steps", fontsize=8)
