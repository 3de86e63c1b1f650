"""`snnx report`: the page of a run, or one page that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snnx.analysis.comparison_page import write_comparison
from snnx.analysis.report import write_report
from snnx.training.rundir import RunDir, RunDirError

COMPARISON = Path("runs") / "comparison.html"


def report(words: Sequence[str], out: Path | None) -> Path:
    """Write the page and return its path.

    Raises: RunDirError where a folder is no run, or the runs cannot be compared.
    """
    folders = [RunDir.find(word).path for word in words]
    try:
        if len(folders) > 1:
            return write_comparison(folders, out or COMPARISON)
        if out is not None:
            raise RunDirError(
                f"--out {out}: the page of one run is the report.html in its folder; name two "
                "runs or more to compare them"
            )
        return write_report(folders[0])
    except (ValueError, FileNotFoundError) as error:
        raise RunDirError(str(error)) from error
