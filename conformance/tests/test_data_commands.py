"""The commands `snnx data ...` as a user types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from snnx import data
from snnx.commands.data import app


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SNNX_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def test_list_names_every_set_with_its_label() -> None:
    code, output = run("list", "--json")
    assert code == 0
    rows = json.loads(output.splitlines()[-1])
    assert set(rows) == set(data.DATASETS)
    assert rows["digits"]["where"]
    assert rows["mnist"]["where"] is None
    assert rows["saccade-mnist"]["label"] == "semi-synthetic"


@pytest.mark.parametrize("command", ["where", "verify", "preview"])
def test_missing_data_end_with_exit_code_3_and_the_steps(command: str) -> None:
    code, output = run(command, "cifar10")
    assert code == 3
    assert "cifar-10-binary.tar.gz" in output.replace("\n", "")


def test_an_unknown_name_ends_with_exit_code_3() -> None:
    assert run("where", "minst")[0] == 3
    assert run("get", "digits")[0] == 3


def test_saccade_events_are_made_shown_and_keep_their_label(tmp_path: Path) -> None:
    code, output = run("make", "saccade", "--train", "6", "--test", "3", "--frames", "4", "--json")
    assert code == 0
    made = json.loads(output.splitlines()[-1])
    assert (made["label"], made["train"], made["test"]) == ("semi-synthetic", 6, 3)
    code, output = run("where", made["path"], "--json")
    assert code == 0
    again = json.loads(output.splitlines()[-1])
    assert {k: again[k] for k in ("label", "hash", "source", "licence")} == {
        k: made[k] for k in ("label", "hash", "source", "licence")
    }
    assert run("preview", made["path"], "--n", "2", "--out", "p.png")[0] == 0
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert not list(tmp_path.glob(".*.part"))
