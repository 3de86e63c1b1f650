"""Reproduced claims: the records are whole, and every page says what its record holds."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "benchmarks" / "reproduce"
PAGES = ROOT / "docs" / "reproduction"
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = {
    "test_accuracy": 1.0,
    "validation_accuracy": 1.0,
    "psnr": 60.0,
    "ssim": 1.0,
    "kept_share": 1.0,
    "gradient_growth": 1e9,
}
CLAIMS = (
    "asgl_adaptive",
    "asgl_autoencoder",
    "asgl_backends",
    "asgl_dead",
    "asgl_noise",
    "asgl_sequences",
    "asgl_start",
    "asgl_width",
    "dspike_fashion",
    "dspike_fdg",
    "dspike_fdg_choices",
    "dspike_fdg_mnist",
    "dspike_fdg_training",
    "dsr",
    "dsr_ablation",
    "dsr_cost",
    "dsr_neurons",
    "energy",
    "tet",
    "tet_digits",
    "tet_long",
    "time_inheritance",
)


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the scripts be imported as they import each other, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (SCRIPTS / f"{name}.py").exists():
            del sys.modules[name]


def load(name: str) -> Any:
    """Return a script as a module."""
    return importlib.import_module(name)


def test_every_script_has_its_record_and_page() -> None:
    scripts = {path.stem for path in SCRIPTS.glob("[!_]*.py")} - {"common", "index"}
    assert scripts == set(CLAIMS) == set(load("index").CLAIMS)
    assert {path.stem for path in PAGES.glob("*.md")} == {*CLAIMS, "index"}


@pytest.mark.parametrize("path", sorted(RESULTS.glob("reproduce-*.json")), ids=lambda p: p.stem)
def test_a_record_says_what_was_run(path: Path) -> None:
    values = json.loads(path.read_text("utf-8"))
    claim = values["claim"]
    backend = path.stem.removeprefix(f"reproduce-{claim}").removeprefix("-") or "torch"
    assert path == load("common").record_path(claim, backend)
    assert backend in values["environment"]["backend"]
    assert values["settings"] == json.loads(json.dumps(load(claim).SETTINGS))
    assert values["runs"]
    for data in load("common").data_sets(values["data"]):
        assert data["label"] in ("real", "semi-synthetic")
    assert {"snnx", "commit", "python", "backend"} <= set(values["environment"])
    for run in values["runs"].values():
        named = [name for name in run if name in FIGURES]
        assert named
        assert all(0.0 <= run[name] <= FIGURES[name] for name in named)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_page_is_what_its_script_writes(claim: str) -> None:
    script = load(claim)
    text = (PAGES / f"{claim}.md").read_text("utf-8")
    assert text == script.page(load("common").Record(claim)), (
        f"run python benchmarks/reproduce/{claim}.py --page"
    )
    assert f"]({claim}.svg)" in text
    assert (PAGES / f"{claim}.svg").read_bytes().startswith(b"<?xml")


def test_the_summary_is_that_of_the_records() -> None:
    text = (PAGES / "index.md").read_text("utf-8")
    assert text == load("index").page(), "run python benchmarks/reproduce/index.py"


def test_a_row_of_the_summary_names_the_command_of_its_backend() -> None:
    rows = [line.split(" | ") for line in (PAGES / "index.md").read_text("utf-8").splitlines()]
    mlx = [row for row in rows if len(row) == 7 and "mlx" in (row[1] + row[3]).lower()]
    assert len(mlx) >= 5
    for row in mlx:
        assert ("--backend mlx" in row[5]) == ("numpy, torch, mlx" not in row[3]), row


def test_verdicts_follow_one_rule() -> None:
    common = load("common")
    assert common.difference([1.0, 3.0]) == "+2.00, standard error 1.00 (2 seeds)"
    assert common.clear([2.9, 3.1])
    assert not common.clear([1.0, 3.0])
    assert not common.clear([-3.0, -3.1])
    parts = [common.verdict_of_parts(held, 4) for held in (1, 2, 3, 4)]
    assert parts == [common.verdict(False), "in part", "in part", common.verdict(True)]
    assert common.verdict_of_likeness([1.0, -1.0]) == "no difference seen"
    assert common.verdict_of_likeness([-3.0, -3.1]) != "no difference seen"
    assert "| e |" not in common.verdicts([("a", "b", "c", "d", "e")])


def test_a_record_is_not_continued_with_other_settings() -> None:
    common = load("common")
    with pytest.raises(SystemExit, match="other settings"):
        common.Record("energy", {"T": 5})


def test_another_backend_has_its_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = load("common")
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    assert common.beside("nothing", "numpy") is None
    with pytest.raises(SystemExit, match="take runs on numpy first"):
        common.Record("nothing", backend="numpy")
    common.Record("nothing", {"T": 4}, "numpy").run("a", lambda: {"test_accuracy": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["reproduce-nothing-numpy.json"]
    found = common.beside("nothing", "numpy")
    assert found.runs["a"]["test_accuracy"] == 0.5
    assert "`python benchmarks/reproduce/nothing.py --backend numpy`" in common.provenance(found)
    with pytest.raises(SystemExit, match="take runs on torch first"):
        common.Record("nothing")


def test_a_run_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = load("common")
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    taken = []

    def take() -> dict[str, Any]:
        taken.append(1)
        return {"test_accuracy": 0.5}

    for _ in range(2):
        common.Record("nothing", {"T": 4}, "numpy").run("a", take)
    assert taken == [1]
    kept = common.Record("nothing", {"T": 4}, "numpy").runs["a"]
    assert kept["test_accuracy"] == 0.5


def test_a_run_names_its_commit_where_it_is_not_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = load("common")
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    record = common.Record("nothing", {"T": 4}, "numpy")
    for key, commit in (("a", "1111111"), ("b", "2222222"), ("c", "2222222")):
        monkeypatch.setattr(common, "_library_commit", lambda commit=commit: commit)
        record.run(key, lambda: {"test_accuracy": 0.5})
    assert [run.get("commit") for run in record.runs.values()] == [None, "2222222", "2222222"]
    assert "(1111111: 1 run, 2222222: 2 runs)" in common.provenance(record)


def test_statistics_and_tables() -> None:
    common = load("common")
    assert common.mean_deviation([1.0, 3.0]) == (2.0, pytest.approx(2.0**0.5))
    assert common.mean_deviation([2.0]) == (2.0, 0.0)
    assert common.percent([0.5, 0.7]) == "60.0 ± 14.1"
    assert common.table(["a", "b"], [[1, 2]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
