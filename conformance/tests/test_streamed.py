"""Batches decoded by a pool of processes: the same batches, bounded, and clear when one dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamed_readers import Reader, numbers

import snnx
from snnx.data import Batches, DataError, Dataset, Lazy, Streamed
from snnx.data.ring import Ring, Shape
from snnx.training.recipe_data import prepared

WORKERS = [0, 1, 3]


@contextmanager
def streamed(source: Any, workers: int, **options: Any) -> Iterator[Any]:
    """Give the source itself for 0 workers."""
    if not workers:
        yield source
        return
    found = Streamed(source, workers, **options)
    try:
        yield found
    finally:
        found.close()


def equal(one: Any, two: Any) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert set(a) == set(b)
        for name in b:
            assert a[name].dtype == b[name].dtype
            assert np.array_equal(a[name], b[name])
            assert a[name].flags.c_contiguous


@pytest.mark.parametrize("workers", WORKERS)
def test_any_number_of_workers_gives_the_same_batches_from_anywhere(workers: int) -> None:
    wanted = [list(Batches(numbers(), "train", 8, 3).epoch(epoch)) for epoch in (0, 1)]
    held = list(Batches(numbers(), "test", 4, shuffle=False).epoch(0))
    assert not np.array_equal(wanted[0][0]["x"], wanted[1][0]["x"])
    with streamed(numbers(), workers) as source:
        batches = Batches(source, "train", 8, 3)
        assert (source.name, source.hash, source.classes) == ("numbers", numbers().hash, 5)
        equal(list(batches.epoch(0)), wanted[0])
        equal(list(batches.epoch(1, 3)), wanted[1][3:])  # resumed in the middle of an epoch
        equal(list(Batches(source, "test", 4, shuffle=False).epoch(0)), held)
        assert list(batches.epoch(0, len(batches))) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_padded_sequences_and_more_workers_than_samples(workers: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 7, 2)), np.arange(7) % 3
    length = np.array([1, 6, 2, 3, 6, 5, 4])
    data = Dataset(x, y, x, y, "padded", "synthetic", "TNF", length, length)
    with streamed(data, workers, prefetch=1) as source:
        equal(list(Batches(source, "train", 2).epoch(4)), list(Batches(data, "train", 2).epoch(4)))


def settled(log: Path) -> int:
    """Return how many items were read, once no more are."""
    seen = -1
    while seen != (seen := log.stat().st_size):
        time.sleep(0.7)
    return seen


@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_than_the_prefetched_batches_are_held(tmp_path: Path, prefetch: int) -> None:
    log = tmp_path / "log"
    with streamed(numbers(80, log=log), 2, prefetch=prefetch) as source:
        epoch = Batches(source, "train", 5).epoch(0)
        for taken in (1, 2, 3):
            next(epoch)
            # one more: the first sample is read here too, to know its shape
            assert settled(log) == 5 * (taken + prefetch) + 1


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("die", r"process \d was killed by signal 9 at sample 45 of 'numbers' train, .*45\.item"),
        ("leave", r"process \d ended with code 3 at sample 45 of 'numbers' train, .*45\.item"),
        ("mistake", r"process \d ended with code 1 at sample 45 of 'numbers' train, .*45\.item"),
        ("hang", r"nothing was decoded for 3 s; .*sample 45 of 'numbers' train, .*45\.item"),
    ],
)
def test_a_worker_that_dies_or_hangs_names_the_sample(deed: str, said: str) -> None:
    with streamed(numbers(deeds=((45, deed),)), 2) as source:
        batches = Batches(source, "train", 8, shuffle=False)
        list(zip(range(1), batches.epoch(0), strict=False))  # begins the processes
        processes, source._pool.patience = source._pool.processes, 3.0
        with pytest.raises(DataError, match=said):
            list(batches.epoch(0))
        assert not any(process.is_alive() for process in processes)
        # and others take their place
        equal(list(batches.epoch(0, 6)), list(Batches(numbers(), "train", 8, 0, False).epoch(0, 6)))


@pytest.mark.parametrize("workers", WORKERS)
def test_a_file_that_cannot_be_read_fails_at_its_batch(workers: int) -> None:
    with streamed(numbers(deeds=((29, "other"), (30, "disk"), (31, "disk"))), workers) as source:
        epoch = Batches(source, "train", 10, shuffle=False).epoch(0)
        assert [len(next(epoch)["y"]) for _ in range(2)] == [10, 10]
        with pytest.raises((DataError, ValueError), match=r"\(2, 4\)" if workers else "shape"):
            next(epoch)
    with streamed(numbers(deeds=((30, "disk"), (31, "disk"))), workers) as source:
        epoch = Batches(source, "train", 10, shuffle=False).epoch(0)
        assert [len(next(epoch)["y"]) for _ in range(3)] == [10, 10, 10]
        with pytest.raises((DataError, OSError), match=r"class/30\.item"):
            next(epoch)


def test_an_epoch_left_in_its_middle_gives_way_to_the_next() -> None:
    with streamed(numbers(), 2) as source:
        batches = Batches(source, "train", 8)
        old = batches.epoch(0)
        next(old)
        new = batches.epoch(1)
        first = next(new)
        with pytest.raises(DataError, match="another epoch was begun; one goes at a time"):
            next(old)
        equal([first, *new], list(Batches(numbers(), "train", 8).epoch(1)))


def test_training_on_streamed_data_is_training_on_the_data() -> None:
    model = snnx.Chain(snnx.Input(2, 3), snnx.Flatten(), snnx.Linear(5))
    options: Any = {"epochs": 2, "batch_size": 8, "backend": "numpy", "steps": 2}
    results = []
    for workers in (0, 2):
        with streamed(numbers(), workers) as source:
            found = snnx.fit(model, source, **options, max_steps=10)
            results.append((found.session.export().parameters, found.test.loss))
    assert results[0][1] == results[1][1]
    for path, weight in results[0][0].items():
        assert np.array_equal(weight, results[1][0][path])


def test_a_recipe_asks_for_workers() -> None:
    assert isinstance(prepared(numbers(), {"workers": 0}), Lazy)
    found = prepared(numbers(), {"workers": 2, "prefetch": 5, "validation": 0.5})
    assert isinstance(found, Streamed)
    assert (found.workers, found.prefetch, found.name) == (2, 5, "numbers-validation")
    for wrong in ({"workers": 0}, {"workers": 1, "prefetch": 0}, {"workers": 1.5}):
        with pytest.raises(DataError, match="a whole number of at least 1"):
            Streamed(numbers(), **wrong)  # type: ignore[arg-type]


def test_what_no_other_process_can_have_is_refused() -> None:
    reader = Reader()
    own = numbers()
    lazy = Lazy(
        own.items_train, own.y_train, own.items_test, own.y_test,
        lambda item, draws: reader(item, draws), "numbers", (2, 3), "1",
    )  # fmt: skip
    with streamed(lazy, 2) as source, pytest.raises(DataError, match="not a lambda or a closure"):
        next(Batches(source, "train", 8).epoch(0))


def test_shared_memory_is_asked_for_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape(3, 5, (2, 3))
    assert shape.total_bytes == 3 * (128 + 3 * 8 * 5)
    ring = Ring(shape)
    other = Ring(shape, ring.name)
    ring.slot(2)[0][4] = 7.0
    ring.slot(1)[1][:] = 1
    assert (other.slot(2)[0][4] == 7.0).all()
    assert not other.slot(1)[0].any()
    other.close()
    ring.close()
    with pytest.raises(FileNotFoundError):
        Ring(shape, ring.name)
    if not Path("/dev/shm").is_dir():
        pytest.skip("only Linux has a folder of shared memory")

    class Full:
        f_bavail, f_frsize = 0, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    with pytest.raises(DataError, match="smaller batch_size or prefetch"):
        Ring(shape)


KILLED = """
import os, signal
from snnx.data import Batches, Streamed
from streamed_readers import numbers

if __name__ == "__main__":
    source = Streamed(numbers(), 2)
    epoch = Batches(source, "train", 8).epoch(0)
    next(epoch)
    print(*(process.pid for process in source._pool.processes), flush=True)
    HOW
"""


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(0)"])
def test_no_process_outlives_the_one_that_began_it(tmp_path: Path, how: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED.replace("HOW", how))
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    if "Exit" in how:
        assert (done.returncode, done.stderr) == (0, "")
    for _ in range(100):
        pids = [pid for pid in pids if there(pid)]
        if not pids:
            return
        time.sleep(0.1)
    raise AssertionError(f"{pids} are still there")


def there(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
