"""What a finished run says of its energy and of its method, in its result and in its pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.analysis import plots
from snnx.analysis.comparison import FIGURES
from snnx.analysis.energy import measure_energy
from snnx.analysis.energy_plot import MOST_ROWS, draw_energy, energy_rows
from snnx.analysis.fans import spike_fans
from snnx.analysis.method_plot import method_lines
from snnx.analysis.page import page
from snnx.analysis.rundata import RunData, read_run
from snnx.data import Dataset, digits
from snnx.methods.asgl import ASGLMethod
from snnx.program import flatten

POOLED = snnx.Chain(
    snnx.Input(8, 8, 1),
    snnx.Conv2d(3, 3),
    snnx.LIF(threshold=0.1),
    snnx.AvgPool2d(3, 2),
    snnx.Conv2d(2, 3),
    snnx.LIF(threshold=0.1),
    snnx.GlobalAvgPool2d(),
    snnx.Linear(10),
)


def some_digits() -> Dataset:
    d = digits()
    return Dataset(d.x_train[:16], d.y_train[:16], d.x_test[:12], d.y_test[:12], "digits", "real")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """A finished run of ASGL on a network with two kinds of pools."""
    folder = tmp_path_factory.mktemp("runs") / "asgl"
    neuron = snnx.LIF(threshold=snnx.Learned(0.1, group="threshold"))
    model = snnx.Chain(*(neuron if isinstance(x, snnx.LIF) else x for x in POOLED.layers))
    snnx.fit(
        model,
        some_digits(),
        methods=(ASGLMethod(similar=8),),
        objective=snnx.SDT(),
        steps=3,
        epochs=2,
        batch_size=8,
        backend="numpy",
        out=folder,
    )
    return read_run(folder)


def test_a_run_ends_with_macs_acs_and_energy(run: RunData) -> None:
    energy = run.result["energy"]
    rows = {row["path"]: row for row in energy["layers"]}
    assert rows["1"]["acs"] == 0
    assert rows["1"]["macs"] == 3 * rows["1"]["ann_macs"] > 0
    for path in ("4", "7"):  # behind a pool of spikes
        assert rows[path]["macs"] == 0
        assert rows[path]["acs"] > 0
    for name in ("macs", "acs", "ann_macs"):
        assert energy[name] == pytest.approx(sum(row[name] for row in rows.values()))
    assert energy["microjoules"] == pytest.approx(
        1e-6 * (0.9 * energy["acs"] + 4.6 * energy["macs"])
    )
    once = energy["acs"] * 0.9 + rows["1"]["ann_macs"] * 4.6  # the image is the same at every step
    assert energy["microjoules_once"] == pytest.approx(1e-6 * once)
    assert (energy["samples"], energy["steps"]) == (12, 3.0)
    (column,) = (f for f in FIGURES if f.title.startswith("energy"))
    assert column.read(run) == energy["microjoules"]


def test_a_pool_that_is_folded_passes_spikes_on() -> None:
    program, data = flatten(POOLED), some_digits()
    net = snnx.build(POOLED, "numpy", seed=0)
    session = snnx.load_backend("numpy").session(net, snnx.SDT(), snnx.Optim(), steps=3)
    analog = measure_energy(session, program, data)
    folded = measure_energy(session, program, data, fold_pools=True)
    assert [row.acs > 0 for row in analog.rows] == [False, False, False]
    assert [row.acs > 0 for row in folded.rows] == [False, True, True]
    # by hand: the conv of the pool's weights, 3 x 3 windows at stride 2, then the conv's own
    conv = program.step("4")
    each = np.zeros(program.edges[conv.inputs["x"]].shape)
    each[1, 2, 0] = 5.0
    fans = spike_fans(program, conv.inputs["x"], each, True)
    assert fans is not None
    ((name, fan),) = fans
    assert name == "2"
    assert {(i, j) for i, j, _ in np.argwhere(fan == 5.0)} == {
        (i, j) for i in (2, 3, 4) for j in (4, 5, 6)
    }
    assert fan.sum() == 9 * 5.0
    rates = session.forward(
        {"x": data.x_test, "y": data.y_test, "index": np.arange(12)}, {}, taps=["5"]
    ).taps["5"]
    assert folded.rows[-1].acs == pytest.approx(rates.sum() * 10 / 12)  # each into 10 classes


def test_a_layer_without_macs_leaves_the_energy_unknown(tmp_path: Path) -> None:
    class Mine(snnx.ArrayLayer):
        def forward(self, xp: Any, x: Any, parameters: Any) -> Any:
            return x

        def vjp(self, xp: Any, x: Any, parameters: Any, y: Any, g: Any) -> Any:
            return g, {}

    model = snnx.Chain(snnx.Input(8, 8, 1), Mine(), snnx.Flatten(), snnx.Linear(10))
    found = snnx.fit(model, some_digits(), steps=2, epochs=1, backend="numpy").values
    assert found["energy"] == {"unknown": "layers ['1'] do not tell their macs"}


def test_the_method_picture_holds_all_that_was_set_learned_and_measured(run: RunData) -> None:
    lines = method_lines(run)
    assert list(lines) == ["analog", "width", "threshold", "similarity"]
    assert [name for name, _, _ in lines["width"]] == ["2", "5"]
    assert lines["threshold"][0][2][0] == pytest.approx(0.1)
    assert lines["analog"][0][2].tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("which", ["method", "energy"])
def test_snnx_plot_draws_each_alone(run: RunData, which: str) -> None:
    (path,) = plots.main(run.folder, which)
    text = path.read_text("utf-8")
    assert path.name == f"{which}.svg"
    words = {"method": ("Width of the surrogate", "analog share"), "energy": ("MAC", "an ANN")}
    assert all(word in text for word in words[which])


def test_the_page_names_operations_and_energy(run: RunData) -> None:
    text, energy = page(run, {}), run.result["energy"]
    assert f"{energy['acs']:,.0f}" in text
    assert f"{energy['microjoules']:.4g} µJ" in text


def test_a_deep_network_is_drawn_with_its_middle_together() -> None:
    row = {"path": "1", "layer": "Conv2d", "macs": 0.0, "acs": 2.0, "ann_macs": 3.0}
    run = RunData(Path(), result={"energy": {"layers": [row] * (MOST_ROWS + 9)}})
    figure = draw_energy(run)
    assert figure is not None
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == MOST_ROWS + 1
    assert names[MOST_ROWS // 2] == "9 more"


@pytest.mark.parametrize(
    "energy",
    [
        3,
        {"layers": 3},
        {"layers": [3]},
        {"layers": [{"macs": 1}]},
        {"layers": [{"macs": 1.0, "acs": float("inf"), "ann_macs": 1.0}]},
        {"layers": [{"macs": -1.0, "acs": 0.0, "ann_macs": 1.0}]},
        {"unknown": "layers ['1'] do not tell their macs"},
    ],
)
def test_a_damaged_energy_is_not_drawn(energy: Any) -> None:
    run = RunData(Path(), result=json.loads(json.dumps({"energy": energy})))
    assert energy_rows(run) == []
    assert draw_energy(run) is None
