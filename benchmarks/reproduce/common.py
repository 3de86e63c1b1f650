"""What the scripts of this folder share: a growing record, statistics, pages, pictures.

    python benchmarks/reproduce/CLAIM.py            take the runs that are missing, write the page
    python benchmarks/reproduce/CLAIM.py --page     write table and figure from the record again
    python benchmarks/reproduce/CLAIM.py --backend mlx      the same runs on another backend

A record is benchmarks/results/reproduce-CLAIM.json, on another backend than torch
reproduce-CLAIM-BACKEND.json; the page is docs/reproduction/CLAIM.md with CLAIM.svg beside it. A
run that is in the record is not taken again, so a stopped script goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import snnx
from snnx.analysis.style import new_figure, save, styled
from snnx.backend import load_backend
from snnx.data import Dataset
from snnx.training.rundir import environment

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ROOT / "docs" / "reproduction"

Values = dict[str, Any]


class Record:
    """The runs of one claim under one set of settings, kept in a JSON file after every run."""

    def __init__(self, claim: str, settings: Values | None = None, backend: str = "torch") -> None:
        self.claim, self.backend = claim, backend
        self.path = record_path(claim, backend)
        wanted = json.loads(json.dumps(settings))
        if self.path.exists():
            self.values: Values = json.loads(self.path.read_text("utf-8"))
            if settings is not None and self.values["settings"] != wanted:
                raise SystemExit(
                    f"{self.path} holds runs with other settings than the script's; "
                    "move it away to begin anew, or give the script its settings back"
                )
        elif settings is None:
            raise SystemExit(f"{self.path} does not exist; take runs on {backend} first")
        else:
            self.values = {"claim": claim, "settings": wanted, "runs": {}}

    @property
    def settings(self) -> Values:
        """What the runs were taken with."""
        return self.values["settings"]

    @property
    def runs(self) -> dict[str, Values]:
        """What each run gave, by its key."""
        return self.values["runs"]

    def run(self, key: str, take: Callable[[], Values]) -> None:
        """Take a run that the record lacks, and keep it."""
        if key in self.runs:
            return
        here = _environment(self.backend)
        known = self.values.setdefault("environment", here)
        if known["backend"] != here["backend"]:
            raise SystemExit(
                f"{self.path} was begun with {known['backend']}, and this is {here['backend']}; "
                "one record has one of them"
            )
        began = time.monotonic()
        found = {**take(), "seconds": round(time.monotonic() - began, 1)}
        later = {} if here["commit"] == known["commit"] else {"commit": here["commit"]}
        self.runs[key] = {**found, **later}
        self.keep()
        print(f"{self.claim}: {key}: {self.runs[key]['seconds']} s", flush=True)

    def note_data(self, *data: Dataset) -> None:
        """Keep what the data are: one set, or a list of several."""
        sets = [{"name": d.name, "id": d.id, "label": d.label, "source": d.source} for d in data]
        named = sets[0] if len(sets) == 1 else sets
        known = self.values.setdefault("data", named)
        if known != named:
            begun, given = (", ".join(d["id"] for d in data_sets(v)) for v in (known, named))
            raise SystemExit(f"{self.path} was begun on {begun}, and this is {given}")

    def keep(self) -> None:
        """Write the record; what was there stays until the new file is whole."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".part")
        fresh.write_text(json.dumps(self.values, indent=1) + "\n", "utf-8")
        fresh.replace(self.path)


def record_path(claim: str, backend: str) -> Path:
    """Return where the record of a claim on a backend lies."""
    return RESULTS / f"reproduce-{claim}{'' if backend == 'torch' else '-' + backend}.json"


def beside(claim: str, backend: str) -> Record | None:
    """Return the record of the same claim on another backend, None where there is none."""
    return Record(claim, backend=backend) if record_path(claim, backend).exists() else None


def data_sets(data: Values | list[Values]) -> list[Values]:
    """Return the data sets of a record's "data", which is one of them or a list."""
    return data if isinstance(data, list) else [data]


def _environment(backend: str) -> Values:
    found = environment(load_backend(backend).describe())
    del found["command"]
    return {**found, "commit": _library_commit()}


