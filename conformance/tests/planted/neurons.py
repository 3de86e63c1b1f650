"""Neurons that are wrong, and how the backend's neurons are turned into them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from snnx.neurons import LIF
from snnx.surrogate import Rectangular, Surrogate
from tests.planted.kit import Mutate


@dataclass(frozen=True, slots=True, kw_only=True)
class Late(LIF):
    """Decays after the input was added."""

    def step(self, ops: Any, x: Any, state: Any, p: Any) -> Any:
        return LIF.step(self, ops, p.decay * x, state, p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale(LIF):
    """Fires by the potential of the step before."""

    def step(self, ops: Any, x: Any, state: Any, p: Any) -> Any:
        gain = 1.0 - p.decay if self.gain == "1-decay" else p.gain
        s = ops.spike(state["v"] - p.fire_fraction * p.threshold)
        return s, {"v": (p.decay * state["v"] + gain * x) * (1.0 - s)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shallow(LIF):
    """Subtracts the level at which it fires, not the threshold."""

    def step(self, ops: Any, x: Any, state: Any, p: Any) -> Any:
        y, new = LIF.step(self, ops, x, state, p)
        if self.reset == "subtract":
            u = p.decay * state["v"] + (1.0 - p.decay if self.gain == "1-decay" else p.gain) * x
            new = {"v": u - p.fire_fraction * (u - new["v"])}
        return y, new


@dataclass(frozen=True, slots=True)
class Scaled(Surrogate):
    """A surrogate whose slope is 1 % too large, or 0."""

    inner: Surrogate = Rectangular()
    factor: float = 1.01

    def value(self, ops: Any, x: Any, p: Any) -> Any:
        return self.inner.value(ops, x, p)

    def slope(self, ops: Any, x: Any, p: Any) -> Any:
        return self.factor * self.inner.slope(ops, x, p)

    def parameter_slopes(self, ops: Any, x: Any, p: Any) -> Any:
        return self.inner.parameter_slopes(ops, x, p)


def turned_into(kind: type[LIF]) -> Mutate:
    def mutate(neuron: Any) -> Any:
        if type(neuron) is not LIF:
            return neuron
        return kind(**{f.name: getattr(neuron, f.name) for f in fields(neuron)})

    return mutate


def changed(**changes: Any) -> Mutate:
    return lambda n: replace(n, **changes) if type(n) is LIF else n


def sloped(factor: float) -> Mutate:
    def mutate(neuron: Any) -> Any:
        if any(k.startswith("surrogate.") for k in _varying(neuron)):
            return neuron
        kind = neuron.surrogate
        numbers = {f.name: getattr(kind, f.name) for f in fields(kind)}
        return replace(neuron, surrogate=_fixed(kind, numbers, factor))

    return mutate


def _varying(neuron: Any) -> list[str]:
    return [k for k, v in neuron.scalars().items() if not isinstance(v, int | float)]


def _fixed(kind: Surrogate, numbers: dict[str, Any], factor: float) -> Surrogate:
    """Return the surrogate with its numbers bound, its slope scaled."""

    class Bound:
        def __init__(self) -> None:
            self.__dict__.update(numbers)

    class Inner(Surrogate):
        def value(self, ops: Any, x: Any, p: Any) -> Any:
            return kind.value(ops, x, Bound())

        def slope(self, ops: Any, x: Any, p: Any) -> Any:
            return kind.slope(ops, x, Bound())

        def parameter_slopes(self, ops: Any, x: Any, p: Any) -> Any:
            return {}

    return Scaled(Inner(), factor)
