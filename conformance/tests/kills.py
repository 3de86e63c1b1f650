"""Runs killed at random moments: every one goes on, and ends in the bits of the unbroken run.

    python conformance/tests/kills.py --runs 200 --backend torch --out kills.json

Each run is killed one to three times, by SIGKILL. A death is drawn from the seed: after a share of
the unbroken run's time, or at the n-th operation on a file below the run's folder (open, rename,
mkdir, remove), so that the moments inside the writing of a checkpoint come up often. After every
death the newest checkpoint must be whole; a run that was killed before it had one is begun anew.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from snnx import checkpoint as checkpoints
from snnx import data, random
from snnx.cli import main as snnx
from snnx.rotation import by_age
from snnx.training.rundir import RunDir, environment

WEIGHTS = ("model.safetensors", "train_state.safetensors")
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
EPOCHS, SAMPLES, MOST_DEATHS, LONGEST = 4, 48, 3, 300.0
CONTEXT = multiprocessing.get_context("forkserver")


class Lost(AssertionError):
    """A run that did not survive its death."""


def small_data(folder: Path) -> Path:
    """Write a few of the digits, so that a run takes a part of a second; return the file."""
    whole = data.digits()
    some = data.Dataset(
        *(a[:SAMPLES] for a in (whole.x_train, whole.y_train, whole.x_test, whole.y_test)),
        name="few",
        label="real",
        full_scale=whole.full_scale,
    )
    return data.to_npz(some, folder / "few.npz")


def words(backend: str, file: Path) -> list[str]:
    """Return what is trained: a small net with norm, every step a checkpoint."""
    small = ["model.width=0.04", "batch_size=16", "T=2", f"epochs={EPOCHS}", "checkpoint_steps=1"]
    return ["-b", backend, f"data={file}", *small, "keep_checkpoints=3", "compile=false"]


def _count(folder: str, die_at: int | None) -> list[int]:
    """Count operations on files below a folder from now on, and die at one of them."""
    seen = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and folder in str(arguments[0]):
            seen[0] += 1
            if seen[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def _child(command: list[str], folder: str, die_at: int | None, report: str) -> None:
    """Be the process of one `snnx train`."""
    os.nice(5)
    seen, text = _count(folder, die_at), io.StringIO()
    with redirect_stdout(text), redirect_stderr(text):
        code = snnx(command)
    Path(report).write_text(json.dumps({"operations": seen[0], "text": text.getvalue()}))
    sys.stdout.flush()
    os._exit(code)


def attempt(
    command: list[str], folder: Path, report: Path, *, die_at: int | None, die_after: float | None
) -> int:
    """Start the command, kill it as asked, and return its exit code; -9 where it was killed."""
    arguments = (command, str(folder), die_at, str(report))
    process = CONTEXT.Process(target=_child, args=arguments, daemon=True)
    process.start()
    process.join(LONGEST if die_after is None else die_after)
    if process.is_alive():
        process.kill()
        process.join()
        if die_after is None:
            raise Lost(f"{folder}: hung for {LONGEST} s")
    code = process.exitcode
    process.close()
    return -1 if code is None else code


def whole_run(backend: str, root: Path, file: Path) -> dict[str, Any]:
    """Return what the unbroken run leaves, how long it took and its operations on files."""
    folder, report = root / "whole", root / "whole.json"
    command = ["train", *words(backend, file), "--no-plots", "-o", str(folder)]
    seconds = 0.0
    for _ in range(2):  # the first process also starts the server that forks
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        if attempt(command, folder, report, die_at=None, die_after=None) != 0:
            raise Lost(report.read_text())
        seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "operations": json.loads(report.read_text())["operations"],
        "found": left(folder),
    }


def left(folder: Path) -> tuple[Any, ...]:
    """Return what must be equal: weights, statistics and moments as bytes, figures, place."""
    last = folder / "checkpoints" / checkpoints.LAST
    rows = [{k: v for k, v in r.items() if k != "seconds"} for r in RunDir(folder).rows()]
    place = checkpoints.read(last)
    result = json.loads((folder / "result.json").read_text())
    figures = (result["test_accuracy"], result["test_loss"], place.epoch, place.step)
    return tuple((last / name).read_bytes() for name in WEIGHTS), rows, figures


def killed_run(
    number: int, seed: int, backend: str, root: Path, file: Path, whole: dict[str, Any]
) -> Counter[str]:
    """Kill one run as drawn, let it go on, and compare. Raises: Lost."""
    folder, report, seen = root / "run", root / "run.json", Counter[str]()
    shutil.rmtree(folder, ignore_errors=True)
    drawn = random.uniform(seed, "kill", "run", number, [0], [0], 1 + 3 * MOST_DEATHS).reshape(-1)
    deaths = 1 + int(drawn[0] * MOST_DEATHS)
    for life in range(deaths + 1):
        if by_age(folder / "checkpoints"):
            command = ["train", "--resume", str(folder), "--no-plots"]
        else:
            shutil.rmtree(folder, ignore_errors=True)
            command = ["train", *words(backend, file), "--no-plots", "-o", str(folder)]
            seen["begun anew"] += life > 0
        die: dict[str, Any] = {"die_at": None, "die_after": None}
        if life < deaths:
            kind, when, _ = drawn[1 + 3 * life : 4 + 3 * life]
            if kind < 0.5:
                die["die_after"] = float(when) * whole["seconds"]
            else:
                die["die_at"] = 1 + int(when * whole["operations"])
        code = attempt(command, folder, report, **die)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            raise Lost(f"run {number}, life {life}: exit code {code}: {report.read_text()}")
        seen["kills by time" if die["die_at"] is None else "kills at an operation"] += 1
        _check_newest(folder, seen)
    if left(folder) != whole["found"]:
        raise Lost(f"run {number}: its end differs from that of the unbroken run; see {folder}")
    return seen


def _check_newest(folder: Path, seen: Counter[str]) -> None:
    """After a death the newest checkpoint is whole, with nothing to fall back from."""
    if by_age(folder / "checkpoints"):
        found = checkpoints.load(folder, _damaged)
        seen[f"killed in epoch {found.epoch + 1}"] += 1
        seen["killed while a checkpoint was written"] += any(
            (folder / "checkpoints").glob(".writing-*")
        )


def _damaged(text: str) -> None:
    raise Lost(f"a kill left a damaged checkpoint: {text}")


def kill_runs(runs: int, backend: str, seed: int, root: Path) -> dict[str, Any]:
    """Kill that many runs; return what was seen."""
    CONTEXT.set_forkserver_preload(["snnx.cli", f"snnx_{backend}.session"])
    file = small_data(root)
    whole = whole_run(backend, root, file)
    seen, began, unkilled = Counter[str](), time.monotonic(), 0
    for number in range(runs):
        one, draws = Counter[str](), 0
        while not one["kills by time"] + one["kills at an operation"]:
            # the machine was faster than when it was timed: the run ended first, and dies anew
            one = killed_run(number, seed + 1000 * draws, backend, root, file, whole)
            draws += 1
        unkilled += draws - 1
        seen += one
    return {
        "runs": runs,
        "equal to the unbroken run, bit for bit": runs,
        "begun again since they ended before their first death": unkilled,
        "seed": seed,
        "deaths": seen["kills by time"] + seen["kills at an operation"],
        "seen": dict(sorted(seen.items())),
        "unbroken": {key: whole[key] for key in ("seconds", "operations")},
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    from snnx.backend import load_backend

    with tempfile.TemporaryDirectory() as folder:
        found = kill_runs(asked.runs, asked.backend, asked.seed, Path(folder))
    machine = environment(load_backend(asked.backend).describe())
    machine["command"] = f"kills.py --runs {asked.runs} --backend {asked.backend}"
    found = {"backend": asked.backend, **found, "environment": machine}
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if asked.out is not None:
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
