"""A disk, a folder, memory, a backend or a user that ends a run: what is said and what is kept."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import snnx
from snnx.backend import BackendError
from snnx.cli import main
from snnx.commands.watch import Watch
from snnx.training.loop import Row
from snnx.training.rundir import RunDir
from tests.command_line import TINY, train
from tests.command_line import empty_folder as empty_folder


def test_too_little_memory_is_no_fault_of_snnx(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 745. GiB")

    monkeypatch.setattr("snnx.training.loop.Batches.steps", full)
    assert train("-o", "run") == 1
    assert "out of memory: Unable to allocate 745. GiB; take a smaller" in capsys.readouterr().err


def test_a_backend_that_fails_while_it_is_opened_leaves_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(*arguments: object) -> None:
        raise BackendError("no GPU here")

    monkeypatch.setattr("snnx.training.progress.open_session", absent)
    assert train() == 4
    assert "no GPU here" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_full_output_folder_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/mine").write_text("keep")
    assert train("-o", "out") == 2
    assert "not empty" in capsys.readouterr().err
    assert [p.name for p in Path("out").iterdir()] == ["mine"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_named(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert train("-o", "out") == 1
    assert f"out: {os.strerror(number)}" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_with_its_last_checkpoint_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    flush = os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 8:  # the first checkpoint flushes four files and two folders
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert train("--epochs", "3", "-o", "run") == 1
    monkeypatch.setattr(os, "fsync", flush)
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert "the last checkpoint is whole" in message
    assert Path("run/FAILED").read_text().startswith("1\n")
    assert main(["info", "run"]) == 0


def test_a_disk_that_is_full_at_the_pictures_leaves_a_run_that_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("snnx.analysis.report.write_pictures", full)
    assert main(["train", *TINY[:-1], "--epochs", "1", "-o", "run"]) == 1
    assert "the run in run is whole, its pictures are not" in capsys.readouterr().err
    assert Path("run/DONE").exists()
    assert main(["eval", "run"]) == 0


def test_a_run_that_diverges_names_step_layer_and_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("optim=sgd", "optim.lr=1e38", "model.batch_norm=false", "--epochs", "9", "-o", "run")
    assert train(*words) == 6
    message = capsys.readouterr().err
    assert "step " in message
    assert "layer" in message
    assert Path("run/FAILED").read_text().startswith("6\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_checkpoint_and_ends_with_its_code(
    empty_folder: Path, number: int, code: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "snnx", "train", *TINY, "--epochs", "100000", "-o", "run"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics, deadline = empty_folder / "run" / "metrics.jsonl", time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "stopped in epoch" in err
    assert "go on with: snnx train --resume run" in out
    assert (empty_folder / "run" / "FAILED").read_text().startswith(f"{code}\n")
    assert main(["info", "run"]) == 0


def test_ctrl_c_while_modules_are_loaded_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snnx import __main__

    class Impatient:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "snnx.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "snnx.cli")
    monkeypatch.delattr(snnx, "cli")
    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    assert __main__.main() == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_second_ctrl_c_ends_at_once_with_the_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch = Watch.epoch

    def impatient(watch: Watch, row: Row) -> None:
        epoch(watch, row)
        if row["epoch"] == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Watch, "epoch", impatient)
    assert train("--epochs", "5", "-o", "run") == 130
    found = capsys.readouterr()
    assert "press Ctrl-C again" in found.out
    assert "go on with: snnx train --resume run" in found.out
    assert "error: interrupted" in found.err
    monkeypatch.setattr(Watch, "epoch", epoch)
    assert main(["info", "run"]) == 0
    assert main(["train", "--resume", "run", "--no-plots"]) == 0
    assert [row["epoch"] for row in RunDir(Path("run")).rows()] == [1, 2, 3, 4, 5]


def test_a_run_in_a_read_only_folder_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    before = sorted(Path("run").rglob("*"))

    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    for name in ("write_text", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, refuse)
    assert main(["train", "--resume", "run", "--epochs", "2", "--no-plots"]) == 1
    assert "Read-only file system" in capsys.readouterr().err
    assert main(["eval", "run"]) == 0
    assert sorted(Path("run").rglob("*")) == before


def test_a_run_whose_reader_has_gone_keeps_its_state() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "snnx", "train", *TINY, "--epochs", "10000", "-o", "run"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()  # as `| head -1` does
        assert process.wait(120) == 143
    assert Path("run/FAILED").read_text().startswith("143\nstopped in epoch ")
    found = RunDir(Path("run")).rows()
    assert main(["train", "--resume", "run", "--epochs", str(len(found) + 2), "--no-plots"]) == 0
