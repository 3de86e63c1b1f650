"""What stands between a run and its folder, the screen and the signals."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from snnx.checkpoint import Checkpoint
from snnx.commands.failures import DIVERGED, INTERRUPTED, TERMINATED, Terminated
from snnx.commands.screen import Screen
from snnx.rotation import by_age
from snnx.training import loop
from snnx.training.loop import Interrupted, Row, Training
from snnx.training.rundir import RunDir

KEPT_ROWS = 1000  # what is known of a run whose folder has vanished


class Follow(loop.Nobody):
    """Keeps nothing, since another process does, and stops the run when a signal asks."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.asked = 0  # the signal

    def stop(self) -> bool:
        if self.screen.unread and not self.asked:
            self.asked = signal.SIGTERM  # its launcher, or what it was piped into, has ended
        return bool(self.asked)

    def leave_evaluation(self) -> bool:
        return self.stop()

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: the first ends the run after this step, a second Ctrl-C at once."""
        if self.asked:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.asked = number
        # the signal may come while the screen or the log is written, or when they cannot be
        with suppress(OSError, RuntimeError):
            self.screen.line("stopping after this step; press Ctrl-C again to quit at once")


class Watch(Follow):
    """Keeps a run in its folder and on the screen, and stops it when a signal asks."""

    def __init__(self, folder: RunDir, screen: Screen, epochs: int) -> None:
        super().__init__(screen)
        self.folder, self.epochs = folder, epochs
        self.refused = False  # the folder cannot be written
        self.rows: deque[Row] = deque(maxlen=KEPT_ROWS)

    def epoch(self, row: Row) -> None:
        self.rows.append(row)
        with self._writing():
            self.folder.epoch(row)
            self._print(row)

    def _print(self, row: Row) -> None:
        rate = row.get("spikes_per_neuron_step")
        self.screen.line(
            f"epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}  "
            f"loss {row['loss']:.3f}  train {100 * row['train_accuracy']:5.1f} %  "
            f"test {100 * row['test_accuracy']:5.1f} %  "
            + ("" if rate is None else f"spikes {rate:.3f}/neuron-step  ")
            + f"{row['seconds']:.1f} s"
        )

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._writing():
            self.folder.checkpoint(checkpoint)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.refused = True
            raise


def watched(training: Training, watch: Follow) -> Any:
    """Run with the signals of Ctrl-C and `kill` caught; only a main thread may.

    Several processes end by the signal that any of them was sent.
    """
    if threading.current_thread() is not threading.main_thread():
        return loop.run(training, watch)
    world = training.world
    old = {number: signal.signal(number, watch.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return loop.run(training, watch)
    except Interrupted as error:
        asked = int(world.gather(np.array(watch.asked)).max())
        if world.size > 1:
            # a launcher ends the others as soon as one has ended; let them say what is kept
            old.pop(signal.SIGTERM)
        raise (Terminated(str(error)) if asked == signal.SIGTERM else error) from None
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def say_what_is_kept(screen: Screen, folder: RunDir, code: int | None, saved: Path | None) -> None:
    """Print which checkpoint a run that ended early leaves, and how to go on."""
    found = by_age(folder.checkpoints)
    if not folder.path.is_dir():
        screen.error(f"{folder.path}: the run's folder has vanished, its checkpoints with it")
    if saved is not None:
        screen.line(f"the state is kept elsewhere; go on with: snnx train --resume {saved}")
        return
    if not found:
        screen.error("no checkpoint is there")
        return
    last = found[0]
    if code in (INTERRUPTED, TERMINATED):
        screen.line(f"go on with: snnx train --resume {folder.path}")
    elif code == DIVERGED:
        screen.error(
            f"the last good checkpoint is {last}; --resume {folder.path} goes on from there, "
            "with another --precision perhaps; a smaller optim.lr or a clip_norm needs a new run"
        )
    else:
        screen.error(f"the last checkpoint is whole: {last}")
