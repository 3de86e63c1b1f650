"""A fork that does one task after another, and a new one where the last was stopped or died."""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

FULL, FAILED = 8, 9  # what a task answers that ended by MemoryError or by another error
Work = Callable[[bytes, Path], int]


class Fork:
    """Runs `work` on programs of damage, each within `seconds` of processor time.

    The kernel ends the fork after that time, also where a library never comes back to Python. A
    fork for each input would be slow: every one copies the pages of memory that it touches.
    """

    def __init__(self, work: Work, seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.child, self.room = 0, resource.getrlimit(resource.RLIMIT_AS)
        self.tasks = self.answers = -1

    def ask(self, program: bytes, folder: Path) -> int:
        """What the task answered, or minus the signal that ended the fork."""
        if self.child and self.room != resource.getrlimit(resource.RLIMIT_AS):
            self.end()  # the new limit must hold for the fork too
        if not self.child:
            self._start()
        os.write(self.tasks, f"{program.hex()} {folder}\n".encode())
        answer = os.read(self.answers, 1)
        return answer[0] if answer else self.end()

    def end(self) -> int:
        """End the fork. Returns how it ended."""
        os.close(self.tasks)
        os.close(self.answers)
        code = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        self.child = 0
        return code

    def _start(self) -> None:
        self.room = resource.getrlimit(resource.RLIMIT_AS)
        (tasks, self.tasks), (self.answers, answers) = os.pipe(), os.pipe()
        self.child = os.fork()
        if self.child == 0:
            try:
                os.close(self.tasks)  # so that the fork ends with its parent
                os.close(self.answers)
                self._serve(tasks, answers)
            finally:
                os._exit(0)  # never go on with what the parent does
        os.close(tasks)
        os.close(answers)

    def _serve(self, tasks: int, answers: int) -> None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        with os.fdopen(tasks) as lines:
            for line in lines:
                program, _, folder = line.rstrip("\n").partition(" ")
                signal.setitimer(signal.ITIMER_PROF, self.seconds)
                try:
                    answer = self.work(bytes.fromhex(program), Path(folder))
                except MemoryError:
                    answer = FULL
                except BaseException:  # whatever it is, the parent reports it
                    traceback.print_exc()
                    answer = FAILED
                signal.setitimer(signal.ITIMER_PROF, 0)
                os.write(answers, bytes([answer]))
