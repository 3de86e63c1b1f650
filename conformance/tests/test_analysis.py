"""Rates, counts, pictures and the page of a run, on the numpy backend."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

import snnx
from snnx.analysis import firing_rates, operations, plots, style, write_pictures, write_report
from snnx.analysis.operations import total_macs
from snnx.analysis.raster import chosen_neurons, chosen_samples
from snnx.analysis.rundata import read_run
from snnx.backend import Forward, load_backend
from snnx.data import Dataset, digits
from snnx.program import flatten

TINY = snnx.Chain(
    snnx.Input(8, 8, 1),
    snnx.Conv2d(4, 3, stride=2),
    snnx.LIF(threshold=0.2),
    snnx.Flatten(),
    snnx.Linear(10),
)
SILENT = snnx.Chain(snnx.Input(8, 8, 1), snnx.Flatten(), snnx.Linear(10))
ROW = {"epoch": 1, "loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.25, "lr": 0.1}


def some_digits(name: str = "digits") -> Dataset:
    d = digits()
    return Dataset(d.x_train[:8], d.y_train[:8], d.x_test[:24], d.y_test[:24], name, "real")


def session_of(model: Any, steps: int = 3) -> Any:
    backend = load_backend("numpy")
    net = snnx.build(model, "numpy", seed=0)
    return backend.session(net, snnx.TET(), snnx.Optim(), steps=steps)


def run_dir(path: Path, rows: Any = (ROW,), **files: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def full_run(path: Path, model: Any = TINY, steps: int = 3, rows: Any = (ROW,)) -> Path:
    folder = run_dir(path, rows)
    write_pictures(folder, session_of(model, steps), some_digits(), {"batch_size": 7})
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all its pictures, which no test changes."""
    return full_run(tmp_path_factory.mktemp("drawn") / "run")


class Played:
    """A session that gives written spikes: [T, N, F] by path."""

    def __init__(self, spikes: np.ndarray, logits: np.ndarray) -> None:
        self.spikes, self.logits = spikes, logits

    def forward(self, batch: Any, dials: Any, mode: Any = None, taps: Any = (), **_: Any) -> Any:
        at = batch["index"].astype(int)
        return Forward(self.logits[:, at], dict.fromkeys(taps, self.spikes[:, at]), {}, {})


SEQUENCE = snnx.Chain(snnx.Input(2), snnx.Linear(3), snnx.LIF(), snnx.Linear(2))


def sequences(lengths: list[int]) -> Dataset:
    n, t = len(lengths), max(lengths)
    x, y, length = np.zeros((t, n, 2), np.float32), np.arange(n) % 2, np.array(lengths)
    return Dataset(x, y, x, y, "seq", "synthetic", "TNF", lengths_train=length, lengths_test=length)


# rates


def test_rates_count_valid_steps_only() -> None:
    spikes = np.zeros((4, 3, 3))
    spikes[:, :, 0] = 1.0  # always, in the padding too
    spikes[3, :, 1] = 1.0  # at the last step: valid for one sample of three
    logits = np.zeros((4, 3, 2))
    found = firing_rates(
        Played(spikes, logits),  # type: ignore[arg-type]
        flatten(SEQUENCE),
        sequences([4, 1, 3]),
        batch_size=2,
    )
    (layer,) = found.layers
    assert layer.per_neuron.tolist() == [1.0, 1 / 8, 0.0]
    assert layer.over_time.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert (layer.dead, layer.saturated) == (1 / 3, 1 / 3)
    assert found.spikes == pytest.approx(layer.rate)


def test_accuracy_over_time_reads_each_sample_up_to_its_length() -> None:
    logits = np.zeros((3, 2, 2))
    logits[:, 0] = [[0, 1], [3, 0], [0, 0]]  # class 0: wrong at first, right from the second step
    logits[:, 1] = [[0, 1], [9, 0], [9, 0]]  # class 1, one step long: right for ever
    found = firing_rates(
        Played(np.zeros((3, 2, 3)), logits),  # type: ignore[arg-type]
        flatten(SEQUENCE),
        sequences([3, 1]),
        readout={"decay": 1.0},
    )
    assert found.accuracy is not None
    assert found.accuracy.tolist() == [0.5, 1.0, 1.0]


