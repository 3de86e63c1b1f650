"""A long training with a fault every 30 seconds, beside one without: memory, and what is lost.

    PYTHONPATH=conformance python -m tests.soak --out soak.json --plot soak.svg [--root DIR]

Two runs of one recipe: the steady one is left alone, and its memory is watched; the other is hit by
a fault and goes on, again and again. At the end every checkpoint that both archived, and every row
of figures, must be equal bit for bit: so nothing was lost and nothing was done twice.

`--root` is where the shaken run is written. On a small file system of its own (`mount -t tmpfs -o
size=48m tmpfs DIR`) the disk is really filled; elsewhere the process's file size is limited, which
fails the same write.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snnx.backend import load_backend
from snnx.cli import main as snnx
from snnx.rotation import by_age
from snnx.training.rundir import RunDir, environment
from tests.soak_report import plot, summary

CONTEXT = multiprocessing.get_context("forkserver")
SAMPLE_EVERY, FAULT_EVERY, GRACE, ARCHIVE = 2.0, 30.0, 120.0, 20
SMALL_DISK = 256 << 20


def _child(command: list[str], log: str, temporary: str) -> None:
    """Be the process of one `snnx train`, whose temporary folder is another than ours."""
    tempfile.tempdir = temporary
    with (
        Path(log).open("a", encoding="utf-8") as text,
        redirect_stdout(text),
        redirect_stderr(text),
    ):
        code = snnx(command)
    os._exit(code)


@dataclass
class Run:
    """A run and the process that trains it now."""

    folder: Path
    log: Path
    words: list[str]
    rescued: Path
    process: Any = None
    memory: list[tuple[float, float]] = field(default_factory=list)

    def start(self) -> None:
        """Begin the run, or go on with it."""
        begun = by_age(self.folder / "checkpoints")
        go_on = ["--resume", str(self.folder), "--no-plots"]
        command = ["train", *(go_on if begun else [*self.words, "-o", str(self.folder)])]
        if not begun:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.process = CONTEXT.Process(
            target=_child, args=(command, str(self.log), str(self.rescued))
        )
        self.process.start()

    def wait(self) -> int:
        """Return the exit code of the process, which was asked to end. Raises: TimeoutError."""
        self.process.join(GRACE)
        if self.process.exitcode is None:
            raise TimeoutError(f"{self.folder}: did not end within {GRACE} s of a fault")
        return self.process.exitcode

    def look(self, now: float) -> None:
        """Note how much memory the process holds."""
        with suppress(OSError):  # it may have ended just now
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            self.memory.append((now, pages * resource.getpagesize() / 2**20))

    def workers(self) -> list[int]:
        """Return the decoding processes, which were spawned."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        found = [int(pid) for task in tasks for pid in task.read_text().split()]
        return [p for p in found if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]

    def step(self) -> int:
        """Return the optimiser step of the newest checkpoint, without reading its arrays."""
        newest = by_age(self.folder / "checkpoints")[0]
        return int(json.loads((newest / "train_state.json").read_text())["step"])


def killed(run: Run) -> tuple[int, int]:
    """SIGKILL."""
    run.process.kill()
    return run.wait(), -signal.SIGKILL


def terminated(run: Run) -> tuple[int, int]:
    """SIGTERM, as batch systems send it."""
    os.kill(run.process.pid, signal.SIGTERM)
    return run.wait(), 143


def interrupted(run: Run) -> tuple[int, int]:
    """SIGINT, as Ctrl-C sends it."""
    os.kill(run.process.pid, signal.SIGINT)
    return run.wait(), 130


def full_disk(run: Run) -> tuple[int, int]:
    """No room for the next checkpoint; the run goes on from where its state was saved."""
    filler = run.folder.parent / "filler"
    if shutil.disk_usage(run.folder).total > SMALL_DISK:
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        return run.wait(), 1
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        code = run.wait()
    finally:
        filler.unlink()
    gone = run.folder.with_name("gone")
    run.folder.rename(gone)
    _adopt(run, gone)
    return code, 1


