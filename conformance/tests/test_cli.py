"""The command line, mostly in this process: what it prints, keeps, and answers to mistakes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import snnx
from snnx.checkpoint import spec_hash
from snnx.cli import main
from tests.command_line import empty_folder as empty_folder
from tests.command_line import train


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
    monkeypatch.setattr("snnx.installed.installed", lambda name: name == "numpy")
    monkeypatch.setattr("snnx.commands.info.installed", lambda name: name == "numpy")
    assert main(["info"]) == 0
    assert 'pip install "snnx[torch]"' in capsys.readouterr().out
    assert main(["train"]) == 4
    message = capsys.readouterr().err
    assert 'pip install "snnx[torch]"' in message
    assert 'pip install "snnx[mlx]"' in message


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
