"""Readers that another process can import: what a loader's worker may meet."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnx.data import Lazy


@dataclass(frozen=True)
class Reader:
    """Gives [2, 3] made of the item's number and a draw, and does `deeds` at some items.

    `log` is a file that gets a byte for every item read.
    """

    deeds: tuple[tuple[int, str], ...] = ()
    log: Path | None = None

    def __call__(self, item: Path, draws: Any) -> np.ndarray:
        number = int(item.stem)
        deed = dict(self.deeds).get(number, "")
        if deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "leave":
            os._exit(3)
        if deed == "mistake":
            raise TypeError("a reader that is wrong")
        if deed == "hang":
            time.sleep(60)
        if deed == "disk":
            raise OSError(5, "Input/output error", str(item))
        if deed == "other":
            return np.zeros((2, 4))
        if self.log is not None:
            with self.log.open("ab") as file:
                file.write(b".")
        return np.full((2, 3), number) + draws.uniform("some")[0, 0]


def numbers(count: int = 50, **reader: Any) -> Lazy:
    """Return that many items of which each is its own label modulo 5."""
    items = [Path("class") / f"{n}.item" for n in range(count)]
    y = np.arange(count) % 5
    return Lazy(items, y, items[:10], y[:10], Reader(**reader), "numbers", (2, 3), "1", random=True)
