"""`snnx info MODEL`: the steps of a network, what runs each of them, and the bytes each keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import LIF, BatchNorm, Chain, Input, Linear
from snnx.cli import main
from snnx.commands.model_info import describe
from snnx.commands.screen import Screen
from snnx.program import flatten


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, dict[str, Any]]:
    """Return what a command says, and its last line as figures."""
    assert main(["info", *words, "--json", "--no-color"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    return "\n".join(lines[:-1]), json.loads(lines[-1])


def test_a_model_of_the_zoo_shows_implementations_and_kept_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, figures = shown(capsys, "digits", "-b", "torch", "--T", "4")
    assert "21,482 parameters   T=4" in text
    assert "torch here runs neuron: generic (on cpu; " in text
    assert set(figures["implementations"]) == {"3", "7"}
    plain, lean = (figures["kept_bytes_per_sample"][form] for form in ("kept", "kept lean"))
    # the first LIF keeps its static input once, or its state before every step, in float32
    assert plain["3"] >= 4 * 8 * 8 * 32 * 4
    assert lean["7"] < plain["7"] / 8
    row = next(line for line in text.splitlines() if line.startswith("5 "))
    assert row.split()[:9] == ["5", "Conv2d", "4", "x", "4", "x", "64", "18,432", "294,912"]
    assert row.endswith("conv2d")


def test_products_that_spikes_feed_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = shown(capsys, "shd", "width=0.1", "-b", "torch", "--T", "2")
    first, fed_back, last = (line for line in text.splitlines() if line[:2] in ("1 ", "2 ", "3 "))
    assert "*" not in first
    assert "576 *" in fed_back
    assert "480 *" in last
    assert "* fed by spikes: additions" in text
    pooled, _ = shown(capsys, "digits", "width=0.1", "-b", "torch", "--T", "2")
    assert "*" not in "".join(line for line in pooled.splitlines() if line[:1].isdigit())


def test_more_steps_keep_more(capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (
        shown(capsys, "digits", "width=0.25", "-b", "torch", "--T", t)[1]["kept_bytes_per_sample"]
        for t in ("2", "6")
    )
    assert many["kept"]["7"] == 3 * few["kept"]["7"]
    assert many["kept lean"]["7"] < many["kept"]["7"]


def test_shape_classes_and_keys_change_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["resnet19", "width=0.0625", "--shape", "16,16,1", "--classes", "3", "-b", "torch"]
    text, figures = shown(capsys, *words)
    assert "input 16 x 16 x 1" in text
    made = snnx.models.resnet19(3, width=0.0625, input=(16, 16, 1))
    assert figures["parameters"] == sum(p.size for p in flatten(made).parameters)


def test_a_file_and_a_run_are_shown_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Chain(Input(64), Linear(6), LIF(), Linear(10))
    (tmp_path / "m.json").write_text(snnx.dumps(model))
    text, _ = shown(capsys, str(tmp_path / "m.json"), "-b", "torch")
    x, y = np.ones((4, 64), np.float32), np.array([0, 1, 2, 3])
    snnx.fit(model, (x, y, x, y), steps=4, max_steps=1, backend="numpy", out=tmp_path / "run")
    again, figures = shown(capsys, str(tmp_path / "run"), "-b", "torch")
    assert again.splitlines()[-4:-2] == text.splitlines()[-4:-2]
    assert figures["step"] == 1


def test_mlx_says_that_it_cannot_tell(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlx.core")
    text, figures = shown(capsys, "digits", "width=0.1", "-b", "mlx", "--T", "2")
    assert "mlx does not tell what each step keeps; -b torch does" in text
    assert figures["kept_bytes_per_sample"] == {}


def test_fused_steps_are_said_to_run_with_their_neuron(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snnx_torch.net import Net

    program = flatten(Chain(Input(4), Linear(3), BatchNorm(), LIF(), Linear(2)))
    fused = {"3": "norm_neuron: triton (on cuda)"}
    monkeypatch.setattr(Net, "implementations", lambda self: fused)
    describe(program, "torch", 2, Screen(no_color=True))
    rows = capsys.readouterr().out.splitlines()
    assert next(row for row in rows if row.startswith("2 ")).endswith("with its neuron")
    assert next(row for row in rows if row.startswith("3 ")).endswith("norm_neuron: triton")
    assert "torch here runs norm_neuron: triton (on cuda)" in rows


def test_without_a_framework_the_shapes_are_shown_and_the_rest_is_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("snnx.installed.installed", lambda name: name == "numpy")
    assert main(["info", "digits"]) == 0
    text = capsys.readouterr().out
    assert "294,912" in text
    assert "what runs the steps, and what they keep, is not known: neither torch nor mlx" in text
    assert main(["info", "digits", "-b", "torch"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resent19"], "did you mean 'resnet19'?"),
        (["digits", "widht=2"], "model.widht (command line): unknown key"),
        (["digits", "width=-1"], "width must be in (0, 64]"),
        (["digits", "--shape", "8,x"], "--shape 8,x: give sizes such as 32,32,3"),
        (["none.json"], "there is no such file"),
        (["tet/cifar10-resnet19-t2"], "is a recipe; `snnx plan tet/cifar10-resnet19-t2`"),
    ],
)
def test_a_mistake_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