def test_rates_do_not_depend_on_the_batch_size() -> None:
    session, data = session_of(TINY), some_digits()
    program = flatten(TINY)
    a, b = (
        firing_rates(session, program, data, batch_size=n, readout={"decay": 1.0}) for n in (5, 24)
    )
    np.testing.assert_allclose(a.layers[0].per_neuron, b.layers[0].per_neuron, rtol=1e-12)
    np.testing.assert_allclose(a.layers[0].over_time, b.layers[0].over_time, rtol=1e-12)
    assert a.accuracy is not None
    assert b.accuracy is not None
    assert a.accuracy.tolist() == b.accuracy.tolist()
    assert 0 < a.layers[0].rate < 1


def test_accuracy_after_t_steps_is_that_of_evaluating_with_t() -> None:
    session, data, program = session_of(TINY), some_digits(), flatten(TINY)
    long = firing_rates(session, program, data, steps=4, readout={"decay": 1.0}).accuracy
    assert long is not None
    for t in (1, 2, 3):
        short = firing_rates(session, program, data, steps=t, readout={"decay": 1.0}).accuracy
        assert short is not None
        assert short[-1] == long[t - 1]


def test_a_model_that_never_spikes_has_no_rate() -> None:
    found = firing_rates(session_of(SILENT), flatten(SILENT), some_digits(), samples=5)
    assert (found.layers, found.spikes, found.samples) == ((), None, 5)


def test_rates_over_no_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="samples must be at least 1"):
        firing_rates(session_of(TINY), flatten(TINY), some_digits(), samples=0)


# operations


def test_macs_and_parameters_follow_from_shapes() -> None:
    model = snnx.Chain(
        snnx.Input(8, 8, 2),
        snnx.Conv2d(4, 3, stride=2, groups=2),
        snnx.BatchNorm(),
        snnx.LIF(),
        snnx.Flatten(),
        snnx.Linear(5, bias=False),
        snnx.Recurrent(snnx.LIF(threshold=snnx.Learned(1.0))),
        snnx.Linear(3),
    )
    counts = {c.path: c for c in operations(flatten(model))}
    assert counts["1"].macs == 4 * 4 * 4 * 3 * 3 * 1
    assert counts["1"].parameters == 4 * 3 * 3 * 1 + 4
    assert (counts["2"].macs, counts["2"].parameters) == (0, 8)
    assert (counts["5"].macs, counts["5"].parameters) == (5 * 64, 5 * 64)
    assert (counts["6"].macs, counts["6"].parameters) == (25, 26)
    assert [p for p, c in counts.items() if c.binary] == ["5", "6", "7"]
    assert sum(c.parameters for c in counts.values()) == sum(p.size for p in snnx.parameters(model))
    assert total_macs(tuple(counts.values())) == 576 + 320 + 25 + 15


def test_macs_of_a_users_layer_are_not_known() -> None:
    model = snnx.Chain(snnx.Input(4), snnx.ArrayLayer(), snnx.Linear(2))
    counts = operations(flatten(model))
    assert counts[0].macs is None
    assert total_macs(counts) is None


# choices


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


# pictures


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


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run directory"):
        plots.main(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"neither metrics\.jsonl nor plots/data\.npz"):
        write_report(tmp_path)


def test_a_session_that_hides_its_program_is_refused(tmp_path: Path) -> None:
    played: Any = Played(np.zeros((1, 1, 1)), np.zeros((1, 1, 2)))
    with pytest.raises(TypeError, match="give program=flatten"):
        write_pictures(tmp_path, played, some_digits(), {})


# damaged files


