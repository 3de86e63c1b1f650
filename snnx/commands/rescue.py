"""What is left when a run's folder refuses to be written: its state, in another place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from snnx.training import rundir
from snnx.training.loop import Training
from snnx.training.rundir import RunDir


def rescue(
    folder: RunDir, training: Training, rows: Iterable[Mapping[str, Any]], config: str
) -> Path | None:
    """Return a new folder in the system's temporary one that `--resume` goes on with.

    It holds recipe, figures and the state of now. None where that disk refuses too.
    """
    try:
        with suppress(OSError):  # the old folder may be gone
            rows = [*folder.rows(), *rows]
        found = {row["epoch"]: row for row in rows}
        path = Path(tempfile.mkdtemp(prefix=f"snnx-{folder.path.name}-"))
        try:
            other = RunDir(path)
            other.begin(config, rundir.environment(training.backend.describe()))
            for row in found.values():
                other.epoch(row)
            other.checkpoint(training.checkpoint())
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            return None
    except OSError:
        return None
    return path
