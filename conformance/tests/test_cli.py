"""The command line, mostly in this process: what it prints, keeps, and answers to mistakes."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import snnx
from snnx.backend import BackendError
from snnx.checkpoint import spec_hash
from snnx.cli import main
from snnx.training import rundir

TINY = ("-b", "numpy", "model.width=0.04", "batch_size=450", "--no-plots")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in a folder that holds nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def train(*words: str) -> int:
    return main(["train", *TINY, *words])


def npz(path: Path, samples: int = 12) -> Path:
    y = np.arange(samples) % 3
    x = np.eye(3, dtype=np.float32)[y]
    np.savez(path, x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    return path


def model_file(path: Path, inputs: int = 3) -> Path:
    model = snnx.Chain(snnx.Input(inputs), snnx.Linear(4), snnx.LIF(), snnx.Linear(3))
    path.write_text(snnx.dumps(model))
    return path


def test_a_run_leaves_everything_in_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "2") == 0
    run = Path("runs/digits-tet-numpy-001")
    assert Path("runs/latest").resolve() == run.resolve()
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.toml", "env.json", "metrics.jsonl", "metrics.csv", "log.txt", "checkpoints",
        "result.json", "DONE",
    }  # fmt: skip
    assert len((run / "metrics.csv").read_text().splitlines()) == 3
    result = json.loads((run / "result.json").read_text())
    assert 0.0 <= result["test_accuracy"] <= 1.0
    assert result["data"]["label"] == "real"
    assert len(result["data"]["hash"]) == 64
    assert result["spec_hash"] == spec_hash()
    printed = capsys.readouterr().out
    assert "digits (real)  1347 train  450 test" in printed
    assert "epoch 2/2" in printed
    assert "next:  snnx plot" in printed
    assert "epoch 2/2" in (run / "log.txt").read_text()
    assert train("--epochs", "1") == 0
    assert Path("runs/latest").resolve().name == "digits-tet-numpy-002"


def test_json_prints_one_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "1", "-q", "--json", "-o", "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["run"] == "out"
    assert main(["eval", "out", "--T", "1,3", "-q", "--json", "--out", "eval.json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["T"] for row in found["results"]] == [1, 3]
    assert json.loads(Path("eval.json").read_text())["results"] == found["results"]


def test_ones_own_data_and_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"data={npz(tmp_path / 'd.npz')}", f"model={model_file(tmp_path / 'm.json')}"]
    assert main(["train", *words, "-b", "numpy", "--epochs", "1", "--no-plots"]) == 0
    assert "d (unstated)  12 train  6 test" in capsys.readouterr().out
    assert main(["eval", "runs/latest", "--per-class"]) == 0
    assert "class 2" in capsys.readouterr().out
    assert main(["info", "runs/latest", "--json"]) == 0
    assert '"parameters": 31' in capsys.readouterr().out


def test_print_config_names_origins_and_dry_run_writes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--epochs", "3", "--print-config") == 0
    printed = capsys.readouterr().out
    assert "epochs = 3                         # --epochs" in printed
    assert "width = 0.04                       # command line" in printed
    assert train("--dry-run") == 0
    assert not Path("runs").exists()


def test_a_resumed_run_is_bit_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "3", "-o", "whole") == 0
    assert train("--epochs", "3", "-o", "part", "--max-steps", "4") == 0
    assert main(["train", "--resume", "part", "--no-plots"]) == 0
    assert "resumed on numpy at epoch 2, optimiser step 4" in capsys.readouterr().out
    for name in ("model.safetensors", "train_state.safetensors"):
        last = Path("checkpoints/last") / name
        assert ("whole" / last).read_bytes() == ("part" / last).read_bytes()
    rows = [rundir.RunDir(Path(name)).rows() for name in ("whole", "part")]
    cut = [[{k: v for k, v in row.items() if k != "seconds"} for row in run] for run in rows]
    assert cut[0] == cut[1]


def test_a_resumed_run_refuses_another_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    assert main(["train", "--resume", "run", "model.width=0.1", "T=2"]) == 2
    message = capsys.readouterr().err
    assert "T, model.width: cannot change in a resumed run" in message
    assert main(["train", "--resume", "run", "digits"]) == 2
    assert main(["train", "--resume", "none"]) == 2


@pytest.mark.parametrize("part", ["checkpoints", "checkpoints/last"])
def test_checkpoints_alone_are_no_run_to_go_on_with(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    before = sorted(Path("run").rglob("*"))
    assert main(["train", "--resume", f"run/{part}", "--epochs", "2"]) == 2
    assert "is no run's folder" in capsys.readouterr().err
    assert sorted(Path("run").rglob("*")) == before
    assert main(["eval", f"run/{part}"]) == 0


@pytest.mark.parametrize("junk", [b"{", b"[1]\n", b'{"epoch": 1}\n', b"\xff\x00\n"])
def test_a_run_whose_notes_are_damaged_goes_on(
    junk: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--epochs", "2", "-o", "run") == 0
    Path("run/env.json").write_bytes(junk)
    rows = Path("run/metrics.jsonl")
    rows.write_bytes(rows.read_bytes() + junk)
    assert main(["info", "run"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "3", "--no-plots"]) == 0
    assert [row["epoch"] for row in rundir.RunDir(Path("run")).rows()] == [1, 2, 3]
    assert len(json.loads(Path("run/env.json").read_text())["before"]) == 1


def test_too_little_memory_is_no_fault_of_snnx(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 745. GiB")

    monkeypatch.setattr("snnx.training.loop.Batches.epoch", full)
    assert train("-o", "run") == 1
    assert "out of memory: Unable to allocate 745. GiB; take a smaller" in capsys.readouterr().err


def test_a_damaged_checkpoint_falls_back_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "2", "-o", "run") == 0
    path = Path("run/checkpoints/last/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["train", "--resume", "run", "--no-plots"]) == 0
    found = capsys.readouterr()
    assert "going on with the checkpoint before it" in found.err
    assert "at epoch 2, optimiser step 3" in found.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("train", "digit"), 2, "did you mean 'digits'"),
        (("train", "none.toml"), 2, "none.toml: cannot be read"),
        (("train", "lr=1"), 2, "did you mean 'optim.lr'"),
        (("train", "epochs=0"), 2, "greater than or equal to 1"),
        (("train", "T=99999999999"), 2, "less than or equal to"),
        (("train", "name=../mine"), 2, "name (command line)"),
        (("train", "optim.betas=[0.9, 2.0]"), 2, "betas must be in [0, 1)"),
        (("train", "model.width=-1"), 2, "width"),
        (("train", "--epochs", "many"), 2, "'--epochs'"),
        (("trian",), 2, "train"),
        (("train", "data=none.npz"), 3, "there is no such file"),
        (("train", "data=digit"), 3, "did you mean 'digits'"),
        (("train", "-b", "jax"), 4, "no backend 'jax'"),
        (("train", "-b", "numpy", "--device", "cuda"), 4, "runs on cpu, not 'cuda'"),
        (("train", "-b", "numpy", "--precision", "bf16"), 4, "not 'bf16'"),
        (("train", "-b", "numpy", "compile=true"), 4, "nothing to compile"),
        (("eval", "none"), 2, "there is no such folder"),
        (("eval", "."), 3, "holds no checkpoint"),
        (("eval", ".", "--T", "1,x"), 2, "whole numbers"),
        (("info", "none"), 2, "expects backends"),
        (("plot", "none"), 2, "there is no such folder"),
        (("data", "where", "none"), 3, "there is no data set"),
    ],
)
def test_a_mistake_has_its_code_and_no_traceback(
    words: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == code
    found = capsys.readouterr()
    assert message in " ".join(found.err.split())
    assert "Traceback" not in found.err
    assert not Path("runs").exists()


def test_without_a_framework_info_works_and_train_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("snnx.backend.installed", lambda name: name == "numpy")
    monkeypatch.setattr("snnx.commands.info.installed", lambda name: name == "numpy")
    assert main(["info"]) == 0
    assert 'pip install "snnx[torch]"' in capsys.readouterr().out
    assert main(["train"]) == 4
    message = capsys.readouterr().err
    assert 'pip install "snnx[torch]"' in message
    assert 'pip install "snnx[mlx]"' in message


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


def test_ctrl_c_writes_a_checkpoint_and_ends_with_130(empty_folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "snnx", "train", *TINY, "--epochs", "100000", "-o", "run"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics, deadline = empty_folder / "run" / "metrics.jsonl", time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped in epoch" in err
    assert "go on with: snnx train --resume run" in out
    assert (empty_folder / "run" / "FAILED").read_text().startswith("130\n")
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


def test_conform_gets_its_arguments_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    seen: list[list[str]] = []
    module = types.ModuleType("snnx_conformance.run")

    def check(argv: list[str]) -> int:
        seen.append(argv)
        return 5

    module.main = check  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snnx_conformance.run", module)
    assert main(["conform", "--backends", "numpy", "--level", "ops"]) == 5
    assert main(["conform", "--help"]) == 5
    assert seen == [["--backends", "numpy", "--level", "ops"], ["--help"]]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"snnx {snnx.__version__}\n"
    assert main(["train", "--help"]) == 0
    assert "--resume" in capsys.readouterr().out
