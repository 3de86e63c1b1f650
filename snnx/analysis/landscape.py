"""The loss around trained weights, along two random directions of the weights' own size.

    f(a, b) = L(theta + a d1 + b d2)

A direction is Gaussian, and every filter of it (an output channel or feature of a convolution or
linear layer) is scaled to the norm of that filter in theta. Biases, norms and the neurons' own
numbers stay where they are. Evaluation mode, no augmentation. Source: Li et al. 2018; TET Fig. 2.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx import random
from snnx.analysis import style
from snnx.analysis.atomic import write_bytes
from snnx.analysis.rundata import LANDSCAPE_FILE, RunData
from snnx.backend import Session
from snnx.data import Batches
from snnx.data.arrays import Split
from snnx.mode import EVAL
from snnx.program import Program

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from snnx.data.lazy import Source

TITLES = {"landscape_sdt": "Loss of the mean output (SDT)", "landscape_tet": "Loss of every step"}

Arrays = Mapping[str, NDArray[Any]]


def direction(
    program: Program, parameters: Arrays, seed: int, name: str
) -> dict[str, NDArray[np.float64]]:
    """Return a filter-normalised Gaussian direction for every weight; `name` tells them apart.

    d[j] <- d[j] |theta[j]| / (|d[j]| + 1e-10)    for every output j.
    """
    found = {}
    for p in program.parameters:
        if p.role != "weight":
            continue
        d = random.normal(seed, "landscape", f"{name} {p.path}", 0, [0], [0], p.size)
        d = d.reshape(p.shape[0], -1)
        theta = np.asarray(parameters[p.path], np.float64).reshape(p.shape[0], -1)
        length = np.linalg.norm(theta, axis=1) / (np.linalg.norm(d, axis=1) + 1e-10)
        found[p.path] = (d * length[:, None]).reshape(p.shape)
    return found


def landscape(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split = "train",
    *,
    points: int = 21,
    span: float = 1.0,
    samples: int = 256,
    batch_size: int = 64,
    steps: int | None = None,
    dials: Mapping[str, float | int] | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the grid's coordinates in [-span, span] and the mean losses [points, points].

    Rows go along the first direction, columns along the second. The loss is the session's
    objective over the first `samples` of the split. With odd `points` the centre is its loss.
    Raises: ValueError for fewer than 2 points or a span that is not positive.
    """
    if points < 2 or not span > 0 or samples < 1:
        raise ValueError(
            f"landscape: needs 2 points, a span above 0 and a sample, not {points}, {span}, "
            f"{samples}"
        )
    theta = {k: np.asarray(v, np.float64) for k, v in session.export().parameters.items()}
    one, two = (direction(program, theta, seed, name) for name in ("first", "second"))
    batches = Batches(dataset, split, batch_size, shuffle=False)
    order = batches.order(0)[:samples]
    starts = range(0, len(order), batch_size)
    parts: list[Any] = [batches.take(order[i : i + batch_size]) for i in starts]
    grid = span * (2 * np.arange(points) - (points - 1)) / (points - 1)
    losses = np.empty((points, points))
    for i, j in np.ndindex(points, points):
        moved = {k: theta[k] + grid[i] * one[k] + grid[j] * two[k] for k in one}
        with np.errstate(all="ignore"):  # far from the weights a loss may overflow
            each = [session.loss(b, dials or {}, EVAL, moved, steps=steps) for b in parts]
        losses[i, j] = np.concatenate([np.asarray(e, np.float64)[0] for e in each]).mean()
    return grid, losses


def save_landscape(folder: Path, arrays: Arrays) -> Path:
    """Write plots/landscape.npz of a run: landscape_grid, landscape_sdt, landscape_tet."""
    path = Path(folder) / LANDSCAPE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    np.savez_compressed(file, **dict(arrays))  # pyright: ignore[reportArgumentType]
    write_bytes(path, file.getvalue())
    return path


def draw_landscape(run: RunData) -> Figure | None:
    """Draw the losses around the weights; None where no landscape was computed."""
    from matplotlib.colors import LinearSegmentedColormap

    grid = run.arrays.get("landscape_grid")
    found = {name: run.arrays[name] for name in TITLES if name in run.arrays}
    if grid is None or not found:
        return None
    shades = LinearSegmentedColormap.from_list("losses", [style.BLUE, style.PALE, style.PAPER])
    figure = style.new_figure(7.2, 3.4)
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (name, losses) in zip(axes, found.items(), strict=True):
        losses = np.where(np.isfinite(losses), losses, np.nan)
        low, high = np.nanmin(losses), np.nanmax(losses)
        # steps that grow: the valley floor is where the nets differ
        levels = low + (high - low) * np.linspace(0.0, 1.0, 13) ** 2
        ax.set_aspect("equal")
        ax.set_title(TITLES[name])
        if high > low:
            ax.contourf(grid, grid, losses.T, levels, cmap=shades)
            lines = ax.contour(grid, grid, losses.T, levels[1:-1:2], colors=style.MUTED)
            lines.set_linewidth(0.6)
            ax.clabel(lines, fmt="%.2g", fontsize=7.0)
        ax.plot([0.0], [0.0], marker="+", color=style.ORANGE, markersize=9.0)
        ax.set_xlabel("along the first direction")
    axes[0].set_ylabel("along the second")
    return figure
