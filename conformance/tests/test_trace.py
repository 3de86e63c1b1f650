"""The traced step and the reverse that is derived from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from snnx import LIF, Chain, Dial, Dspike, Input, Learned, Neuron, Triangular, flatten
from snnx.lower import forward_lines, reverse_lines
from snnx.ops.neuron import NEURON, operations
from snnx.trace import OPERATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything(Neuron):
    """A neuron whose step uses every operation that a step may use."""

    states: ClassVar[tuple[str, ...]] = ("v", "a")
    rise: Any = Learned(0.3)

    def step(self, ops, x, state, p):
        u = ops.sqrt(1.5 + ops.tanh(state["v"])) * x - ops.exp(-ops.abs(state["a"])) / 2.0
        u = u + ops.atan(x * p.rise) + ops.log(2.0 + state["v"] * state["v"])
        u = ops.where(ops.gt(u, 0.1), ops.maximum(u, x), ops.minimum(u, 2.0 - x))
        s = ops.spike(u - p.rise - state["a"])
        return s * 2.0, {"v": u * (1.0 - s), "a": 0.5 * state["a"] + p.rise * s}


def gradients(neuron: Neuron, fire: str, seed: int = 0) -> tuple[dict, Any, Any]:
    """Return inputs, the reference's gradients and a function that gives central differences."""
    rng = np.random.default_rng(seed)
    inputs = {"x": rng.normal(size=(4, 2, 3))}
    for name in neuron.states:
        inputs[f"state.{name}"] = rng.normal(size=(2, 3))
    for name, scalar in neuron.scalars().items():
        if isinstance(scalar, Learned):
            inputs[f"p.{name}"] = np.array(scalar.init)
    attributes = {"neuron": neuron, "fire": fire}
    outputs = NEURON.forward(np, inputs, attributes)
    cotangents = {k: rng.normal(size=v.shape) for k, v in outputs.items()}
    found = NEURON.vjp(np, inputs, attributes, outputs, cotangents)

    def along(name: str, direction: np.ndarray, e: float = 1e-6) -> float:
        def value(d: float) -> float:
            moved = {**inputs, name: inputs[name] + d * direction}
            out = NEURON.forward(np, moved, attributes)
            return sum(float((cotangents[k] * v).sum()) for k, v in out.items())

        return (value(e) - value(-e)) / (2 * e)

    return inputs, found, along


def test_the_reverse_of_every_operation_is_its_derivative():
    neuron = Everything(surrogate=Triangular(width=Learned(1.7, transform="log")))
    inputs, found, along = gradients(neuron, "smooth")
    rng = np.random.default_rng(1)
    for name, value in inputs.items():
        direction = rng.normal(size=value.shape)
        expected = along(name, direction)
        assert abs((found[name] * direction).sum() - expected) < 1e-6 * max(1.0, abs(expected))


def test_a_learned_temperature_has_the_gradient_of_dspike():
    neuron = LIF(surrogate=Dspike(Learned(3.0, transform="log"), radius=4.0))
    _, found, along = gradients(neuron, "smooth")
    expected = along("p.surrogate.temperature", np.array(1.0))
    assert found["p.surrogate.temperature"] == pytest.approx(expected, rel=1e-6)


def test_a_detached_reset_passes_no_gradient():
    free, cut = LIF(), LIF(detach_reset=True)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(1.0, 0.5, size=(5, 2, 3))}
    out = NEURON.forward(np, inputs, {"neuron": free})
    g = {"y": np.zeros_like(out["y"]), "state.v": np.ones((2, 3))}
    a = NEURON.vjp(np, inputs, {"neuron": free}, out, g)["x"]
    b = NEURON.vjp(np, inputs, {"neuron": cut}, out, g)["x"]
    assert not np.allclose(a, b)
    silent = 1.0 - out["y"]
    through = np.cumprod(silent[::-1], axis=0)[::-1] * 0.5 ** np.arange(4, -1, -1)[:, None, None]
    np.testing.assert_allclose(b, through)  # v[T] depends on x[t] only without a reset after t


def test_the_reverse_needs_no_mode():
    trace = LIF(analog=0.5).trace()
    assert reverse_lines(trace, ()).inputs == ("x", "state.v", "spike", "g.y", "g.state.v")
    assert "mask" in forward_lines(trace, "mixed").inputs
    assert forward_lines(trace, "imposed").inputs == ("x", "state.v", "spike")


def test_dials_are_inputs_and_constants_are_baked():
    trace = LIF(threshold=Dial("threshold", 1.0), decay=0.25).trace()
    assert trace.inputs == ("x", "state.v", "p.threshold")
    assert any(0.25 in line.args for line in trace.lines)


def test_every_operation_has_a_meaning_on_arrays():
    assert set(operations(np)) == set(OPERATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent(Neuron):
    def step(self, ops, x, state, p):
        return x, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Twice(Neuron):
    def step(self, ops, x, state, p):
        return ops.spike(x) + ops.spike(x - 1.0), state


@dataclass(frozen=True, slots=True, kw_only=True)
class Branching(Neuron):
    def step(self, ops, x, state, p):
        return (ops.spike(x) if x else x), state


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetful(Neuron):
    def step(self, ops, x, state, p):
        return ops.spike(x), {}


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        (Silent(), "never calls ops.spike"),
        (Twice(), "fires once"),
        (Branching(), "may not branch"),
        (Forgetful(), "returns states"),
    ],
)
def test_a_step_that_cannot_be_traced_says_why(neuron, message):
    with pytest.raises((ValueError, TypeError), match=message):
        flatten(Chain(Input(3), neuron))
