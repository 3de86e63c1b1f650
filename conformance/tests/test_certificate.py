"""Certificates: what they measure, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snnx.layers import BatchNorm, Chain, Conv2d, Flatten, Input, Linear
from snnx.neurons import IF, LIF
from snnx.ops._cases import bits, dyadic, generator
from snnx.pooling import AvgPool2d
from snnx.program import flatten
from snnx.surrogate import Rectangular, Sigmoid, Triangular
from snnx_conformance.certificate import Budget, Refused, grid_of, tracked
from snnx_conformance.exact import certify, prove
from snnx_conformance.exact_nets import ExactNet, exact_nets, make


def test_grid_is_the_largest_power_of_two_that_divides_all() -> None:
    assert grid_of([0.75, 6.0, 0.0]) == 0.25
    assert grid_of([12.0, -20.0]) == 4.0
    assert grid_of([1.0 + 2.0**-40]) == 2.0**-40
    assert math.isinf(grid_of([0.0]))


def test_bits_of_a_sum_count_all_terms_whatever_their_sign() -> None:
    budget = Budget(where="here")
    a = tracked(np.array([[8.0, -8.0, 0.5]]), budget)
    np.sum(a)
    assert budget.bits == pytest.approx(math.log2(16.5 / 0.5))


def test_bits_of_a_product_of_matrices() -> None:
    budget = Budget(where="here")
    a = tracked(np.array([[1.0, -1.0], [0.5, 0.25]]), budget)
    np.matmul(a, np.array([[2.0], [4.0]]))
    assert budget.bits == pytest.approx(math.log2(6.0 / (0.25 * 2.0)))


def test_bits_of_a_chain_of_additions_hold_in_any_order() -> None:
    budget = Budget(where="here")
    total = tracked(np.zeros(1), budget)
    for term in (2.0**23, -(2.0**23), 2.0**23, -(2.0**23), 1.0):
        total = total + np.array([term])
    assert float(total[0]) == 1.0
    assert budget.bits > 24
    with pytest.raises(Refused, match="needs 25"):
        budget.check()


@pytest.mark.parametrize(
    "operation",
    [np.tanh, np.exp, np.sqrt, np.arctan, lambda a: a / 3.0],
    ids=["tanh", "exp", "sqrt", "atan", "third"],
)
def test_what_is_not_dyadic_is_refused(operation: object) -> None:
    with pytest.raises(Refused):
        operation(tracked(np.array([0.5]), Budget()))  # type: ignore[operator]


def certificate(model: Chain, steps: int, grid: float = 0.5) -> Budget:
    program = flatten(model)
    rng = generator(3)
    weights = {p.path: dyadic(rng, p.shape, grid) for p in program.parameters}
    x = bits(rng, (steps, 4, *program.input_shape))
    batch = {"x": x, "y": np.arange(4) % program.output_shape[-1], "index": np.arange(4)}
    return certify(program, weights, batch, steps)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "model",
    [
        Chain(Input(8), Linear(8), LIF(surrogate=Sigmoid()), Linear(4)),
        Chain(Input(6, 6, 1), Conv2d(2, 3), BatchNorm(), IF(), Flatten(), Linear(4)),
        Chain(Input(6, 6, 1), Conv2d(2, 3), IF(), AvgPool2d(3), Flatten(), Linear(4)),
        Chain(Input(8), Linear(8), LIF(surrogate=Rectangular(0.75)), Linear(4)),
        Chain(Input(8), Linear(8), IF(), Linear(3)),
    ],
    ids=["sigmoid", "norm", "ninths", "width", "thirds"],
)
def test_network_that_cannot_be_exact_is_refused(model: Chain) -> None:
    with pytest.raises(Refused):
        certificate(model, 4)


def test_network_over_its_budget_is_refused_and_says_where() -> None:
    n = LIF(decay=0.5, surrogate=Triangular(2.0))
    model = Chain(Input(8), Linear(16), n, Linear(16), n, Linear(4))
    with pytest.raises(Refused, match=r"needs \d+\.\d bits at .*, float32 has 24"):
        certificate(model, 8, 0.25)


def test_refused_network_fails_its_case_and_is_not_left_out(monkeypatch: object) -> None:
    from snnx.backend import load_backend
    from snnx_conformance import exact

    big = make("dense", "lif", "hard", False, "tri", 16, 0.125, False)
    backend = load_backend("numpy")
    monkeypatch.setattr(exact, "exact_nets", lambda: iter([big]))  # type: ignore[attr-defined]
    (outcome,) = [case.run() for case in exact.cases(backend)]
    assert outcome.status == "failed"
    assert "Refused" in outcome.message


def test_the_table_has_what_it_should() -> None:
    nets = list(exact_nets())
    names = [net.name for net in nets]
    assert len(set(names)) == len(names) >= 30
    for word in ("if-", "lif-", "hard", "soft", "attached", "detached", "rect", "tri", "conv-avg"):
        assert any(word in name for name in names), word
    for word in ("conv-max", "dense", "residual", "recurrent", "strided", "static"):
        assert any(word in name for name in names), word
    assert "dense-if-hard-detached-rect-T32" in names
    assert "dense-lif-hard-detached-rect-T8" in names
    assert any("-if-" in name and "tri" in name for name in names)


@pytest.mark.parametrize("net", list(exact_nets()), ids=lambda net: net.name)
def test_every_network_of_the_table_is_within_float32(net: ExactNet) -> None:
    assert 4 < prove(net).budget.bits <= 24


@pytest.mark.parametrize("net", list(exact_nets()), ids=lambda net: net.name)
def test_no_convolution_of_the_table_is_large_enough_for_winograd(net: ExactNet) -> None:
    # Metal takes F(6, 3), whose constants are not dyadic, from 256 features in and out together
    program = flatten(net.model)
    shapes = [p.shape for p in program.parameters if len(p.shape) == 4]
    assert all(shape[0] + shape[3] < 256 for shape in shapes)
