"""Energy: the papers' arithmetic, fan-outs to the border, and the spikes of a run, one by one."""

from typing import Any

import numpy as np
import pytest

import snnx
from snnx.analysis.energy import (
    dspike_counts,
    fan_out,
    measure_energy,
    picojoules,
    spike_sources,
)
from snnx.analysis.operations import operations, total_macs
from snnx.backend import load_backend
from snnx.data import Dataset
from snnx.models import MODELS
from snnx.ops import OPS
from snnx.program import flatten
from snnx.random import uniform

IMAGE = (5, 7, 2)


def draw(*shape: int) -> np.ndarray:
    return uniform(0, "test", "energy", 0, [0], [0], int(np.prod(shape))).reshape(shape)


def data(n: int = 6) -> Dataset:
    x = draw(n, *IMAGE).astype(np.float32)
    y = np.arange(n) % 3
    return Dataset(x, y, x, y, "noise", "synthetic")


def session_of(model: Any, steps: int = 3) -> Any:
    net = snnx.build(model, "numpy", seed=0)
    return load_backend("numpy").session(net, snnx.SDT(), snnx.Optim(), steps=steps)


@pytest.mark.parametrize(
    ("additions", "multiplications", "microjoules"),
    [
        (71.2e6, 3.52e6, 80.27),
        (187e6, 187e6, 1028.5),
        (142e6, 8.8e6, 168.3),
        (360e6, 6.8e6, 355.3),
        (2285e6, 2285e6, 12567.5),
    ],
)
def test_the_rows_of_dspikes_table_3(
    additions: float, multiplications: float, microjoules: float
) -> None:
    assert picojoules(additions, multiplications) * 1e-6 == pytest.approx(microjoules, abs=0.05)


def test_dspikes_counts_from_rate_and_macs() -> None:
    rate = 71.2 / (2 * 187)
    assert rate == pytest.approx(0.190, abs=5e-4)
    assert dspike_counts(187e6, 1.76e6, rate, 2) == pytest.approx((71.2e6, 3.52e6))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups"),
    [(3, 1, "same", 1), (3, 2, 1, 2), (5, 3, 2, 1), (1, 2, 0, 1), (2, 1, 0, 1)],
)
def test_fan_out_is_the_transpose_of_a_convolution_of_ones(
    kernel: int, stride: int, padding: Any, groups: int
) -> None:
    layer = snnx.Conv2d(4, kernel, stride, padding, groups)
    program = flatten(snnx.Chain(snnx.Input(*IMAGE), layer))
    step = program.steps[0]
    ones = {
        "x": np.ones((1, 1, *IMAGE)),
        "weight": np.ones(program.parameter("1.weight").shape),
    }
    g = {"y": np.ones((1, 1, *step.shape))}
    expected = OPS["conv2d"].vjp(np, ones, step.attributes, {}, g)["x"][0, 0]
    np.testing.assert_array_equal(fan_out(program, step), expected)


def test_without_padding_the_fan_outs_sum_to_the_macs() -> None:
    program = flatten(
        snnx.Chain(snnx.Input(*IMAGE), snnx.Conv2d(4, 3, padding=0), snnx.Flatten(), snnx.Linear(3))
    )
    total = sum(fan_out(program, s).sum() for s in program.steps if s.op != "flatten")
    assert total == total_macs(operations(program))
    with pytest.raises(ValueError, match="flatten"):
        fan_out(program, program.steps[1])


