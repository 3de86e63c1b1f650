"""The pictures of a run: which neurons and samples they show, and when each is drawn."""

import re
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from snnx.analysis import plots, style, write_pictures, write_report
from snnx.analysis.raster import chosen_neurons, chosen_samples
from snnx.analysis.rundata import read_run
from tests.small_runs import (
    ROW,
    SEQUENCE,
    SILENT,
    TINY,
    Played,
    full_run,
    run_dir,
    sequences,
    session_of,
    some_digits,
)
from tests.small_runs import drawn as drawn


@pytest.mark.parametrize("total", [1, 31, 32, 33, 1024, 4096, 6272, 65536])
def test_chosen_neurons_are_distinct_ordered_and_of_many_channels(total: int) -> None:
    chosen = chosen_neurons(total)
    assert len(chosen) == min(total, 32)
    assert (np.diff(chosen) > 0).all()
    assert chosen[-1] < total
    if total % 64 == 0:
        assert len(set(chosen % 64)) == 32


def test_chosen_samples_are_of_different_classes() -> None:
    y = np.array([3, 3, 1, 0, 1, 2, 4])
    assert y[chosen_samples(y)].tolist() == [0, 2, 4]
    assert chosen_samples(np.zeros(9, np.int64)).tolist() == [0]


def test_every_picture_of_a_run_is_drawn_again_without_a_session(
    drawn: Path, tmp_path: Path
) -> None:
    first = {p.name: p.read_bytes() for p in (drawn / "plots").glob("*.svg")}
    folder = tmp_path / "run"
    shutil.copytree(drawn, folder, ignore=shutil.ignore_patterns("*.svg"))
    # a landscape is computed where it is asked for; this run has no method and no result
    on_demand = {"landscape", "method", "energy"}
    assert set(first) == {f"{name}.svg" for name in set(plots.DRAWINGS) - on_demand}
    again = plots.main(folder)
    assert {p.name: p.read_bytes() for p in again} == first


@pytest.mark.parametrize("format", style.FORMATS)
def test_pictures_are_written_in_each_format(tmp_path: Path, format: str) -> None:
    (path,) = plots.main(run_dir(tmp_path / "run"), "curves", format)
    start = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[format]
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    "rows",
    [
        [ROW],
        [{**ROW, "loss": float("nan")}, {**ROW, "epoch": 2, "loss": float("inf")}],
        [{"epoch": 1, "test_accuracy": 0.5}, {"epoch": 3, "test_accuracy": 0.6}],
        [{"loss": 1.0}, {"loss": 0.5}],
        [ROW, {"epoch": 2**70, "loss": 1}, {"epoch": 2, "loss": "low", "test_accuracy": 10**400}],
    ],
    ids=["one-epoch", "not-finite", "gap", "no-epoch", "wrong-types"],
)
def test_curves_are_drawn_of_whatever_was_recorded(tmp_path: Path, rows: Any) -> None:
    folder = run_dir(tmp_path / "run", rows)
    assert plots.main(folder, "curves")
    assert write_report(folder).is_file()


@pytest.mark.parametrize(
    ("model", "steps", "names"),
    [
        (TINY, 1, {"curves", "raster", "logits", "rates", "dials"}),
        (SILENT, 2, {"curves", "logits", "time", "dials"}),
        (SILENT, 1, {"curves", "logits", "dials"}),
    ],
    ids=["one-step", "no-spikes", "nothing-to-see"],
)
def test_small_networks_have_the_pictures_that_make_sense(
    tmp_path: Path, model: Any, steps: int, names: set[str]
) -> None:
    folder = full_run(tmp_path / "run", model, steps)
    assert {p.stem for p in (folder / "plots").glob("*.svg")} == names


def test_sequences_with_lengths_are_drawn(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    write_pictures(folder, session_of(SEQUENCE), sequences([9, 1, 4]), {})  # type: ignore[arg-type]
    assert (folder / "plots" / "raster.svg").is_file()
    assert not np.isnan(read_run(folder).arrays["rate_over_time"]).any()


def test_rates_over_epochs_and_dials_are_drawn_where_recorded(tmp_path: Path) -> None:
    rows = [
        {**ROW, "epoch": e, "rates": {"2": 0.1 * e}, "dials": {"temperature": float(e)}}
        for e in (1, 2)
    ]
    folder = full_run(tmp_path / "run", rows=rows)
    assert "Rate over training" in (folder / "plots" / "rates.svg").read_text()
    assert "Temperature" in (folder / "plots" / "method.svg").read_text()


def test_drawing_changes_no_global_state(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plots.main(run_dir(tmp_path / "run"), "all", "png")
    assert dict(matplotlib.rcParams) == before
    from matplotlib._pylab_helpers import Gcf

    assert not Gcf.figs


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run", [{**ROW, "dials": {"a $\\frac{ <b> & c": 1.0}}])
    (path,) = plots.main(folder, "method")
    assert "a $\\frac{ &lt;b&gt; &amp; c" in path.read_text()


@pytest.mark.parametrize(
    ("which", "format", "message"),
    [
        ("raster", "svg", "holds no data for the picture 'raster'"),
        ("spikes", "svg", "there is no picture 'spikes'; there are curves, method, energy"),
        ("curves", "gif", "svg, png, pdf, not 'gif'"),
    ],
)
def test_pictures_that_cannot_be_drawn_are_named(
    tmp_path: Path, which: str, format: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plots.main(run_dir(tmp_path / "run"), which, format)


def test_a_method_without_numbers_of_its_own_is_said_to_have_none(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run", result={"methods": ["plain"]})
    with pytest.raises(ValueError, match="set, learned and measured no number of its own"):
        plots.main(folder, "method")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run directory"):
        plots.main(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"neither metrics\.jsonl nor plots/data\.npz"):
        write_report(tmp_path)


def test_a_session_that_hides_its_program_is_refused(tmp_path: Path) -> None:
    played: Any = Played(np.zeros((1, 1, 1)), np.zeros((1, 1, 2)))
    with pytest.raises(TypeError, match="give program=flatten"):
        write_pictures(tmp_path, played, some_digits(), {})
