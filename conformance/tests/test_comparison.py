"""`snnx report`: one page for several runs, from their files alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from snnx.analysis.comparison import (
    ComparisonError,
    differences,
    groups_of,
    letters,
    read_runs,
)
from snnx.analysis.comparison_page import comparison_page
from snnx.analysis.comparison_plots import dial_curves, draw_comparison
from snnx.cli import main

HASH = "ab" * 32


def make_run(folder: Path, seed: int = 0, accuracy: float = 0.5, **changes: Any) -> Path:
    """Write the files of a run of two epochs; `changes` are settings, or keys of the result."""
    method = changes.pop("method", "asgl")
    result = {
        "test_accuracy": accuracy,
        "spikes_per_neuron_step": 0.125,
        "rates": {"2": 0.1 + accuracy / 10, "5": 0.2},
        "T": 3,
        "parameters": 1234,
        "objective": "SDT",
        "methods": [method],
        "seed": seed,
        "backend": "numpy",
        "device": "cpu",
        "data": {"id": "digits@abab", "hash": HASH, "label": "real", "name": "digits"},
        "seconds": 2.5,
        **changes.pop("result", {}),
    }
    config = {"seed": seed, "T": 3, "method": {"name": method}, "optim": {"lr": 0.1}, **changes}
    rows = [
        {"epoch": e, "loss": 2.0 / e, "test_accuracy": accuracy * e / 2, "T": 3}
        | {"dials": {"lr": 0.1 / e}, "rates": {"2": 0.1}, "width.2": 1.0, "width.5": 3.0}
        for e in (1, 2)
    ]
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(tomli_w.dumps(config), "utf-8")
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    (folder / "env.json").write_text(json.dumps({"command": ["snnx", "train", f"seed={seed}"]}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """Return three seeds of one recipe and a run of another."""
    seeds = [make_run(tmp_path / f"asgl-00{s}", s, 0.5 + 0.1 * s) for s in range(3)]
    return [*seeds, make_run(tmp_path / "tet", 0, 0.9, method="plain", optim={"lr": 0.2})]


def test_runs_that_differ_by_their_seed_are_one_group(four: list[Path]) -> None:
    groups = groups_of(read_runs(four))
    assert [(g.key, g.name, len(g.runs)) for g in groups] == [("A", "asgl", 3), ("B", "tet", 1)]
    assert differences(groups) == {"method.name": ["asgl", "plain"], "optim.lr": ["0.1", "0.2"]}
    text = comparison_page(read_runs(four))
    assert "60.00 ± 10.00" in text  # 50, 60, 70 %
    assert ">90.00<" in text
    assert "µJ" not in text  # no run recorded its energy
    with_energy = make_run(four[0].parent / "e", result={"energy": {"microjoules": 12.5}})
    assert "12.5" in comparison_page(read_runs([*four, with_energy]))


def test_one_recipe_alone_differs_by_nothing(four: list[Path]) -> None:
    assert "Nothing but the seed." in comparison_page(read_runs(four[:3]))


def test_a_setting_that_one_recipe_lacks_is_named(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", max_steps=4), make_run(tmp_path / "b", note="<b>")]
    found = differences(groups_of(read_runs(runs)))
    assert found == {"max_steps": ["4", "not set"], "note": ["not set", "<b>"]}
    text = comparison_page(read_runs(runs))
    assert "&lt;b&gt;" in text
    assert "<b>&" not in text
    assert "<details>" not in text  # few rows are read at a glance


def test_many_settings_of_one_run_alone_are_folded(tmp_path: Path) -> None:
    options = {"lr": 0.2, **{f"option{i}": i for i in range(9)}}
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", optim=options)]
    text = comparison_page(read_runs(runs))
    assert "<summary>9 settings that only some of the runs have</summary>" in text
    before, _, after = text.partition("<details>")
    assert "optim.lr" in before
    assert "optim.option8" not in before
    assert "optim.option8" in after


class Page(HTMLParser):
    """Collects what a page would fetch, its ids and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        places = [given.get(k) or "" for k in ("src", "href")]
        self.fetched += [p for p in places if p and not p.startswith("#")]
        self.fetched += [tag] if tag in ("script", "link", "iframe") else []


def test_the_page_needs_nothing_else(four: list[Path]) -> None:
    text = comparison_page(read_runs(four))
    page = Page()
    page.feed(text)
    assert not page.fetched
    assert len(page.ids) == len(set(page.ids))
    assert "url(http" not in text
    titles = ("Training loss", "Mean firing rate", "What the methods did", "Runs")
    assert all(title in text for title in titles)
    assert "Width of the surrogate, mean" in text
    assert "Learning rate" in text
    assert re.findall(r"snnx train seed=\d", text) == [f"snnx train seed={s}" for s in (0, 1, 2, 0)]


