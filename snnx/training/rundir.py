"""The folder of a run: what it was asked to do, what happened, and what came out.

config.toml          the resolved recipe, each value with its origin      env.json   versions
metrics.jsonl .csv   one row per epoch                                    log.txt    the screen
checkpoints/         last and those before it                             result.json
DONE or FAILED       how it ended, with the exit code
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from snnx import checkpoint as checkpoints
from snnx.analysis.rundata import flat
from snnx.checkpoint import Checkpoint
from snnx.checkpoint_files import naming
from snnx.rotation import Retention, clean

LATEST = "latest"
CHECKPOINTS, PLOTS = "checkpoints", "plots"
DONE, FAILED = "DONE", "FAILED"


class RunDirError(ValueError):
    """A folder that is not, or cannot become, a run's."""


class RunDir:
    """A run's folder. Every method raises OSError where the disk refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.retention = Retention()

    @classmethod
    def create(cls, out: Path | None, name: str | None, stem: str) -> RunDir:
        """Return a new folder: `out`, else runs/`name`, else the next free runs/`stem`-NNN.

        runs/latest then points to it, unless it is `out`.
        """
        if out is not None:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise RunDirError(
                    f"{out}: is there already and not empty; give another folder, or go on with "
                    f"the run in it: --resume {out}"
                )
            out.mkdir(parents=True, exist_ok=True)
            return cls(out)
        parent = Path("runs")
        parent.mkdir(exist_ok=True)
        if name is not None:
            path = parent / name
            if path.parent != parent or name in (LATEST, "..", "."):
                raise RunDirError(f"--name {name!r}: give one plain word; use --out for a path")
            try:
                path.mkdir()
            except FileExistsError as error:
                raise RunDirError(
                    f"{path}: is there already; give another name, or --resume {path}"
                ) from error
        else:
            path = _numbered(parent, stem)
        _point(parent / LATEST, path.name)
        return cls(path)

    @classmethod
    def find(cls, text: str) -> RunDir:
        """Return the run of a path, or runs/latest for "latest".

        Raises: RunDirError where there is none, or where `check_links` refuses it.
        """
        path = Path("runs") / LATEST if text == LATEST else Path(text)
        if not path.is_dir():
            raise RunDirError(
                f"{path}: there is no such run; `snnx train` makes one under runs/"
                if text == LATEST
                else f"{path}: there is no such folder; name a run like runs/latest"
            )
        found = path.parent / path.readlink() if path.is_symlink() else path
        check_links(found)
        return cls(found)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    def begin(self, config: str, environment: Mapping[str, Any]) -> None:
        """Write the recipe and the environment; a resumed run keeps what it was before."""
        for marker in (DONE, FAILED):
            (self.path / marker).unlink(missing_ok=True)
        clean(self.checkpoints)
        checkpoints.set_aside(self.checkpoints)
        _write(self.path / "config.toml", config)
        path = self.path / "env.json"
        before: list[Any] = []
        if path.exists():
            before = _history(path)
        _write(path, _json({**environment, **({"before": before} if before else {})}))

    def keep_until(self, epoch: int) -> None:
        """Drop the rows of epochs after `epoch`, which a resumed run takes again."""
        rows = [row for row in self.rows() if row["epoch"] <= epoch]
        _write(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self._csv_anew(rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all epochs so far; a line cut by a kill is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [row for row in map(_row, lines) if row is not None]

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Append the figures of an epoch."""
        path = self.path / "metrics.jsonl"
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._csv(row)

    def _csv(self, row: Mapping[str, Any]) -> None:
        """Append a row to metrics.csv, or write it anew where a row has other columns."""
        path, columns = self.path / "metrics.csv", flat(row)
        with naming(path), path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            same = next(csv.reader(file), None) == list(columns)
            if same:
                csv.writer(file, lineterminator="\n").writerow(columns.values())
        if not same:
            self._csv_anew(self.rows())

    def _csv_anew(self, rows: Sequence[Mapping[str, Any]]) -> None:
        found = [flat(row) for row in rows]
        file = io.StringIO(newline="")
        columns = dict.fromkeys(name for row in found for name in row)
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        _write(self.path / "metrics.csv", file.getvalue())

    def checkpoint(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint as the last one, and keep older ones as `retention` says."""
        return checkpoints.save(self.checkpoints, checkpoint, self.retention)

    def log(self, text: str) -> None:
        """Append to the plain copy of the screen."""
        path = self.path / "log.txt"
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result and mark the run as done."""
        _write(self.path / "result.json", _json(result))
        _write(self.path / DONE, "0\n")

    def fail(self, code: int, reason: str) -> None:
        """Mark the run as failed, if the disk lets us."""
        with suppress(OSError):
            _write(self.path / FAILED, f"{code}\n{reason}\n")


def check_links(folder: Path) -> None:
    """Raise RunDirError where a link leads out of a run's folder.

    Who goes on with a stranger's run, or draws it, writes under the names that lie there: a log
    that is a link would grow somewhere else.
    """
    root = os.path.realpath(folder)
    for part in (folder, folder / CHECKPOINTS, folder / PLOTS):
        for path in sorted(part.iterdir()) if part.is_dir() else ():
            target = Path(os.path.realpath(path))
            if path.is_symlink() and not target.is_relative_to(root):
                raise RunDirError(
                    f"{path}: is a link to {target}, outside of the run's folder, where nothing "
                    "is written; put a copy in its place, or remove it"
                )


def environment(described: Mapping[str, str]) -> dict[str, Any]:
    """Return versions, machine and command line of this process."""
    from snnx import __version__

    return {
        "snnx": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "backend": dict(described),
        "command": sys.argv,
    }


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and {"epoch", "loss", "test_accuracy"} <= row.keys()
    return row if whole and isinstance(row["epoch"], int) else None


def _history(path: Path) -> list[Any]:
    """Return the environments of a run so far; what is no JSON object is kept as text."""
    content = path.read_bytes()
    try:
        old = json.loads(content)
    except (ValueError, RecursionError):
        return [content.decode("utf-8", "replace")]
    before = old.pop("before", []) if isinstance(old, dict) else []
    return [*(before if isinstance(before, list) else [before]), old]


def _numbered(parent: Path, stem: str) -> Path:
    taken = [path.name.removeprefix(f"{stem}-") for path in parent.glob(f"{stem}-*")]
    number = max((int(n) for n in taken if n.isdecimal()), default=0)
    while True:
        number += 1
        path = parent / f"{stem}-{number:03d}"
        with suppress(FileExistsError):  # two runs may start at once
            path.mkdir()
            return path


def _point(link: Path, target: str) -> None:
    fresh = link.with_name(f".{LATEST}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file in one rename: a reader never sees half of it."""
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with naming(path):
            fresh.write_text(text, "utf-8")
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