def _library_commit() -> str:
    """Return the last commit that changed the library, "-dirty" after it if it has changed since.

    A script's own commits are left out: its settings are in the record, and it may be landed later.
    """
    source, git = Path(snnx.__file__).parents[1], shutil.which("git")
    if git is None:
        return "unknown"

    def ask(*words: str) -> str:
        asked = subprocess.run(
            [git, "-C", str(source), *words, "--", "snnx", "backends"],
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.stdout.strip()

    commit = ask("log", "-1", "--format=%h")
    if not commit:
        return "not from a checkout"
    return commit + ("-dirty" if ask("status", "--porcelain") else "")


def mean_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, 0 of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    mean, deviation = mean_deviation(values)
    return mean, deviation / len(values) ** 0.5


def difference(values: Sequence[float], about: str = "", digits: int = 2) -> str:
    """Return paired differences as "mean, standard error E (N ABOUT)"."""
    mean, error = mean_error(values)
    counted = f"{len(values)} {about}" if about else f"{len(values)} seeds"
    return f"{mean:+.{digits}f}, standard error {error:.{digits}f} ({counted})"


def percent(values: Sequence[float], digits: int = 1) -> str:
    """Return shares as "mean ± deviation" in percent."""
    mean, deviation = mean_deviation([100.0 * v for v in values])
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def verdicts(rows: Sequence[Sequence[str]]) -> str:
    """Return the table of what was claimed, what came out, and whether that is the same.

    A row of runs on another backend than torch names it in a fifth cell, which is left out here.
    """
    return table(("claim", "paper", "here", "verdict"), [row[:4] for row in rows])


def verdict(holds: bool) -> str:
    """Return the word for a claim that holds here or does not."""
    return "reproduced" if holds else "**not reproduced**"


def verdict_of_parts(held: int, parts: int) -> str:
    """Return the verdict on a claim of several parts: "in part" where half or more hold."""
    return "in part" if parts > held >= parts / 2 else verdict(held == parts)


def verdict_of_likeness(gains: Sequence[float]) -> str:
    """Return the verdict on a claim that two things are equal: is two errors' difference seen?"""
    mean, error = mean_error(gains)
    return "no difference seen" if abs(mean) <= 2 * error else "**a difference seen**"


def clear(gains: Sequence[float]) -> bool:
    """Tell whether the mean of paired differences is above 0 by more than two standard errors."""
    mean, error = mean_error(gains)
    return mean > 2 * error


def reflow(text: str) -> str:
    """Return a page with its paragraphs filled to 120 columns; tables, lists, titles stay."""
    blocks = text.strip().split("\n\n")
    keep = ("|", "#", "- ", "!", "    ")
    filled = [b if b.startswith(keep) else textwrap.fill(" ".join(b.split()), 120) for b in blocks]
    return "\n\n".join(filled) + "\n"


def provenance(record: Record) -> str:
    """Return what a page says about how its numbers were made."""
    values = record.values
    env = values["environment"]
    seconds = sum(run["seconds"] for run in record.runs.values())
    backend = ", ".join(f"{k} {v}" for k, v in env["backend"].items())
    spent = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
    lines = [
        f"- Command: `{typed(record.claim, record.backend)}`",
        f"- Backend: {backend}; one thread of a shared {env['processor']} CPU",
        f"- Versions: snnx {env['snnx']} ({_commits(record)}), Python {env['python']}, "
        f"NumPy {env['numpy']}",
    ]
    for data in data_sets(values.get("data", [])):
        lines.append(f"- Data: {data['id']} ({data['label']}); {data['source']}")
    lines.append(f"- Runs: {len(record.runs)}, {spent} by the clock, pauses counted")
    lines.append(f"- Every number: `benchmarks/results/{record.path.name}`")
    return "\n".join(lines)


def _commits(record: Record) -> str:
    first = record.values["environment"]["commit"]
    count = Counter(run.get("commit", first) for run in record.runs.values())
    if set(count) == {first}:
        return first
    return ", ".join(f"{commit}: {n} run{'s' if n > 1 else ''}" for commit, n in count.items())


def typed(claim: str, backend: str) -> str:
    """Return what is typed to take the runs of a record again."""
    other = beside(claim, backend)
    library = other and other.values["environment"]["backend"].get("preloaded")
    before = f"LD_PRELOAD={library} " if library else ""
    option = "" if backend == "torch" else f" --backend {backend}"
    return f"{before}python benchmarks/reproduce/{claim}.py{option}"


@contextmanager
def picture(claim: str, width: float = 7.0, height: float = 2.9) -> Iterator[Any]:
    """Give an empty figure to draw on, and keep it as docs/reproduction/CLAIM.svg."""
    with styled():
        figure = new_figure(width, height)
        yield figure
        PAGES.mkdir(parents=True, exist_ok=True)
        (PAGES / f"{claim}.svg").write_bytes(save(figure, "svg"))


def command(
    claim: str,
    settings: Values,
    take: Callable[[Record, Values], None],
    page: Callable[[Record], str],
    draw: Callable[[Record], None],
    choices: Mapping[str, type] | None = None,
) -> None:
    """Read the command line, take the runs that are missing, write the page and its figure.

    `choices` are further options of the script, by name, with their type. The page is that of the
    torch record, which may show the one `beside` it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", action="store_true", help="only write the page again")
    parser.add_argument("--backend", default="torch", help="where the runs are taken (torch)")
    for name, kind in (choices or {}).items():
        parser.add_argument(f"--{name}", type=kind)
    chosen = vars(parser.parse_args())
    backend = chosen.pop("backend")
    if not chosen.pop("page"):
        record = Record(claim, settings, backend)
        take(record, {k: v for k, v in chosen.items() if v is not None})
        record.keep()
    record = Record(claim)
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{claim}.md").write_text(page(record), "utf-8")
    draw(record)
    print(f"{PAGES / claim}.md")