def test_accumulates_are_counted_spike_by_spike() -> None:
    model = snnx.Chain(
        snnx.Input(*IMAGE),
        snnx.Conv2d(3, 3),
        snnx.LIF(threshold=0.3),
        snnx.Residual(snnx.Chain(snnx.Conv2d(3, 3), snnx.LIF(threshold=0.1))),
        snnx.Conv2d(4, 3, stride=2),
        snnx.LIF(threshold=0.1),
        snnx.AvgPool2d(2),
        snnx.Flatten(),
        snnx.Linear(3),
    )
    program, session, steps = flatten(model), session_of(model), 3
    found = measure_energy(session, program, data(), batch_size=4)
    x = data().x_test
    batch: Any = {"x": x, "y": data().y_test, "index": np.arange(len(x))}
    taps = ["2", "3.body.1"]
    spikes = {
        k: v.sum((0, 1)) / len(x) for k, v in session.forward(batch, {}, taps=taps).taps.items()
    }
    convs = [s for s in program.steps if s.op == "conv2d"]
    rows = {row.path: row for row in found.rows}
    assert (rows["1"].macs, rows["1"].acs) == (fan_out(program, convs[0]).sum() * steps, 0.0)
    inner, summed = (fan_out(program, c) for c in convs[1:])
    assert rows["3.body.0"].acs == pytest.approx((spikes["2"] * inner).sum())
    both = spikes["2"] + spikes["3.body.1"]  # a sum of spikes is accumulated once per spike
    assert rows["4"].acs == pytest.approx((both * summed).sum())
    assert rows["4"].acs > 0
    assert rows["8"].macs == rows["8"].dense * steps  # an average pool is analog
    assert found.acs == sum(row.acs for row in found.rows)
    assert found.microjoules == pytest.approx((0.9 * found.acs + 4.6 * found.macs) * 1e-6)
    assert found.microjoules_dspike == pytest.approx(found.microjoules + 0.9e-6 * found.macs)
    assert found.ann_microjoules == pytest.approx(4.6e-6 * found.ann_macs)
    once = measure_energy(session, program, data(), batch_size=4, static_once=True)
    assert {r.path: r.macs for r in once.rows}["1"] == rows["1"].macs / steps
    assert {r.path: r.macs for r in once.rows}["8"] == rows["8"].macs


def test_a_recurrent_layer_is_fed_back_the_spikes_of_all_steps_but_the_last() -> None:
    model = snnx.Chain(
        snnx.Input(4), snnx.Linear(5), snnx.Recurrent(snnx.LIF(threshold=0.1)), snnx.Linear(2)
    )
    x = draw(4, 3, 4).astype(np.float32)
    moving = Dataset(x, np.zeros(3, int), x, np.zeros(3, int), "moving", "synthetic", "TNF")
    session, program = session_of(model), flatten(model)
    found = measure_energy(session, program, moving)
    batch: Any = {"x": x, "y": np.zeros(3, int), "index": np.arange(3)}
    y = session.forward(batch, {}, taps=["2"]).taps["2"]
    rows = {row.path: row for row in found.rows}
    assert rows["2"].acs == pytest.approx(y[:-1].sum() * 5 / 3)
    assert rows["3"].acs == pytest.approx(y.sum() * 2 / 3)
    assert y[:-1].sum() > 0


def test_which_edges_carry_spikes() -> None:
    model = snnx.Chain(
        snnx.Input(*IMAGE),
        snnx.LIF(),
        snnx.MaxPool2d(2),
        snnx.Residual(snnx.LIF()),
        snnx.Dropout(0.5),
        snnx.Flatten(),
        snnx.Linear(3),
    )
    program = flatten(model)
    assert spike_sources(program, "5") == ("3.body", "2")
    assert spike_sources(program, "input") is None
    assert spike_sources(program, "6") is None


def test_a_layer_without_macs_is_refused_by_name() -> None:
    class Mine(snnx.ArrayLayer):
        def forward(self, xp: Any, x: Any, parameters: Any) -> Any:
            return x

    model = snnx.Chain(snnx.Input(*IMAGE), Mine(), snnx.Flatten(), snnx.Linear(3))
    with pytest.raises(ValueError, match=r"\['1'\].*macs"):
        measure_energy(session_of(model), flatten(model), data())


@pytest.mark.parametrize("name", ["vgg11_dsr", "spiking_resnet34"])
def test_user_layers_of_the_zoo_tell_their_macs(name: str) -> None:
    assert total_macs(operations(flatten(MODELS[name](width=0.125)))) is not None
