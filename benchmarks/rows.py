"""What the GPU scripts share: a process per row with its own time, JSON after each, a budget.

A row that fails, hangs or is refused costs nothing but its own time: what it printed last is kept
in its place, and the next one begins. Rows are run in the order that they are given, the important
first, until the budget is spent; the rest are written down as skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TAIL = 1500  # characters of what a failed row printed
LEAST = 15.0  # seconds without which no row is begun
Row = dict[str, Any]


def environment(cpu: bool, **more: str) -> dict[str, str]:
    """Return the environment of a row: the project's roots, and no device under `cpu`."""
    roots = (ROOT, ROOT / "backends", ROOT / "conformance")
    given = (*map(str, roots), os.environ.get("PYTHONPATH", ""))
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, given)), **more}
    return found | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})


def isolated(command: Sequence[str], variables: dict[str, str], limit: float) -> Row:
    """Run a command in a session of its own; return exit code, seconds and the end of its output.

    What it prints goes to files, and whatever it started ends with it: a compiler's worker that
    outlives its parent would hold a pipe open, and the row with it.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        made = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=out, stderr=err, start_new_session=True
        )
        try:
            code = made.wait(timeout=max(limit, 1.0))
        except subprocess.TimeoutExpired:
            code = 124
        finally:
            with suppress(ProcessLookupError):
                os.killpg(made.pid, signal.SIGKILL)
            made.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return {
        "exit": code,
        "seconds": time.monotonic() - began,
        "stdout": texts[0],
        "stderr": texts[1],
    }


def measured(command: Sequence[str], variables: dict[str, str], limit: float) -> Row:
    """Return the JSON on a command's last line, or under "failed" why there is none."""
    found = isolated(command, variables, limit)
    row: Row = {"seconds": found["seconds"]}
    if found["exit"] == 124:
        return {**row, "failed": f"no answer in {limit:.0f} s: {found['stderr'][-TAIL:]}"}
    if found["exit"]:
        return {**row, "failed": found["stderr"][-TAIL:] or f"exit {found['exit']}"}
    lines = found["stdout"].splitlines() or ["nothing"]
    try:
        values = json.loads(lines[-1])
    except json.JSONDecodeError:
        return {**row, "failed": f"its last line is no JSON: {lines[-1][-TAIL:]}"}
    return {**row, **values}


def by_itself(script: str, chosen: argparse.Namespace, **more: str) -> Callable[[Row, float], Row]:
    """Return what runs a row by the script itself, `--one ROW`, in an environment with `more`."""
    command = [sys.executable, script, "--out", str(chosen.out), *["--cpu"] * chosen.cpu, "--one"]
    variables = environment(chosen.cpu, **more)
    return lambda row, seconds: measured([*command, json.dumps(row)], variables, seconds)


def options(text: str | None, budget: float) -> argparse.ArgumentParser:
    """Return a parser of what every script takes."""
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cpu", action="store_true", help="tiny, without a GPU: the script itself")
    parser.add_argument("--rows", nargs="+", help="beginnings of their names; the order stays")
    parser.add_argument("--budget", type=float, default=budget, help="seconds in all")
    return parser


def taken(
    chosen: argparse.Namespace,
    rows: Sequence[tuple[Row, float]],
    run: Callable[[Row, float], Row],
    show: Callable[[Row], str],
    **report: Any,
) -> int:
    """Run the rows (each with its limit in seconds), write the JSON after each; return failures.

    `run` gets a row and the seconds it may take, and returns its figures.
    """
    began, found = time.monotonic(), []
    rows = [
        (row, limit)
        for row, limit in rows
        if not chosen.rows or any(row["row"].startswith(name) for name in chosen.rows)
    ]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    for row, limit in rows:
        left = chosen.budget - (time.monotonic() - began)
        if left < LEAST:
            row = {**row, "skipped": f"the budget of {chosen.budget:.0f} s was spent"}
        else:
            row = {**row, **run(row, min(limit, left))}
        found.append(row)
        said = next((row[k] for k in ("skipped", "refused", "failed") if k in row), "")
        print(show(row), said[-300:] if said else "", flush=True)
        counts = {k: sum(k in r for r in found) for k in ("failed", "refused", "skipped")}
        whole = {
            "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
            "machine": {"system": platform.platform(), "python": platform.python_version()},
            **report,
            **counts,
            "unbegun": len(rows) - len(found),
            "seconds": time.monotonic() - began,
            "rows": found,
        }
        part = chosen.out.with_suffix(".part")
        part.write_text(json.dumps(whole, indent=1) + "\n")
        part.replace(chosen.out)
    if not found:
        raise SystemExit(f"no row begins with {chosen.rows}")
    return sum("failed" in row for row in found)
