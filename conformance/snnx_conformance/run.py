"""`snnx conform`: the suite on several backends, a matrix on screen, records, comparisons."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnx_conformance.case import LEVELS, Case, Outcome
from snnx_conformance.record import RecordError, compare_records, make, read, write

PASSED, USAGE, DATA, ABSENT, FAILED = 0, 2, 3, 4, 5
SHOWN = 20  # failures that are printed in full

Results = list[tuple[Case, Outcome]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snnx conform", description="Check that backends compute the same numbers."
    )
    parser.add_argument(
        "--backends", help="names, with commas between; all that are installed unless given"
    )
    parser.add_argument("--level", help=f"some of {','.join(LEVELS)}; all unless given")
    parser.add_argument("--case", help="run only the cases whose name contains this")
    parser.add_argument("--quick", action="store_true", help="fewer cases, for a first look")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write a record")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the matrix as JSON")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar="RECORD", help="compare two records; runs nothing"
    )
    parser.add_argument(
        "--explain", action="store_true", help="name the first spike that differs, and why"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 usage, 3 unreadable record, 4 absent backend, 5 failed."""
    from rich.console import Console

    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    console = Console(highlight=False, soft_wrap=True)
    if options.compare:
        return _compare(console, *options.compare)
    levels = tuple(options.level.split(",")) if options.level else LEVELS
    unknown = [level for level in levels if level not in LEVELS]
    if unknown:
        console.print(f"no level {', '.join(unknown)}; there are {', '.join(LEVELS)}")
        return USAGE
    return _conform(console, options, levels)


def _backends(console: Any, named: str | None) -> list[Any] | int:
    """Return the backends; the exit code where a named one cannot be had."""
    from snnx.backend import BackendError, backend_names, installed, load_backend

    names = named.split(",") if named else [n for n in backend_names() if installed(n)]
    absent = [] if named else [n for n in backend_names() if not installed(n)]
    for name in absent:
        console.print(f"skipped {name}: its framework is not installed")
    try:
        return [load_backend(name) for name in dict.fromkeys(names)]
    except (BackendError, ImportError) as error:
        console.print(str(error), style="red", markup=False)
        return ABSENT


def _conform(console: Any, options: argparse.Namespace, levels: Sequence[str]) -> int:
    from snnx_conformance.levels import cases

    backends = _backends(console, options.backends)
    if isinstance(backends, int):
        return backends
    described = {b.name: b.describe() for b in backends}
    for name, text in described.items():
        console.print(f"{name}: {', '.join(f'{k} {v}' for k, v in text.items())}", markup=False)
    results: Results = []
    started = time.perf_counter()
    with console.status("conform") as status:
        for case in cases(backends, levels, options.quick):
            if options.case is None or options.case in case.name:
                status.update(f"{case.backend} {case.level} {case.name}")
                results.append((case, case.run()))
    seconds = time.perf_counter() - started
    table = matrix(results)
    _show(console, results, table, [b.name for b in backends], levels, seconds)
    if options.record:
        write(options.record, make(results, described, options.quick))
        console.print(f"record: {options.record}", markup=False)
    passed = bool(results) and all(
        cell["failed"] == 0 and cell["compared"] > 0 for cell in table.values()
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"passed": passed, "seconds": seconds, "matrix": table}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not results:
        console.print("no case was run: nothing was compared", style="red")
    if options.explain:
        from snnx_conformance.explain import lines

        for line in lines(backends):
            console.print(line, markup=False)
    return PASSED if passed else FAILED


def matrix(results: Results) -> dict[str, dict[str, Any]]:
    """Return counts by "LEVEL/BACKEND": cases, passed, failed, missing, compared, share, error."""
    table: dict[str, dict[str, Any]] = {}
    for case, outcome in results:
        new = dict.fromkeys(("cases", "passed", "failed", "missing", "compared", "total"), 0)
        cell = table.setdefault(f"{case.level}/{case.backend}", {**new, "error": 0.0})
        cell["cases"] += 1
        cell[outcome.status] += 1
        cell["compared"] += outcome.compared
        cell["total"] += outcome.total
        if outcome.passed:
            cell["error"] = max(cell["error"], outcome.error)
    for cell in table.values():
        cell["share"] = cell["compared"] / cell["total"] if cell["total"] else 0.0
    return table


def _show(
    console: Any,
    results: Results,
    table: dict[str, dict[str, Any]],
    names: Sequence[str],
    levels: Sequence[str],
    seconds: float,
) -> None:
    from rich.table import Table

    failures = [(case, outcome) for case, outcome in results if outcome.status == "failed"]
    for _, outcome in failures[:SHOWN]:
        console.print(outcome.message, style="red", markup=False)
    if len(failures) > SHOWN:
        console.print(f"and {len(failures) - SHOWN} failures more; --json has the counts")
    shown = Table(box=None, pad_edge=False)
    shown.add_column("level")
    for name in names:
        shown.add_column(name)
    for level in levels:
        shown.add_row(level, *(_cell(table.get(f"{level}/{name}")) for name in names))
    console.print(shown)
    console.print(f"{len(results)} cases in {seconds:.0f} s")


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "not run"
    bad = f"[red]{cell['failed']} failed[/red], " if cell["failed"] else ""
    missing = f"[yellow]{cell['missing']} missing[/yellow], " if cell["missing"] else ""
    return f"{bad}{missing}{cell['passed']} passed, {100 * cell['share']:.4g} % compared"


def _compare(console: Any, first: Path, second: Path) -> int:
    try:
        verdict = compare_records(read(first), read(second))
    except (OSError, RecordError) as error:
        console.print(str(error), style="red", markup=False)
        return DATA
    for line in verdict.pairs:
        console.print(line, markup=False)
    for problem in verdict.problems[:SHOWN]:
        console.print(problem, style="red", markup=False)
    console.print("passed" if verdict.passed else f"failed, {len(verdict.problems)} problems")
    return PASSED if verdict.passed else FAILED
