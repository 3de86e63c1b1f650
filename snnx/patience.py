"""Waiting for other processes, but not for ever."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FAILED = 1  # the exit code of a run that failed
STDERR = 2
SPARE = 10.0  # seconds, at most, by which the end without Python comes after the one with a reason


class Patience:
    """Ends this process where it waits longer than `seconds` inside `waiting`.

    A thread blocked in a collective takes no exception and no signal, so that the end is
    `os._exit`; `tell` is called with the reason before. Where the wait holds Python's lock, no
    Python runs: a thread of C then prints where every thread stands, and ends the process.
    """

    def __init__(self, seconds: float, who: str, tell: Callable[[str], None] | None = None) -> None:
        self.seconds, self.who = seconds, who
        self.tell = tell or _print
        self._place, self._since = "", 0.0
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="snnx-patience", daemon=True).start()

    @contextmanager
    def waiting(self, place: str) -> Iterator[None]:
        """Wait for the others inside, at a place that the message names."""
        outer = self._begin(place, time.monotonic())
        try:
            yield
        finally:
            self._begin(*outer)

    def _begin(self, place: str, since: float) -> tuple[str, float]:
        """Wait at this place from now on, or nowhere, and return where it waited before."""
        with self._lock:
            before = self._place, self._since
            self._place, self._since = place, since
        if place:
            left = since + self.seconds + min(SPARE, self.seconds) - time.monotonic()
            faulthandler.dump_traceback_later(max(left, 0.1), exit=True, file=STDERR)
        else:
            faulthandler.cancel_dump_traceback_later()
        return before

    def _watch(self) -> None:
        while True:
            time.sleep(min(1.0, self.seconds / 4))
            with self._lock:
                place, since = self._place, self._since
            if place and time.monotonic() - since > self.seconds:
                self.tell(
                    f"{self.who}: waited {self.seconds:g} s for the other processes in {place}: "
                    "one of them hangs or has gone; the last checkpoint is whole, go on with "
                    "--resume (SNNX_TIMEOUT=SECONDS waits longer)"
                )
                os._exit(FAILED)


def _print(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)
