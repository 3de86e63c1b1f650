"""Where the stages of a run begin, as faint lines in a picture over its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from snnx.analysis.rundata import RunData, number
from snnx.analysis.style import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def stage_starts(run: RunData) -> list[tuple[float, str]]:
    """Return (epochs before it, "ANN" or "T=4") of every stage; nothing for a run without stages.

    Stages that do not change T are told apart by their number.
    """
    stages = run.config.get("stages")
    found, before = [], 0.0
    for place, stage in enumerate(stages if isinstance(stages, list) else ()):
        epochs = number(stage.get("epochs")) if isinstance(stage, Mapping) else None
        if epochs is None or not isinstance(stage, Mapping):
            return []
        name = "ANN" if stage.get("ann") is True else f"T={stage.get('T')}"
        if found and found[-1][1] == name:
            name = f"{name}, stage {place + 1}"
        found.append((before, name))
        before += epochs
    return found if len(found) > 1 else []


def mark_stages(ax: Axes, run: RunData) -> None:
    """Draw a line where each stage but the first begins, and the names under the title.

    Call it when the title is set and the limits of the axes are final.
    """
    starts = stage_starts(run)
    if starts:
        ax.set_title(ax.get_title(loc="left"), loc="left", pad=17.0)
    low, high = ax.get_xlim()
    for place, (before, name) in enumerate(starts):
        at = before + 0.5
        if place and low < at < high:
            ax.axvline(at, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
        if low - 1 < at < high:
            ax.annotate(
                name,
                (max(at, low), 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                color=MUTED,
                fontsize=7.5,
                ha="left",
            )