def damaged(run: Run) -> tuple[int, int]:
    """SIGKILL, and then one bit of the newest checkpoint flips."""
    run.process.kill()
    code = run.wait()
    path = by_age(run.folder / "checkpoints")[0] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    return code, -signal.SIGKILL


def dead_worker(run: Run) -> tuple[int, int]:
    """SIGKILL to the process that decodes, not to the one that trains."""
    for worker in run.workers():
        os.kill(worker, signal.SIGKILL)
    return run.wait(), 3


def vanished(run: Run) -> tuple[int, int]:
    """The folder goes away; the run goes on in the one to which its state was saved."""
    gone = run.folder.with_name("gone")
    run.folder.rename(gone)
    code = run.wait()
    _adopt(run, gone)
    return code, 1


def _adopt(run: Run, gone: Path) -> None:
    """Go on in the folder to which the state was saved, with what the old one archived."""
    (saved,) = run.rescued.glob(f"snnx-{run.folder.name}-*")
    shutil.move(saved, run.folder)
    for path in (gone / "checkpoints").glob("epoch-*"):
        path.rename(run.folder / "checkpoints" / path.name)
    rows = {row["epoch"]: row for where in (gone, run.folder) for row in RunDir(where).rows()}
    with (run.folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(rows[epoch]) + "\n" for epoch in sorted(rows))
    shutil.rmtree(gone)


FAULTS: tuple[Callable[[Run], tuple[int, int]], ...] = (
    killed,
    terminated,
    full_disk,
    damaged,
    interrupted,
    vanished,
    dead_worker,
)


def soak(minutes: float, backend: str, root: Path, other: Path) -> dict[str, Any]:
    """Train both runs for that long, and return what was seen."""
    CONTEXT.set_forkserver_preload(["snnx.cli", f"snnx_{backend}.session"])
    small = ["model.width=0.06", "T=2", "batch_size=128", "epochs=100000", "schedule=constant"]
    kept = ["keep_checkpoints=3", "checkpoint_steps=5", f"archive_epochs={ARCHIVE}"]
    words = ["-b", backend, *small, *kept, "compile=false", "--no-plots"]
    rescued = other / "tmp"  # its disk is not the one that fills
    rescued.mkdir()
    decoding = [*words, "data.workers=1"]  # the same batches, decoded by another process
    shaken = Run(root / "shaken", root / "shaken.txt", decoding, rescued)
    steady = Run(other / "steady", other / "steady.txt", words, rescued)
    runs, faults, began = (steady, shaken), itertools.cycle(FAULTS), time.monotonic()
    for run in runs:
        run.start()
    found: list[dict[str, Any]] = []
    due = FAULT_EVERY
    while (now := time.monotonic() - began) < 60 * minutes:
        for run in runs:
            run.look(now)
            if run.process.exitcode is not None:
                said = run.log.read_text("utf-8")[-2000:]
                raise RuntimeError(f"{run.folder}: ended with {run.process.exitcode}: {said}")
        if now >= due and by_age(shaken.folder / "checkpoints"):
            fault = next(faults)
            before = shaken.step()
            code, wanted = fault(shaken)
            shaken.start()
            row = {"at": now, "fault": fault.__name__, "exit": code, "wanted": wanted}
            found.append({**row, "step": before})
            due = max(due + FAULT_EVERY, now + FAULT_EVERY / 2)
        time.sleep(SAMPLE_EVERY)
    for run in runs:
        os.kill(run.process.pid, signal.SIGTERM)
        run.wait()
    return summary(steady, shaken, found, time.monotonic() - began)


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    temporary = tempfile.TemporaryDirectory
    with temporary(dir=asked.root) as folder, temporary() as other:
        found = soak(asked.minutes, asked.backend, Path(folder), Path(other))
    machine = environment(load_backend(asked.backend).describe())
    machine["command"] = f"python -m tests.soak --minutes {asked.minutes:g}"
    found = {"backend": asked.backend, **found, "environment": machine}
    if asked.plot is not None:
        plot(found, asked.plot)
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k not in ("memory", "faults")}, indent=1))
    if not found["passed"]:
        raise SystemExit(5)


if __name__ == "__main__":
    main()
