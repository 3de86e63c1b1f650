"""What a run survives beside a kill: folders, readers, evaluation, memory, and a move."""

import errno
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnx import checkpoint as checkpoints
from snnx.cli import main
from snnx.commands.watch import Watch
from snnx.data import Batches
from snnx.training import faults, loop
from snnx.training.loop import Row
from snnx.training.rundir import RunDir
from snnx_numpy.session import NumpySession
from tests.command_line import TINY, train
from tests.command_line import empty_folder as empty_folder
from tests.test_training import Keep, data, plan, same

WEIGHTS = ("model.safetensors", "train_state.safetensors")


def equal(run: str | Path, other: str | Path) -> bool:
    """Tell whether the last checkpoints of two runs hold the same bits."""
    last = Path("checkpoints/last")
    return all(
        (run / last / name).read_bytes() == (other / last / name).read_bytes() for name in WEIGHTS
    )


def test_a_vanished_folder_ends_the_run_and_its_state_is_kept_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert train("--epochs", "4", "-o", "whole") == 0
    epoch = Watch.epoch

    def vanishing(watch: Watch, row: Row) -> None:
        epoch(watch, row)
        if row["epoch"] == 2:
            shutil.rmtree("run")

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "epoch", vanishing)
        assert train("--epochs", "4", "-o", "run") == 1
    found = capsys.readouterr()
    assert "run: the run's folder has vanished" in found.err
    assert not Path("run").exists()
    match = re.search(r"go on with: snnx train --resume (\S+)", found.out)
    assert match is not None
    saved = Path(match[1])
    assert main(["train", "--resume", str(saved), "--no-plots"]) == 0
    assert equal("whole", saved)
    assert [row["epoch"] for row in RunDir(saved).rows()] == [1, 2, 3, 4]


def test_where_no_disk_takes_anything_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    flush, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 16:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert train("--epochs", "3", "-o", "run") == 1
    found = capsys.readouterr()
    assert re.search(r"error: run/checkpoints/\S+: No space left on device", found.err)
    assert "the last checkpoint is whole: run/checkpoints/last" in found.err
    assert "--resume" not in found.out
    assert not list(tmp_path.glob("snnx-run-*"))
    checkpoints.read(Path("run/checkpoints/last"))


