"""Memory of a training step: the prediction without memory against the same step with it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import snnx
from snnx import LIF, AvgPool2d, BatchNorm, Chain, Conv2d, Flatten, Input, Linear, Residual
from snnx.analysis.memory import Fit, fitted, memory_of, readable
from snnx.backend import BackendError, Footprint, load_backend
from snnx.cli import main
from snnx.program import Program, flatten
from snnx_torch.footprint import Ledger, footprint

SEED = 20_261  # of the trees below


def drawn(index: int) -> tuple[Program, dict[str, Any]]:
    """Return a tree, T, batch and precision, drawn by the committed seed."""
    rng = np.random.default_rng([SEED, index])
    layers: list[Any] = [Conv2d(int(rng.integers(3, 9)), 3, bias=False), BatchNorm(), LIF()]
    for _ in range(int(rng.integers(1, 4))):
        wide = int(rng.integers(3, 9))
        block = [Conv2d(wide, 3, bias=bool(rng.integers(2)))]
        block += [BatchNorm()] if rng.integers(4) else []
        layers += [*block, LIF(reset="subtract" if rng.integers(2) else 0.0)]
        if rng.integers(2):
            body = Chain(Conv2d(wide, 3, bias=False), BatchNorm())
            layers += [Residual(body, Chain()), LIF()]
    layers += [AvgPool2d(2)] if rng.integers(2) else []
    model = Chain(Input(8, 8, 2), *layers, Flatten(), Linear(5))
    form = {
        "steps": int(rng.integers(1, 7)),
        "samples": int(rng.integers(2, 9)),
        "dtype": torch.float32,
        "low": torch.bfloat16 if rng.integers(2) else None,
        "lean": bool(rng.integers(2)),
    }
    return flatten(model), form


def of(program: Program, form: dict[str, Any], device: str) -> Footprint:
    optim = snnx.Optim(snnx.SGD(lr=0.1, momentum=0.9))
    return footprint(program, snnx.TET(), optim, device=device, **form)


@pytest.mark.parametrize("index", range(20))
def test_the_prediction_is_within_a_tenth_of_the_run(index: int) -> None:
    program, form = drawn(index)
    predicted, measured = of(program, form, "meta"), of(program, form, "cpu")
    assert measured.peak > measured.standing > 0
    assert predicted.peak == pytest.approx(measured.peak, rel=0.1)
    assert predicted.standing == measured.standing
    assert sum(predicted.kept.values()) == pytest.approx(sum(measured.kept.values()), rel=0.1)


def test_ranges_computed_again_and_chunks_take_less() -> None:
    program, form = drawn(3)
    form |= {"steps": 12, "lean": False}
    whole, again, cut = (
        of(program, {**form, **more}, "meta").peak for more in ({}, {"recompute": 3}, {"chunk": 3})
    )
    assert again < 0.9 * whole
    assert cut < 0.5 * whole


def test_a_batch_that_was_not_run_lies_on_the_line() -> None:
    program, form = drawn(1)

    def ran(samples: int) -> Footprint:
        return of(program, {**form, "samples": samples}, "meta")

    fit, found = fitted(ran, 16)
    assert found.peak == ran(16).peak
    assert fit.peak(40) == pytest.approx(ran(40).peak, rel=0.02)
    memory = ran(40).peak
    assert fit.largest(memory, 0.0) == pytest.approx(40, abs=1)
    assert Fit(100.0, 10.0).largest(50) == 0


def test_the_ledger_counts_what_lives_and_what_was_freed() -> None:
    ledger = Ledger()
    with ledger:
        kept = torch.zeros(256)  # 1024 bytes
        view = kept[:10]
        gone = torch.ones(512)
        del gone
        more = kept + 1.0
    assert ledger.now == 2048
    assert ledger.peak == 1024 + 2048
    del kept
    assert ledger.now == 2048  # the view holds it
    del view, more
    assert ledger.now == 0


def test_mlx_measures_a_step_and_numpy_refuses() -> None:
    program, _ = drawn(2)
    optim = snnx.Optim(snnx.SGD(lr=0.1))
    figures: dict[str, Any] = {"steps": 2, "samples": 2}
    found = load_backend("mlx").footprint(program, snnx.TET(), optim, **figures)
    weights = sum(p.size for p in program.parameters)
    assert found.peak > found.standing >= 4 * weights
    with pytest.raises(BackendError, match="oracle"):
        load_backend("numpy").footprint(program, snnx.TET(), optim, **figures)


def test_sizes_are_read_and_written() -> None:
    assert memory_of("24GiB") == 24 * 2**30
    assert memory_of("16e9") == 16 * 10**9
    assert memory_of("40 GB") == 40 * 10**9
    assert memory_of("H100") == 81559 * 2**20
    assert readable(3 * 2**30) == "3.0 GiB"
    with pytest.raises(ValueError, match="abc"):
        memory_of("abc")


def test_the_command_prints_every_step_and_the_largest_batch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "digits", "--backend", "torch", "--device", "1GiB", "--json"]) == 0
    shown = capsys.readouterr().out
    for word in ("Conv2d", "BatchNorm", "largest batch on 1GiB"):
        assert word in shown
    values = json.loads(shown.splitlines()[-1])
    assert values["largest_batch"] > values["batch_size"]
    assert values["peak_bytes"] > values["standing_bytes"]


def test_data_that_are_not_here_have_a_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "tet/cifar10-resnet19-t2", "--backend", "torch", "model.width=0.05"]
    shape = ["--shape", "32,32,3"]
    assert main([*words, *shape, "--classes", "10"]) == 0
    assert main([*words, *shape]) == 2
    assert "--classes" in capsys.readouterr().err
    assert main(["plan", "digits", "--device", "abc"]) == 2
    assert "abc" in capsys.readouterr().err
