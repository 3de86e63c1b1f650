"""The tree, its program, and what both say of a mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import (
    DSR,
    IF,
    LIF,
    AvgPool2d,
    BatchNorm,
    Chain,
    Conv2d,
    Dial,
    Dspike,
    Flatten,
    Input,
    Learned,
    Linear,
    MaxPool2d,
    Recurrent,
    Residual,
    Triangular,
)
from snnx.building import initial_parameters
from snnx.passes import fold_norm
from snnx_numpy import backend


def block(features: int, stride: int) -> Residual:
    """Return a residual block whose skip changes the shape."""
    body = Chain(Conv2d(features, 3, stride), BatchNorm(), LIF(), Conv2d(features, 3), BatchNorm())
    return Residual(body, Chain(Conv2d(features, 1, stride), BatchNorm()))


def loose(make: Any, *arguments: Any, **fields: Any) -> Any:
    """Call with arguments that a type checker would refuse."""
    return make(*arguments, **fields)


NET = Chain(
    Input(8, 8, 2),
    Conv2d(4, 3, bias=False),
    BatchNorm(),
    LIF(threshold=Learned(1.0, "channel", group="threshold")),
    block(6, 2),
    LIF(surrogate=Dspike()),
    AvgPool2d(2),
    Flatten(),
    Linear(5),
)


def test_paths_follow_the_tree():
    program = snnx.flatten(NET)
    assert [s.path for s in program.steps][:4] == ["1", "2", "3", "4.body.0"]
    assert program.step("4").inputs == {"a": "4.body.4", "b": "4.skip.1"}
    assert program.output_shape == (5,)
    assert program.dials == {"temperature": 1.0}


def test_parameters_are_known_without_a_framework():
    found = {p.path: (p.shape, p.role, p.group) for p in snnx.parameters(NET)}
    assert found["1.weight"] == ((4, 3, 3, 2), "weight", "weight")
    assert found["3.threshold"] == ((4,), "threshold", "threshold")
    assert found["4.skip.0.weight"] == ((6, 1, 1, 4), "weight", "weight")
    assert "1.bias" not in found


def test_initial_weights_depend_on_seed_and_path_only():
    program = snnx.flatten(NET)
    a, b, c = (initial_parameters(program, s) for s in (0, 0, 1))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["1.weight"], c["1.weight"])
    bound = 1 / np.sqrt(18)
    assert np.abs(a["1.weight"]).max() <= bound
    assert np.abs(a["1.weight"]).max() > 0.8 * bound


def test_only_what_fires_alone_is_binary():
    program = snnx.flatten(
        Chain(Input(4, 4, 1), Conv2d(2, 3), IF(), MaxPool2d(2), Flatten(), Linear(3), LIF())
    )
    binary = {name: edge.binary for name, edge in program.edges.items()}
    assert binary == {
        "input": False, "1": False, "2": True, "3": True, "4": True, "5": False, "6": True
    }  # fmt: skip
    scaled = snnx.flatten(Chain(Input(3), DSR.leaky(), Linear(2)))
    assert scaled.edges["1"].binary
    pooled = snnx.flatten(Chain(Input(4, 4, 1), IF(), AvgPool2d(2)))
    assert not pooled.edges["2"].binary


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Linear(3),), r"layer 1 Linear: expects one axis of features.*Flatten"),
        ((Flatten(), Conv2d(3, 3)), r"layer 2 Conv2d: expects H, W, C"),
        ((Conv2d(3, 9, padding=0),), r"kernel 9 with padding 0 does not fit into 8 x 8"),
        ((Conv2d(4, 3, groups=2),), r"1 input features are no multiple of groups 2"),
        ((Residual(Conv2d(3, 3)),), r"layer 1 Residual: body gives .* skip gives"),
        ((Chain(Flatten(), Recurrent(LIF()), Input(3)),), r"layer 1.2 Input: .* only first"),
        ((AvgPool2d(16),), r"kernel 16 does not fit"),
    ],
)
def test_a_layer_that_does_not_fit_is_named_with_its_place(layers, message):
    with pytest.raises(ValueError, match=message):
        snnx.flatten(Chain(Input(8, 8, 1), *layers))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LIF(decay=1.5), ValueError, "decay"),
        (lambda: LIF(threshold=0.0), ValueError, "threshold"),
        (lambda: loose(LIF, reset="zero"), ValueError, "reset"),
        (lambda: loose(LIF, fire="=="), ValueError, "fire"),
        (lambda: LIF(analog=2.0), ValueError, "analog"),
        (lambda: loose(LIF, emit=("width", 1.0)), ValueError, "emit"),
        (lambda: loose(LIF, surrogate="triangle"), TypeError, "surrogate"),
        (lambda: Triangular(width=Learned(1.0)), ValueError, "log"),
        (lambda: Triangular(width=-1.0), ValueError, "width"),
        (lambda: Learned(0.0, transform="log"), ValueError, "log"),
        (lambda: Learned(2.0, low=3.0), ValueError, "outside"),
        (lambda: Dial("", 1.0), ValueError, "name"),
        (lambda: Conv2d(4, 2), ValueError, "odd kernel"),
        (lambda: Conv2d(3, 3, groups=2), ValueError, "multiple"),
        (lambda: loose(Chain, Input(3), "LIF"), TypeError, r"Chain\[1\]"),
        (lambda: DSR(LIF()), ValueError, "subtract"),
        (lambda: LIF.from_snntorch(0.9), ValueError, "reset_delay"),
        (lambda: LIF.from_tau(1.0), ValueError, "tau"),
        (lambda: Input(), ValueError, "Input"),
        (lambda: snnx.flatten(Linear(3)), TypeError, "Chain that begins with Input"),
    ],
)
def test_a_wrong_number_is_refused_when_it_is_written(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_one_dial_has_one_initial_value():
    a, b = Dspike(Dial("b", 1.0)), Dspike(Dial("b", 2.0))
    with pytest.raises(ValueError, match=r"Dial 'b' starts at 2\.0, elsewhere at 1\.0"):
        snnx.flatten(Chain(Input(3), LIF(surrogate=a), LIF(surrogate=b)))


def test_constructors_say_what_the_peers_compute():
    assert LIF.from_tau(2.0) == LIF(decay=0.5, gain=0.5)
    soft = LIF.from_spikingjelly(tau=4.0, decay_input=False, v_reset=None, detach_reset=True)
    assert soft == LIF(decay=0.75, gain=1.0, reset="subtract", detach_reset=True)
    snn = LIF.from_snntorch(0.9, reset_delay=False)
    assert snn == LIF(decay=0.9, reset="subtract", fire=">")


def test_folding_the_norms_leaves_the_output():
    program = snnx.flatten(NET)
    net = backend.build(program, initial_parameters(program, 3), precision="fp64")
    rng = np.random.default_rng(0)
    net.training = True
    net(rng.normal(size=(2, 8, 8, 8, 2)))  # moves the running statistics
    net.training = False
    for path in ("2.weight", "4.body.1.weight"):
        net.parameters[path] = rng.normal(1.0, 0.2, net.parameters[path].shape)
    folded, arrays, left = fold_norm(program, net.parameters, net.statistics)
    assert [s.op for s in folded.steps].count("batch_norm") == 0
    assert not left
    assert len(folded.steps) == len(program.steps) - 4
    bare = backend.build(folded, arrays, precision="fp64")
    x = rng.normal(size=(3, 4, 8, 8, 2))
    y, _ = net(x)
    z, _ = bare(x)
    assert np.abs(y).max() > 0
    np.testing.assert_allclose(z, y, atol=1e-12)


def test_a_norm_after_a_sum_is_not_folded():
    program = snnx.flatten(
        Chain(Input(4), Residual(Linear(4)), BatchNorm(), LIF(), Linear(2), BatchNorm())
    )
    arrays = initial_parameters(program, 0)
    statistics = {s.path: np.full(s.shape, s.value) for s in program.statistics}
    folded, _, left = fold_norm(program, arrays, statistics)
    assert [s.op for s in folded.steps] == ["linear", "add", "batch_norm", "neuron", "linear"]
    assert set(left) == {"2.running_mean", "2.running_var"}
