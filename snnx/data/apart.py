"""A file read in a process of its own with a deadline, where a library could loop or crash on it.

What the library does to a damaged file then ends that process and not the one that trains. Arrays
come back in NumPy's own format through a pipe; nothing in them is executed.
"""

from __future__ import annotations

import importlib
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from snnx.data.arrays import DataError

LEAST = 20.0  # seconds for any file, of which starting the process takes about half a second
BYTES_PER_SECOND = 4 << 20  # far below what a slow disk gives
REFUSED = 3  # the exit code where standard output holds the reader's DataError
PROGRAM = "import sys; from snnx.data.apart import serve; serve(*sys.argv[1:])"

Read = Callable[[Path], Sequence[NDArray[Any]]]


def deadline(size: int) -> float:
    """Seconds in which a file of `size` bytes must be read: 20 and one for every 4 MiB."""
    return LEAST + size / BYTES_PER_SECOND


def read_apart(read: Read, path: Path, structure: str) -> list[NDArray[Any]]:
    """The arrays that `read`, a function of a module, finds in a file, read by another process.

    `structure` names what a damaged file has that may not end, as in "HDF5 structure".

    Raises: DataError as `read` does, and if it takes longer than the deadline of the file's size or
    its process dies of a signal; RuntimeError if it ends by another error, a fault of the code.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    seconds = deadline(path.stat().st_size)
    words = [read.__module__, read.__qualname__, str(path), str(int(seconds) + 1)]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM, *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise _endless(path, structure, seconds) from None
    if done.returncode == -signal.SIGXCPU:
        raise _endless(path, structure, seconds)
    if done.returncode < 0:
        raise DataError(
            f"{path}: reading it ended its process by signal {-done.returncode}: the file is "
            "damaged, or memory ran out; get it again"
        )
    if done.returncode == REFUSED:
        raise DataError(os.fsdecode(done.stdout))
    if done.returncode:
        raise RuntimeError(
            f"{path}: the process that read it ended with exit code {done.returncode}:\n"
            + os.fsdecode(done.stderr[-4000:])
        )
    stream, found = io.BytesIO(done.stdout), []
    while stream.tell() < len(done.stdout):
        found.append(npy.read_array(stream, allow_pickle=False))
    return found


def _endless(path: Path, structure: str, seconds: float) -> DataError:
    return DataError(
        f"{path}: its {structure} does not end: the file is damaged; reading it was stopped after "
        f"{seconds:.0f} s, get it again"
    )


def serve(module: str, name: str, path: str, seconds: str) -> None:
    """What the other process does: read, and write the arrays to standard output.

    It limits its own processor time too, so that it ends where nobody is left to stop it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = int(seconds) if hard == resource.RLIM_INFINITY else min(int(seconds), hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
    read: Read = getattr(importlib.import_module(module), name)
    try:
        found = read(Path(path))
    except DataError as error:
        _refuse(str(error))
    except MemoryError:
        _refuse(f"{path}: what it declares does not fit into memory; the file may be damaged")
    else:
        for array in found:
            npy.write_array(sys.stdout.buffer, np.ascontiguousarray(array), allow_pickle=False)
        sys.stdout.buffer.flush()


def _refuse(message: str) -> None:
    sys.stdout.buffer.write(os.fsencode(message))
    sys.stdout.buffer.flush()
    sys.exit(REFUSED)
