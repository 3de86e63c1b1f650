"""Exit codes: which mistake ends a command with which number, without a traceback.

0 done   1 the run failed   2 usage or recipe   3 data or checkpoint   4 backend or device
5 a check failed   6 diverged   130 interrupted (Ctrl-C)   143 terminated (SIGTERM)
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from snnx.backend import BackendError
from snnx.checkpoint import CheckpointError
from snnx.commands.screen import Screen
from snnx.data import DataError
from snnx.program import ShapeError
from snnx.serial import SerialError
from snnx.training.faults import OutOfMemory
from snnx.training.loop import Diverged, Interrupted
from snnx.training.recipe import RecipeError
from snnx.training.rundir import RunDirError
from snnx.world import RankLost, launched

F = TypeVar("F", bound=Callable[..., Any])
FAILED, USAGE, DATA, BACKEND, CHECK, DIVERGED = 1, 2, 3, 4, 5, 6
INTERRUPTED, TERMINATED = 130, 143  # 128 + the number of SIGINT and SIGTERM


class Terminated(Interrupted):
    """The run was asked to stop by SIGTERM; its checkpoint is written."""


CODES: tuple[tuple[type[BaseException], int], ...] = (
    (RecipeError, USAGE),
    (RunDirError, USAGE),
    (ShapeError, USAGE),
    (SerialError, USAGE),
    (DataError, DATA),
    (CheckpointError, DATA),
    (BackendError, BACKEND),
    (Diverged, DIVERGED),
    (Terminated, TERMINATED),
    (Interrupted, INTERRUPTED),
    (KeyboardInterrupt, INTERRUPTED),
    (RankLost, FAILED),
    (OSError, FAILED),
    (MemoryError, FAILED),
)


def code_of(error: BaseException) -> int | None:
    """Return the exit code of a foreseen failure; None for a fault of snnx."""
    return next((code for kind, code in CODES if isinstance(error, kind)), None)


def reason_of(error: BaseException) -> str:
    """Return what to tell the user."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    if isinstance(error, MemoryError) and not isinstance(error, OutOfMemory):
        return f"out of memory: {error or 'no more'}; take a smaller batch_size, T or model"
    return str(error)


def _say(error: BaseException) -> None:
    """Print a failure; of one that all processes of a run share, rank 0 speaks for all."""
    launch = launched()
    rank = 0 if launch is None else launch.rank
    if rank == 0:
        Screen().error(reason_of(error))
    elif not isinstance(error, Diverged | Interrupted | KeyboardInterrupt):
        named = f"rank {rank}: "
        Screen().error(named + reason_of(error).removeprefix(named))


def guarded(command: F) -> F:
    """Turn foreseen failures of a command into a line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:
            # the reader of a pipe has gone: nothing is left to say, also not at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except tuple(kind for kind, _ in CODES) as error:
            _say(error)
            raise typer.Exit(code_of(error) or FAILED) from None

    return run  # type: ignore[return-value]
