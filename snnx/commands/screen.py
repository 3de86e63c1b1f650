"""What a command prints: lines on the screen, a plain copy in the log, errors on stderr."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from snnx.training.rundir import RunDir
from snnx.world import launched


class _Console(Console):
    """A console whose process ends where nobody reads it, unless it has a state to keep.

    A run stops as by a signal then, several processes of one together (`Screen.unread`).
    """

    unread = False
    keeps = False

    def on_broken_pipe(self) -> None:
        if not self.keeps and launched() is None:
            super().on_broken_pipe()
        self.quiet = self.unread = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Screen:
    """Prints for people, and with `as_json` one machine-readable last line."""

    def __init__(self, quiet: bool = False, as_json: bool = False, no_color: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.out = _Console(no_color=no_color or None, highlight=False, soft_wrap=True)
        self.err = _Console(stderr=True, no_color=no_color or None, highlight=False, soft_wrap=True)
        self.log: RunDir | None = None

    @property
    def unread(self) -> bool:
        """Whether what reads the screen has gone: a pipe's end, the launcher of processes."""
        return self.out.unread or self.err.unread

    def keep_state(self) -> None:
        """Let `unread` tell that the screen's reader has gone, rather than end the process."""
        self.out.keeps = self.err.keeps = True

    def follows(self) -> bool:
        """Tell whether another process prints and writes for this one, which then is silent."""
        launch = launched()  # rank 0 does it for all
        if launch is None or launch.rank == 0:
            return False
        self.quiet, self.as_json = True, False
        return True

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line, unless quiet, and log it."""
        if not self.quiet:
            self.out.print(Text(text, style=style))
        if self.log is not None:
            self.log.log(text)

    def panel(self, title: str, facts: Mapping[str, str]) -> None:
        """Print the facts of a run in a box."""
        wide = max(map(len, facts))
        lines = [f"{name:<{wide}}  {value}" for name, value in facts.items()]
        if not self.quiet:
            table = Table.grid(padding=(0, 2, 0, 0))  # a long fact goes on below itself
            for name, value in facts.items():
                table.add_row(Text(name), Text(value, overflow="fold"))
            self.out.print(Panel(table, title=title, expand=False), soft_wrap=False)
        if self.log is not None:
            self.log.log("\n".join([title, *lines]))

    def warn(self, text: str) -> None:
        """Print a warning on stderr, quiet or not."""
        self.err.print(Text(f"warning: {text}", style="yellow"))
        if self.log is not None:
            self.log.log(f"warning: {text}")

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Pass on, also to the log, what is said inside by `warnings.warn`, a RuntimeWarning."""
        with warnings.catch_warnings():
            others = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
                if issubclass(category, RuntimeWarning):
                    self.warn(str(message))
                else:
                    others(message, category, *rest)

            warnings.showwarning = show
            yield

    def error(self, text: str) -> None:
        """Print an error on stderr."""
        self.err.print(Text(f"error: {text}", style="red"))

    def final(self, values: Mapping[str, Any]) -> None:
        """Print the machine-readable last line, if it was asked for."""
        if self.as_json:
            print(json.dumps(values), flush=True)