def test_pictures_are_those_that_the_files_allow(four: list[Path]) -> None:
    runs = read_runs(four)
    assert set(draw_comparison(groups_of(runs))) == {"curves", "rates", "dials"}
    curves = dial_curves(runs)
    assert set(curves) == {"lr", "width, mean"}
    np.testing.assert_array_equal(curves["width, mean"](runs[0])[1], [2.0, 2.0])
    (four[3] / "plots").mkdir()
    arrays: Any = {"accuracy_over_time": np.array([0.2, 0.4])}
    np.savez(four[3] / "plots" / "data.npz", **arrays)
    assert "time" in draw_comparison(groups_of(read_runs(four)))


def test_twenty_recipes_have_twenty_letters(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{i}", epochs=i) for i in range(20)]
    groups = groups_of(read_runs(runs))
    assert len({g.key for g in groups}) == 20
    assert [letters(i) for i in (0, 25, 26, 51, 52)] == ["A", "Z", "AA", "AZ", "BA"]
    assert comparison_page(read_runs(runs)).count("stroke-dasharray") > 0


def test_op_tables_that_differ_are_said(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", result={"spec_hash": "1"})
    b = make_run(tmp_path / "b", result={"spec_hash": "2"})
    assert "different op tables" in comparison_page(read_runs([a, b]))


def other_data(folder: Path) -> None:
    data = {"id": "mnist@cdcd", "hash": "cd" * 32, "label": "real"}
    result = json.loads((folder / "result.json").read_text("utf-8"))
    (folder / "result.json").write_text(json.dumps({**result, "data": data}), "utf-8")


def write(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text, "utf-8")


DAMAGE = {
    "other data": (other_data, "mnist@cdcd.*digits@abab.*same data"),
    "no result": (lambda folder: (folder / "result.json").unlink(), "did not end.*--resume"),
    "cut result": (write("result.json", '{"test_acc'), "result.json is not JSON"),
    "no table": (write("result.json", "[1]"), "result.json holds no table"),
    "no data": (write("result.json", '{"test_accuracy": 0.5}'), "does not name its data"),
    "cut metrics": (write("metrics.jsonl", '{"epoch": 1}\n{"ep'), "metrics.jsonl: 1 lines"),
    "no metrics": (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl"),
    "cut config": (write("config.toml", "seed = "), "config.toml is not TOML"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_runs_that_cannot_be_compared_end_with_2(
    kind: str, four: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = DAMAGE[kind]
    damage(four[3])
    out = tmp_path / "page.html"
    assert main(["report", *map(str, four), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert str(four[3]) in said
    assert not out.exists()


def test_mistakes_in_the_command_end_with_2(
    four: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(four[0])
    (tmp_path / "empty").mkdir()
    for words, message in [
        ([one, one], "named twice"),
        ([one, "-o", "x.html"], "two runs or more"),
        ([one, str(tmp_path / "none")], "no such folder"),
        ([one, str(tmp_path / "empty")], "neither metrics.jsonl nor"),
        ([str(tmp_path / "empty")], "neither metrics.jsonl nor"),
        ([], "Missing argument"),
    ]:
        assert main(["report", *words]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ComparisonError, match="two runs"):
        read_runs(four[:1])


def test_the_command_writes_the_pages(
    four: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *map(str, four)]) == 0
    assert Path(capsys.readouterr().out.strip()) == Path("runs/comparison.html")
    assert "4 runs on digits" in Path("runs/comparison.html").read_text("utf-8")
    assert main(["report", *map(str, four), "-o", "new/page.html"]) == 0
    first = Path("new/page.html").read_bytes()
    assert first == Path("runs/comparison.html").read_bytes()  # the same files, the same page
    assert main(["report", str(four[0])]) == 0
    assert "asgl-000" in (four[0] / "report.html").read_text("utf-8")


def test_no_framework_is_needed() -> None:
    code = "import sys, snnx.commands.report; print({'torch', 'mlx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_trained_runs_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-b", "numpy", "model.width=0.04", "batch_size=450", "T=2", "--max-steps", "1"]
    for seed in ("1", "2"):
        asked = ["train", *words, "--seed", seed, "--no-plots", "-q", "-o", f"seed-{seed}"]
        assert main(asked) == 0
    assert main(["report", "seed-1", "seed-2"]) == 0
    text = Path("runs/comparison.html").read_text("utf-8")
    assert "2 runs on digits" in text
    assert "Nothing but the seed." in text
    assert "Over seeds" in text
