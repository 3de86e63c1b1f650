"""What a soak found: what is equal, how memory went, and a picture of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnx.analysis import style
from snnx.training.rundir import RunDir

WARM_UP = 120.0  # seconds before memory counts
FEWEST = 3  # samples of memory after that, without which nothing is said of it
NOISE = 4.0  # MiB that caches and fragments may take over the whole time
POINTS = 400  # samples of memory that are kept


def summary(
    steady: Any, shaken: Any, faults: Sequence[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """Return the verdict on two runs, their memory and the faults."""
    archives = archived(steady.folder, shaken.folder)
    rows = [
        {row["epoch"]: {k: v for k, v in row.items() if k != "seconds"} for row in found}
        for found in (RunDir(run.folder).rows() for run in (steady, shaken))
    ]
    common = sorted(rows[0].keys() & rows[1].keys())
    memory = slope(steady.memory)
    log = shaken.log.read_text("utf-8")
    checks = {
        "archived checkpoints equal": all(archives.values()) and len(archives) > 0,
        "rows equal": all(rows[0][epoch] == rows[1][epoch] for epoch in common) and len(common) > 0,
        "no row missing": list(rows[1]) == list(range(1, len(rows[1]) + 1)),
        "exit codes as documented": all(row["exit"] == row["wanted"] for row in faults)
        and len(faults) > 0,
        "damage was said": log.count("going on with the checkpoint before it")
        == sum(row["fault"] == "damaged" for row in faults),
        "memory within noise": memory["samples"] >= FEWEST
        and abs(memory["drift"]) <= memory["noise"],
        "no traceback": "Traceback" not in log,
    }
    return {
        "passed": all(checks.values()),
        "checks": checks,
        "seconds": seconds,
        "faults of each kind": dict(Counter(row["fault"] for row in faults)),
        "archived checkpoints compared": len(archives),
        "rows compared": len(common),
        "epochs": [max(found, default=0) for found in rows],
        "memory of the steady run": memory,
        "memory": {
            run.folder.name: [[round(v, 2) for v in point] for point in _thinned(run.memory)]
            for run in (steady, shaken)
        },
        "faults": list(faults),
    }


def archived(one: Path, two: Path) -> dict[str, bool]:
    """Tell of each checkpoint that both runs archived whether its arrays are equal bit for bit."""
    names = [{p.name for p in (f / "checkpoints").glob("epoch-*")} for f in (one, two)]
    files = ("model.safetensors", "train_state.safetensors")
    return {
        name: all(
            (one / "checkpoints" / name / file).read_bytes()
            == (two / "checkpoints" / name / file).read_bytes()
            for file in files
        )
        for name in sorted(names[0] & names[1])
    }


def slope(memory: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Fit a line to the memory after the warm-up; MiB, minutes.

    drift = slope * duration is within the noise where it is at most 3 standard deviations of the
    residuals plus `NOISE`.
    """
    t, size = np.array([point for point in memory if point[0] >= WARM_UP]).reshape(-1, 2).T
    if len(t) < FEWEST:
        return {"slope": 0.0, "drift": 0.0, "noise": 0.0, "samples": float(len(t))}
    per_second, start = np.polyfit(t - t[0], size, 1)
    rest = size - (start + per_second * (t - t[0]))
    return {
        "first": float(start),
        "last": float(start + per_second * (t[-1] - t[0])),
        "slope": float(60 * per_second),
        "drift": float(per_second * (t[-1] - t[0])),
        "noise": float(3 * rest.std() + NOISE),
        "samples": float(len(t)),
    }


def _thinned(memory: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return memory[:: max(1, len(memory) // POINTS)]


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw memory over time, the faults as marks."""
    looks = {"steady": ("-", style.BLUE), "shaken": (".", style.ORANGE)}
    kinds = sorted({row["fault"] for row in found["faults"]})
    with style.styled():
        figure = style.new_figure(8.0, 3.8)
        memory, faults = figure.subplots(2, 1, sharex=True, height_ratios=(3.0, 1.2))
        for name, points in found["memory"].items():
            t, size = np.array(points).T
            mark, colour = looks[name]
            memory.plot(
                t / 60, size, mark, color=colour, ms=2.5, linewidth=1.2, label=f"{name} run"
            )
        style.horizontal_grid(memory)
        memory.set_ylabel("resident memory, MiB")
        memory.legend(frameon=False, fontsize=8.0, loc="lower right", markerscale=2.0)
        for i, kind in enumerate(kinds):
            t = [row["at"] / 60 for row in found["faults"] if row["fault"] == kind]
            faults.plot(t, [i] * len(t), "|", color=style.INK, ms=6.0)
        faults.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
        faults.set_ylim(len(kinds) - 0.5, -0.5)
        faults.set_ylabel("faults")
        faults.set_xlabel("minutes")
        path.write_bytes(style.save(figure, "svg"))
