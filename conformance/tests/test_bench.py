"""What a step costs: no figure without the right numbers, and each figure is what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import snnx
from snnx import CLIF, DSR, LIF, BatchNorm, Chain, Conv2d, Flatten, Input, Linear
from snnx.analysis.bench import FORMS, Form, bench, few
from snnx.cli import main
from snnx.data import Dataset
from snnx.emit.c_text import CWriter
from snnx.training.plan import Plan
from snnx_torch import ops as torch_ops
from snnx_torch import scan
from snnx_torch.kernels import host

MODEL = Chain(Input(6, 6, 1), Conv2d(3, 3, bias=False), BatchNorm(), LIF(), Flatten(), Linear(3))


def data(samples: int = 24) -> Dataset:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((samples, 6, 6, 1)).astype(np.float32)
    y = np.arange(samples) % 3
    return Dataset(x, y, x, y, name="noise", label="synthetic")


def plan(backend: str, precision: str = "fp32") -> Plan:
    return Plan(MODEL, backend=backend, steps=2, batch_size=8, device="cpu", precision=precision)


class Clock:
    """A clock that moves by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("lean", [False, True])
def test_figures_are_those_of_the_clock(backend: str, lean: bool) -> None:
    row = bench(plan(backend), data(), Form(lean, False), repeats=4, clock=Clock())
    assert row.error <= row.allowed
    assert (row.first_step, row.step, row.spread) == (1.0, 1.0, 0.0)
    assert row.loop == 0.25  # one reading over four steps
    assert row.samples_per_second == 8.0
    assert row.graphs == 0
    assert (row.peak_bytes is None) == (backend == "torch")


def test_a_form_whose_gradients_are_wrong_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch_ops.RULES["linear"]

    def wrong(inputs: Any, attributes: Any) -> Any:
        y = right(inputs, attributes)["y"]
        return {"y": y + 1e-2 * (inputs["x"].detach().sum() - inputs["x"].sum())}

    monkeypatch.setitem(torch_ops.RULES, "linear", wrong)
    row = bench(plan("torch"), data(), Form(False, False), repeats=2)
    assert row.error > row.allowed
    assert row.step is None
    assert row.first_step is None


@pytest.mark.parametrize("kernels", ["generic", "cpp"])
def test_a_form_whose_spikes_are_wrong_has_no_time(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients at imposed spikes are right: what decides a spike is not asked there."""
    if kernels == "cpp":
        if host.compiler() is None:
            pytest.skip("g++ is not on PATH")
        wrong: Any = {**CWriter.operations, "spike_ge": "({0} >= 0.1f ? 1.0f : 0.0f)"}
        monkeypatch.setattr(CWriter, "operations", wrong)
        own = LIF(threshold=0.9137)  # whose text nobody else keeps
        model = Chain(*MODEL.layers[:3], own, *MODEL.layers[4:])
    else:
        monkeypatch.setitem(scan.OPERATIONS, "spike_ge", lambda x: (x >= 0.1).to(x.dtype))
        model = MODEL
    given = replace(plan("torch"), model=model, kernels=kernels)
    row = bench(given, data(), Form(False, False), repeats=2)
    assert row.error <= row.allowed
    assert row.misfired > 0
    assert row.step is None


@pytest.mark.parametrize("neuron", [DSR.leaky(threshold=1.0), LIF(analog=0.3), CLIF.from_tau()])
def test_every_kind_of_layer_is_held_to_its_spikes(neuron: Any) -> None:
    model = Chain(*MODEL.layers[:3], neuron, *MODEL.layers[4:])
    row = bench(replace(plan("torch"), model=model), data(), Form(True, False), repeats=1)
    assert row.misfired == 0
    assert row.step is not None


def test_bfloat16_is_held_to_its_own_bound() -> None:
    row = bench(plan("torch", "bf16"), data(), Form(False, False), repeats=1, clock=Clock())
    assert 1e-4 < row.error <= row.allowed
    assert row.step is not None


def test_a_few_samples_of_either_layout() -> None:
    static: Any = {"x": np.zeros((5, 6, 6, 1)), "y": np.arange(5), "index": np.arange(5)}
    timed: Any = {**static, "x": np.zeros((5, 5, 4)), "length": np.full(5, 3)}
    assert few(static, 2, 3)["x"].shape == (2, 6, 6, 1)
    assert few(timed, 2, 1)["x"].shape == (5, 2, 4)
    assert few(timed, 2, 1)["length"].tolist() == [3, 3]  # type: ignore[typeddict-item]


def test_forms_have_names_of_their_own() -> None:
    assert [form.name for form in FORMS] == [
        "keep uncompiled",
        "lean uncompiled",
        "keep compiled",
        "lean compiled",
    ]
    assert Form().name == "default"


def test_the_command_prints_a_row_for_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["digits", "model.width=0.1", "batch_size=8", "--repeats", "2", "--json"]
    assert main(["bench", *words]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["backend"] for row in values["rows"]] == ["torch", "mlx"]
    for row in values["rows"]:
        assert 0 < row["step"] <= row["first_step"] * 10
        assert row["error"] <= row["allowed"]
        assert row["runs"]
    assert values["environment"]["torch"]["backend"]["torch"] == torch.__version__
    assert snnx.__version__ == values["environment"]["torch"]["snnx"]


def test_data_that_are_not_here_are_noise_of_their_shape(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["dsr/cifar10-preact18-if-t20", "model.width=0.05", "T=3", "batch_size=4"]
    words += ["--shape", "8,8,3", "--classes", "10", "-b", "torch", "--repeats", "1", "--json"]
    assert main(["bench", *words]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["step"] > 0.0
    assert 0.0 < row["error"] <= row["allowed"]
