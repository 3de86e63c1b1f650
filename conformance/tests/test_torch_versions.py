"""What an older torch cannot do is refused or left out, and said."""

from __future__ import annotations

import json
from typing import Any

import pytest

import snnx
from snnx.backend import BackendError
from snnx.building import initial_parameters
from snnx.cli import main

torch = pytest.importorskip("torch")

from snnx_torch import backend  # noqa: E402
from snnx_torch.compiling import hindrance  # noqa: E402


def session(**options: Any) -> Any:
    program = snnx.flatten(snnx.Chain(snnx.Input(4), snnx.Linear(3), snnx.LIF(), snnx.Linear(2)))
    net = backend.build(program, initial_parameters(program, 0), device="cpu")
    return backend.session(net, snnx.TET(), snnx.Optim(snnx.SGD()), **options)


@pytest.mark.parametrize("version", ["2.11.0+cu130", "2.12.1"])
def test_a_torch_whose_compiler_loses_gradients_compiles_no_step(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(BackendError, match=r"2\.13 and later can; give compile = false"):
        session(compile=True)
    with pytest.raises(BackendError, match=version.replace("+", r"\+")):
        session(compile="aot_eager")
    made = session()
    assert made.taker.compile is False
    assert "not compiled" not in made.step_form()
    monkeypatch.setattr(type(made.net), "device", torch.device("cuda"))
    assert f"not compiled: torch {version}" in made.step_form()


@pytest.mark.parametrize("version", ["2.13.0", "2.20.1+cpu", "3.0.0a0+git"])
def test_a_newer_one_does(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert hindrance() == ""
    assert session(compile="eager").taker.compile == "eager"


@pytest.mark.slow
def test_the_forms_that_are_not_here_cost_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.11.0")
    words = ["digits", "model.width=0.1", "batch_size=8", "backend=torch", "--repeats", "1"]
    assert main(["bench", *words, "--forms", "--json"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out.splitlines()[-1])["rows"]
    assert [row["form"] for row in rows] == ["keep uncompiled", "lean uncompiled"]
    assert "keep compiled: not here" in printed.out + printed.err