def test_a_file_that_may_grow_no_further_ends_the_run_and_keeps_it(empty_folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": "."}
    command = [sys.executable, "-m", "snnx", "train", *TINY, "--epochs", "10000", "-o", "run"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, preexec_fn=limit
    )
    assert done.returncode == 1, done.stderr
    assert re.search(r"error: run/\S+: File too large", done.stderr)
    assert "Traceback" not in done.stderr
    rows = RunDir(empty_folder / "run").rows()
    found = checkpoints.load(empty_folder / "run", lambda text: None)
    assert found.epoch >= len(rows) - 1 > 1


@pytest.mark.parametrize("fails_at", [0, 1, 4, 8])
def test_a_batch_that_cannot_be_read_loses_no_step(
    monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    whole = loop.start(plan(), data())
    loop.run(whole, loop.Nobody())
    take, left = Batches.take, [fails_at]

    def broken(batches: Batches, positions: Any, epoch: int = 0) -> Any:
        if batches.split == "train":
            if left[0] == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            left[0] -= 1
        return take(batches, positions, epoch)

    keep = Keep()
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "take", broken)
        with pytest.raises(OSError, match="Input/output error"):
            loop.run(loop.start(plan(), data()), keep)
    assert keep.checkpoints[-1].step == fails_at
    rest = loop.start(plan(), data(), keep.checkpoints[-1])
    loop.run(rest, loop.Nobody())
    same(whole.session, rest.session)


class Leaving(Keep):
    """A watcher that leaves the n-th batch of evaluation."""

    at: int = 0

    def leave_evaluation(self) -> bool:
        self.at -= 1
        return self.at == 0


@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_a_run_stopped_while_it_is_evaluated_goes_on_with_the_evaluation(at: int) -> None:
    whole, keep = loop.start(plan(), data()), Keep()
    loop.run(whole, keep)
    leaving = Leaving()
    leaving.at = at
    with pytest.raises(loop.Interrupted, match="stopped in the evaluation of epoch"):
        loop.run(loop.start(plan(), data()), leaving)
    rest, after = loop.start(plan(), data(), leaving.checkpoints[-1]), Keep()
    loop.run(rest, after)
    same(whole.session, rest.session)
    assert leaving.rows + after.rows == keep.rows


@pytest.mark.parametrize("every", [1, 2, 3, 4])
def test_a_run_goes_on_from_any_checkpoint_inside_an_epoch(every: int) -> None:
    asked = plan(checkpoint_steps=every)
    whole, keep = loop.start(asked, data()), Keep()
    loop.run(whole, keep)
    assert len(keep.checkpoints) == 3 + 12 // every
    for found in keep.checkpoints[::2]:
        rest = loop.start(asked, data(), found)
        loop.run(rest, loop.Nobody())
        same(whole.session, rest.session)


def test_a_loss_that_is_not_finite_names_its_batch(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("optim=sgd", "optim.lr=1e38", "model.batch_norm=false", "--epochs", "9", "-o", "run")
    assert train(*words) == 6
    found = re.search(
        r"step (\d+): .*; batch (\d) of epoch (\d): 4\d\d samples of 'digits' train, "
        r"at positions (\d+), .*; .*layer",
        capsys.readouterr().err,
    )
    assert found is not None
    step, batch, epoch, first = map(int, found.groups())
    assert step == 3 * (epoch - 1) + batch - 1
    order = Batches(loop.start(plan(), data()).dataset, "train", 450).order(0)
    assert len(order) == 18
    from snnx.data import load

    assert Batches(load("digits"), "train", 450).order(epoch - 1)[450 * (batch - 1)] == first
    assert checkpoints.load("run", lambda text: None).step <= step


@pytest.mark.parametrize("room", [449, 112, 5, 0])
def test_out_of_memory_names_the_batch_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], room: int
) -> None:
    value_and_grad = NumpySession.value_and_grad

    def limited(session: Any, batch: Any, *rest: Any, **options: Any) -> Any:
        if len(batch["index"]) > room:
            raise MemoryError("Unable to allocate 9 GiB")
        return value_and_grad(session, batch, *rest, **options)

    monkeypatch.setattr(NumpySession, "value_and_grad", limited)
    assert train("-o", "run") == 1
    message = capsys.readouterr().err
    assert "out of memory in a step of 450 samples at T=4 (Unable to allocate 9 GiB)" in message
    if room:
        size = next(450 >> i for i in range(9) if 450 >> i <= room)
        micro = -(-450 // size)
        assert f"take batch_size={size}, or keep the batch and go on with" in message
        words = [f"micro_batches={micro}", "--epochs", "1", "--no-plots"]
        assert main(["train", "--resume", "run", *words]) == 0
    else:
        assert "not even the gradients of one sample fit" in message


def test_what_a_failed_step_held_is_free_when_a_smaller_one_is_tried() -> None:
    def step() -> None:
        held = np.zeros(8)
        alive.append(weakref.ref(held))
        raise MemoryError

    alive: list[Any] = []
    try:
        step()
    except MemoryError as error:
        assert alive[0]() is not None
        faults._let_go(error)
        assert alive[0]() is None


@pytest.mark.slow
def test_a_decoding_process_that_dies_loses_no_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--epochs", "4", "batch_size=64", "-o", "whole") == 0
    epoch = Watch.epoch

    def deadly(watch: Watch, row: Row) -> None:
        epoch(watch, row)
        if row["epoch"] == 2:
            for process in multiprocessing.active_children():
                process.kill()
                process.join()

    words = ("--epochs", "4", "batch_size=64", "data.workers=2", "-o", "run")
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "epoch", deadly)
        assert train(*words) == 3
    assert "was killed by signal 9" in capsys.readouterr().err
    found = checkpoints.load("run", lambda text: None)
    assert found.step >= 2 * 22
    assert main(["train", "--resume", "run", "data.workers=1", "--no-plots"]) == 0
    assert equal("whole", "run")


def test_what_a_killed_run_was_writing_is_removed_when_it_goes_on() -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    stale = Path("run/checkpoints/.writing-1")
    stale.mkdir()
    (stale / "model.safetensors").write_bytes(b"half")
    assert main(["train", "--resume", "run", "--epochs", "2", "--no-plots"]) == 0
    assert not stale.exists()


def test_a_run_can_go_on_from_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("--epochs", "2", "-o", "whole") == 0

    def gone(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("snnx.commands.train.watched", gone)
        assert train("--epochs", "2", "-o", "run") == 130
    assert checkpoints.load("run", lambda text: None).step == 0
    assert main(["train", "--resume", "run", "--no-plots"]) == 0
    assert equal("whole", "run")
