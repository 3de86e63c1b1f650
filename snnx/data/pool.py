"""One spawned pool of processes that decode samples, and what is said when one of them dies."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing import connection, reduction, util
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from snnx.data.arrays import DataError
from snnx.data.worker import IDLE, Done, Task, read, serve, write

PATIENCE = 300.0  # seconds without a sample after which a pool is taken to hang


class Pool:
    """`workers` processes that read `source`, each with a pipe of its own.

    A pipe, unlike a shared queue, has no lock that a killed process could keep; and where the
    parent is killed its end closes, so that no process stays behind.

    Raises: DataError where the source cannot be sent to another process.
    """

    def __init__(self, source: Any, workers: int, patience: float = PATIENCE) -> None:
        self.source, self.patience = source, patience
        context = multiprocessing.get_context("spawn")
        self.board = SharedMemory(create=True, size=8 * workers)
        for number in range(workers):
            write(self.board, number, IDLE)
        self.pipes: list[connection.Connection] = []
        self.processes: list[Any] = []
        self.outstanding = [0] * workers
        # before multiprocessing's own end, which would wait for processes that are still served
        self._end = util.Finalize(
            self, _end, (self.pipes, self.processes, self.board), exitpriority=100
        )
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve,
                args=(number, source, theirs, self.board.name),
                daemon=True,
                name=f"snnx decode {number}",
            )
            self.pipes.append(ours)
            try:
                process.start()
            except (AttributeError, TypeError, reduction.pickle.PicklingError) as error:  # type: ignore[attr-defined]
                self.close()
                raise DataError(
                    f"workers: {source.name!r} cannot be sent to another process ({error}); its "
                    "read must be a function or an object of a module, not a lambda or a closure"
                ) from error
            finally:
                theirs.close()
            self.processes.append(process)

    def __len__(self) -> int:
        """The number of processes."""
        return len(self.outstanding)

    def send(self, worker: int, task: Task) -> None:
        """Give a task to a process."""
        try:
            self.pipes[worker].send(task)
        except ConnectionError:
            self._lost(worker, task.split)
        self.outstanding[worker] += 1

    def receive(self, split: Any) -> Iterator[Done]:
        """Wait for tasks to end and yield them.

        Raises: DataError naming the sample that a process died over, or all that hang.
        """
        wanted = [*self.pipes, *(process.sentinel for process in self.processes)]
        ready = connection.wait(wanted, self.patience)
        if not ready:
            names = ", ".join(self._named(worker, split) for worker in range(len(self)))
            self.close()
            raise DataError(
                f"workers: nothing was decoded for {self.patience:.0f} s; the processes are at "
                f"{names}; is the file system there?"
            )
        for worker, pipe in enumerate(self.pipes):
            if pipe not in ready:
                continue
            try:
                done = pipe.recv()
            except (EOFError, ConnectionError):
                self._lost(worker, split)
            else:
                self.outstanding[worker] -= 1
                yield done
        for worker, process in enumerate(self.processes):
            if process.sentinel in ready and not self.pipes[worker].poll():
                self._lost(worker, split)

    def settle(self, split: Any) -> None:
        """Wait until nothing is being decoded; a pool that cannot be waited for is ended."""
        try:
            while any(self.outstanding):
                for _ in self.receive(split):
                    pass
        except DataError:
            self.close()

    def close(self) -> None:
        """End the processes."""
        self.outstanding = [0] * len(self)
        self._end()

    @property
    def closed(self) -> bool:
        """Tell whether the processes were ended."""
        return not self._end.still_active()

    def _lost(self, worker: int, split: Any) -> None:
        process, place = self.processes[worker], self._named(worker, split)
        process.join()
        code = process.exitcode
        self.close()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        hint = (
            "; out of memory? take fewer workers"
            if code < 0
            else "; what it wrote stands above (a script needs `if __name__ == '__main__':`)"
        )
        raise DataError(f"workers: process {worker} {how} at {place}{hint}")

    def _named(self, worker: int, split: Any) -> str:
        position = read(self.board, worker)
        return "no sample" if position == IDLE else named(self.source, split, position)


def named(source: Any, split: Any, position: int) -> str:
    """How a message names a sample: its place, and the file where there is one."""
    stored = getattr(source, "base", source)
    place = f"sample {position} of {source.name!r} {split}"
    if not hasattr(stored, "read"):
        return place
    item = stored.samples(split)[0][position]
    return f"{place}, {item[0] if isinstance(item, tuple) else item}"


def _end(pipes: list[Any], processes: list[Any], board: SharedMemory) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(1.0)
        if process.exitcode is None:
            process.kill()
            process.join()
    board.close()
    board.unlink()