def test_what_cannot_be_read_is_named_on_the_page(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('[1]\n\n{"epoch": 2, "lo')
    (folder / "result.json").write_text("{")
    (folder / "config.toml").write_bytes(b"\xff")
    (folder / "plots").mkdir()
    (folder / "plots" / "data.npz").write_bytes(b"PK\x03\x04 cut off")
    run = read_run(folder)
    assert len(run.rows) == 1
    page = write_report(folder).read_text()
    for part in (
        "2 lines could not be read (2, 4)",
        "result.json is not JSON",
        "config.toml could",
    ):
        assert part in page
    assert "data.npz could not be read" in page


def test_arrays_that_do_not_fit_are_left_out(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(drawn, folder)
    path = folder / "plots" / "data.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays |= {
        "rate": np.zeros(7),
        "logits": np.zeros((3, 9, 10)),
        "raster.0": np.zeros((3, 3, 4)),
        "step_macs": np.array(["many"]),
        "evil": np.zeros(1),
    }
    np.savez(path, **arrays)
    run = read_run(folder)
    assert "evil, logits, raster.0, rate, step_macs do not fit" in run.notes[0]
    assert write_report(folder).is_file()


def test_a_file_of_python_objects_is_not_opened(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    (folder / "plots").mkdir()
    np.savez(folder / "plots" / "data.npz", layers=np.array([{}], object))
    run = read_run(folder)
    assert not run.arrays
    assert "allow_pickle" in run.notes[0]


# the page


class Links(HTMLParser):
    """Collects tags and every attribute that could reach outside of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "srcset", "data"):
                self.links.append(value or "")


def test_the_page_needs_no_network_no_script_and_no_other_file(drawn: Path) -> None:
    page = (drawn / "report.html").read_text()
    seen = Links()
    seen.feed(page)
    assert {"svg", "table", "figure", "style"} <= seen.tags
    assert not {"script", "link", "iframe", "object", "embed", "base"} & seen.tags
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in seen.links)
    assert all(u.startswith("#") for u in re.findall(r"url\(([^)]*)\)", page))
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert len(seen.ids) == len(set(seen.ids))
    used = {link[1:] for link in seen.links if link.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert used <= set(seen.ids)


def test_text_from_files_is_escaped(tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>'
    rows = [{**ROW, "dials": {bad: 1.0}}]
    folder = run_dir(
        tmp_path / "a<b>&run",
        rows,
        result={"backend": bad, "device": bad, "seed": bad},
        env={"os": bad, bad: 1, "command": ["/usr/bin/snnx", "train", bad], "before": bad},
    )
    (folder / "config.toml").write_text(f"name = '{bad}'")
    (folder / "x<i>.txt").write_text("")
    write_pictures(folder, session_of(TINY), some_digits(bad), {})
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert "<h1>a&lt;b&gt;&amp;run</h1>" in page
    assert page.count("&lt;script&gt;") >= 6


def test_the_page_lists_no_half_written_file(drawn: Path) -> None:
    assert sorted(p.name for p in drawn.iterdir()) == ["metrics.jsonl", "plots", "report.html"]
    assert not list(drawn.rglob("*.part"))


def test_the_page_shows_the_numbers_of_the_run(tmp_path: Path) -> None:
    folder = run_dir(
        tmp_path / "run",
        result={"test_accuracy": 0.9876, "T": 3, "seed": 5, "backend": "numpy", "seconds": 61},
        env={
            "command": ["/opt/bin/snnx", "train", "--resume", "run"],
            "before": [{"command": ["/x/__main__.py", "train", "digits", "model.x=a b"]}],
        },
    )
    write_pictures(folder, session_of(TINY), some_digits(), {})
    page = (folder / "report.html").read_text()
    for part in ("98.76 %", "61 s", "real", "8 training, 24 test", "Conv2d", "690", "4 x 4 x 4"):
        assert part in page, part
    assert "python -m snnx train digits &#x27;model.x=a b&#x27;\nsnnx train --resume run" in page


def test_a_run_that_failed_says_so(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    assert "has no result yet" in write_report(folder).read_text()
    (folder / "FAILED").write_text("6\n")
    assert "did not end well" in write_report(folder).read_text()
