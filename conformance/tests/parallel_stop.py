"""`snnx train` in which the last process is told to stop: WHOM, then the command's words.

In its third epoch the process sends SIGTERM to itself ("one"), to its launcher ("launcher") or to
launcher and processes at once ("group"); "nobody" is told to stop.
"""

import os
import signal
import sys
from typing import Any

from snnx.cli import main
from snnx.data import Batches
from snnx.launch import launched
from snnx.training import loop


def stopping(whom: str, take: Any) -> Any:
    sent = []

    def stop(self: Any, positions: Any, epoch: int = 0) -> Any:
        if self.split == "train" and epoch == 2 and not sent:
            sent.append(epoch)
            if whom == "one":
                os.kill(os.getpid(), signal.SIGTERM)
            elif whom == "launcher":
                os.kill(os.getppid(), signal.SIGTERM)
            else:
                os.killpg(0, signal.SIGTERM)
        return take(self, positions, epoch)

    return stop


def telling(end: Any, folder: str, rank: int) -> Any:
    def tell(training: Any, *rest: Any) -> Any:
        with open(f"{folder}.steps", "a") as file:  # noqa: PTH123  (beside the run's folder)
            file.write(f"{rank} {training.step}\n")
        return end(training, *rest)

    return tell


if __name__ == "__main__":
    launch = launched()
    assert launch is not None
    whom, folder, *words = sys.argv[1:]
    if whom != "nobody" and launch.rank == int(os.environ["LAST"]):
        Batches.take = stopping(whom, Batches.take)  # type: ignore[method-assign]
    loop._end = telling(loop._end, folder, launch.rank)
    code = main(words)
    with open(f"{folder}.codes", "a") as file:  # noqa: PTH123
        file.write(f"{launch.rank} {code}\n")
    raise SystemExit(code)
