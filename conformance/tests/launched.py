"""Starting processes as a person does: torchrun or mlx.launch, by their module or command."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BLOCK = 16  # ports of one launch, the last of which is the lease
FIRST, LAST = 20000, 32000  # below the ports that the system gives to those who ask for none


@contextmanager
def ports(count: int) -> Iterator[int]:
    """Lease `count` ports that follow each other, and yield the first.

    mlx.launch's processes listen on them some seconds later, and would share them with those of
    another launch in silence. So a launch holds the last port of its block all the time.
    """
    assert count < BLOCK
    start = FIRST + os.getpid() * BLOCK % (LAST - FIRST)
    for first in (*range(start, LAST, BLOCK), *range(FIRST, start, BLOCK)):
        with socket.socket() as lease:
            try:
                lease.bind(("127.0.0.1", first + BLOCK - 1))
                for port in range(first, first + count):
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            yield first
            return
    raise RuntimeError("no free ports")


def command(backend: str, processes: int, port: int, *words: str) -> list[str]:
    """Return the command line that runs `python *words` in so many processes."""
    if backend == "torch":
        how = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [sys.executable, *how, *words]
    launcher = Path(sys.executable).with_name("mlx.launch")
    return [str(launcher), "-n", str(processes), "-p", str(port), "--", sys.executable, *words]


def surroundings(**environment: str) -> dict[str, str]:
    """Return the environment of a process that a test starts."""
    given = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return {**os.environ, **given, **environment}


@contextmanager
def started(backend: str, processes: int, *words: str, **environment: str) -> Iterator[Any]:
    """Yield the launcher of `python *words`; nothing that it started outlives the context."""
    with ports(processes) as port:
        # mlx.launch spins on an input that has ended, so it is given one that has not
        reading, writing = os.pipe()
        launcher = subprocess.Popen(
            command(backend, processes, port, *words),
            env=surroundings(**environment),
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield launcher
        finally:
            for handle in (reading, writing):
                os.close(handle)
            with suppress(ProcessLookupError):  # all have ended
                os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()


def run(backend: str, processes: int, *words: str, timeout: float = 240, **environment: str) -> Any:
    """Run `python *words` in so many processes and return what came of it."""
    with started(backend, processes, *words, **environment) as launcher:
        out, errors = launcher.communicate(timeout=timeout)
        return subprocess.CompletedProcess(launcher.args, launcher.returncode, out, errors)
