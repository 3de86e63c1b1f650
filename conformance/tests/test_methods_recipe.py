"""Methods in recipes, run folders and checkpoints: from a name on the command line to a resume."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import snnx
from snnx.cli import main
from snnx.methods import METHODS, Method, replace_layers, with_tdbn
from snnx.methods.rewrite import layers_in
from snnx.training import recipe, recipe_plan
from snnx.training.rundir import RunDir

TINY = ("-b", "numpy", "model.width=0.04", "batch_size=450", "--no-plots")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def train(*words: str) -> int:
    return main(["train", *TINY, *words])


def made(*words: str) -> dict[str, Any]:
    layers = [recipe.read_recipe("digits"), *map(recipe.override, words)]
    return recipe.resolve(layers).values


def test_every_method_is_named_as_it_calls_itself() -> None:
    assert {name: cls.name for name, cls in METHODS.items()} == {name: name for name in METHODS}


def test_a_plain_run_has_the_plain_method() -> None:
    assert made()["method"] == {"name": "plain"}
    plan = recipe_plan.make_plan(made(), snnx.data.load("digits"))
    assert plan.methods == (Method(),)


def test_a_method_brings_defaults_that_any_key_of_the_command_line_overrides() -> None:
    assert made()["objective"]["name"] == "tet"
    assert made("method=dspike")["objective"]["name"] == "sdt"
    for words in (("method=dspike", "objective=tet"), ("objective=tet", "method=dspike")):
        assert made(*words)["objective"]["name"] == "tet"


def test_an_option_of_a_method_is_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("method=dspike", "method.epz=0.3") == 2
    assert "method.epz (command line): unknown key; did you mean 'method.eps'" in (
        capsys.readouterr().err
    )
    assert train("method=despike") == 2
    assert "there is no method 'despike'; did you mean 'dspike'" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["tet", "dspike"])
def test_a_run_with_a_method_shows_it_and_resumes_bit_equal(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(f"method={method}", "--epochs", "2") == 0
    whole = Path(f"runs/digits-{method}-numpy-001")
    assert f"method {method}" in " ".join(capsys.readouterr().out.split())
    assert train(f"method={method}", "--epochs", "2", "-o", "part", "--max-steps", "4") == 0
    assert main(["train", "--resume", "part", "--no-plots"]) == 0
    for name in ("model.safetensors", "train_state.safetensors"):
        last = Path("checkpoints/last") / name
        assert (whole / last).read_bytes() == (Path("part") / last).read_bytes()
    rows = [RunDir(place).rows() for place in (whole, Path("part"))]
    cut = [[{k: v for k, v in row.items() if k != "seconds"} for row in run] for run in rows]
    assert cut[0] == cut[1]
    assert set(cut[0][0]["rates"]) == {"3", "7"}
    assert cut[0][0]["dials"]["lr"] == 0.005
    assert json.loads((whole / "result.json").read_text())["methods"] == [method]
    with (whole / "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [float(row["dials.lr"]) for row in found] == [row["dials"]["lr"] for row in cut[0]]


def test_rows_of_other_columns_keep_the_table_straight(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    figures = {"loss": 1.0, "test_accuracy": 0.5}
    run.epoch({"epoch": 1, **figures, "dials": {"lr": 0.5}})
    run.epoch({"epoch": 2, **figures, "dials": {"lr": 0.25, "temperature": 2.0}})
    run.epoch({"epoch": 3, **figures, "dials": {"lr": 0.125, "temperature": 3.0}})
    with (tmp_path / "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["dials.temperature"] for row in found] == ["", "2.0", "3.0"]


def test_replacing_nothing_returns_the_same_tree() -> None:
    tree = snnx.Chain(
        snnx.Input(4),
        snnx.Residual(snnx.Chain(snnx.Linear(4), snnx.LIF())),
        snnx.Linear(3),
        snnx.Recurrent(snnx.LIF()),
        snnx.DSR.integrate_and_fire(),
    )
    assert replace_layers(tree, lambda layer: layer) == tree
    assert sum(isinstance(layer, snnx.LIF) for layer in layers_in(tree)) == 3


def test_tdbn_scales_every_norm_by_alpha_times_the_threshold() -> None:
    tree = snnx.Chain(snnx.Input(4), snnx.Linear(4), snnx.BatchNorm(), snnx.LIF(threshold=0.5))
    norm = next(layer for layer in layers_in(with_tdbn(tree, 0.5, 0.5)) if layer != tree and
                isinstance(layer, snnx.BatchNorm))  # fmt: skip
    assert norm.scale == 0.25
    with pytest.raises(ValueError, match="no BatchNorm"):
        with_tdbn(snnx.Chain(snnx.Input(4), snnx.Linear(4)))


def test_a_combination_that_makes_no_sense_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("method=tet", "objective=sdt", "--dry-run") == 2
    assert "method tet: is the objective TET" in capsys.readouterr().err
