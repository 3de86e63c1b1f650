"""Starting processes as a person does: torchrun or mlx.launch, by their module or command."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def free_port(count: int) -> int:
    """Return the first of `count` ports that follow each other and are free."""
    for first in range(41000 + os.getpid() % 16000, 64000, 16):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise RuntimeError("no free ports")


def command(backend: str, processes: int, *words: str) -> list[str]:
    """Return the command line that runs `python *words` in so many processes."""
    if backend == "torch":
        how = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [sys.executable, *how, *words]
    launcher = Path(sys.executable).with_name("mlx.launch")
    port = str(free_port(processes))
    return [str(launcher), "-n", str(processes), "-p", port, "--", sys.executable, *words]


def run(backend: str, processes: int, *words: str, timeout: float = 240, **environment: str) -> Any:
    """Run `python *words` in so many processes and return what came of it."""
    given = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        command(backend, processes, *words),
        env={**os.environ, **given, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
