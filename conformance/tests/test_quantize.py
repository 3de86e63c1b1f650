"""Weights of few bits: their grid, the gradient straight through, and what is left alone."""

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import serial
from snnx.backend import load_backend
from snnx.methods import with_weight_bits
from snnx.methods.dsr import DSRMethod
from snnx.models import MODELS
from snnx.ops.quantize_weight import quantized
from snnx.passes.fold import fold_norm
from snnx.program import flatten
from snnx.random import uniform

BACKENDS = ("numpy", "torch", "mlx")
NET = snnx.Chain(
    snnx.Input(3, 3, 2),
    snnx.Conv2d(4, 3),
    snnx.LIF(threshold=0.5, surrogate=snnx.Rectangular(2.0)),
    snnx.Flatten(),
    snnx.Linear(3),
)


def batch() -> Any:
    x = uniform(4, "test", "quantize", 0, [0], [0], 8 * 18).reshape(8, 3, 3, 2)
    return {"x": x, "y": np.arange(8) % 3, "index": np.arange(8)}


def session_of(model: Any, backend: str, optim: snnx.Optim | None = None) -> Any:
    net = snnx.build(model, backend, seed=1, device="cpu")
    chosen = load_backend(backend)
    return chosen.session(net, snnx.SDT(), optim or snnx.Optim(), steps=3)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_weight_has_an_odd_number_of_even_levels_and_keeps_its_largest(bits: int) -> None:
    w = uniform(5, "test", "quantize", 0, [0], [0], 999).reshape(-1).astype(np.float64) - 0.3
    y = quantized(np, w, bits)
    step = np.abs(w).max() / (2 ** (bits - 1) - 1)
    np.testing.assert_allclose(y / step, np.round(y / step), atol=1e-12)
    assert np.abs(y - w).max() <= step / 2 + 1e-15
    assert y[np.abs(w).argmax()] == pytest.approx(w[np.abs(w).argmax()])
    assert len(np.unique(y)) <= 2**bits - 1


def test_a_worked_weight_of_three_bits() -> None:
    # q = 3, step = 1: 1/2 and 5/2 round to the even neighbour
    w = np.array([3.0, 0.5, -0.5, 1.5, 2.5, -1.25, 0.0])
    np.testing.assert_array_equal(quantized(np, w, 3), [3.0, 0.0, 0.0, 2.0, 2.0, -1.0, 0.0])
    np.testing.assert_array_equal(quantized(np, np.zeros(3), 3), np.zeros(3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_network_computes_with_the_grid_and_trains_the_float_weight(backend: str) -> None:
    few = session_of(with_weight_bits(NET, 4), backend)
    plain = session_of(NET, backend)
    weights = plain.export().parameters
    np.testing.assert_array_equal(few.export().parameters["1.weight"], weights["1.weight"])
    rounded = {k: quantized(np, w, 4) if k.endswith("weight") else w for k, w in weights.items()}
    whole = plain.export()
    plain.load(snnx.backend.Snapshot(rounded, whole.statistics, whole.moments, whole.count))
    a, b = (s.grads(batch(), {}) for s in (few, plain))
    assert a[0] == pytest.approx(b[0], rel=1e-6)
    for name, g in b[1].items():
        np.testing.assert_allclose(a[1][name], g, atol=2e-6 * max(np.abs(g).max(), 1e-3))
    few.read(few.step([batch()], {"lr": 1e-3}))
    moved = few.export().parameters["1.weight"]
    assert 0 < np.abs(moved - weights["1.weight"]).max() < 1e-2


@pytest.mark.parametrize("bits", [1, 17, 0, 3.0, True])
def test_other_bits_are_refused_when_the_layer_is_made(bits: Any) -> None:
    for make in (lambda: snnx.Conv2d(4, 3, bits=bits), lambda: snnx.Linear(4, bits=bits)):
        with pytest.raises(ValueError, match="bits is None or a whole number from 2 to 16"):
            make()
    with pytest.raises(ValueError, match="from 2 to 16"):
        quantized(np, np.ones(3), bits)


def test_bits_travel_with_the_model_and_leave_it_whole_where_not_asked_for() -> None:
    model = with_weight_bits(MODELS["digits"](width=0.1), 8)
    assert serial.loads(serial.dumps(model)) == model
    assert [s.attributes["bits"] for s in flatten(model).steps if "bits" in s.attributes] == [8] * 3
    assert all("bits" not in s.attributes for s in flatten(NET).steps)
    assert with_weight_bits(model, None) == MODELS["digits"](width=0.1)
    sizes = (
        sum(p.size for p in flatten(m).parameters) for m in (model, with_weight_bits(model, None))
    )
    assert len(set(sizes)) == 1


def test_the_norm_after_a_quantised_weight_is_not_folded() -> None:
    model = MODELS["digits"](width=0.1)
    for bits, left in ((None, 0), (8, 2)):
        program = flatten(with_weight_bits(model, bits))
        weights = {p.path: np.ones(p.shape) for p in program.parameters}
        statistics = {s.path: np.ones(s.shape) for s in program.statistics}
        folded, _, _ = fold_norm(program, weights, statistics)
        assert sum(s.op == "batch_norm" for s in folded.steps) == left


def test_dsr_takes_weights_of_few_bits() -> None:
    model = DSRMethod(weight_bits=4).for_steps(10).rewrite(MODELS["digits"](width=0.1))
    assert [s.attributes["bits"] for s in flatten(model).steps if "bits" in s.attributes] == [4] * 3
