"""Neurons as users write them: they get the kernels of the built-in ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snnx import CLIF, LIF, Learned, Neuron, Rectangular, Triangular
from snnx.surrogate import ArcTan


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLIF(Neuron):
    """A LIF whose threshold rises by `rise`, learned per channel, with every spike."""

    states: ClassVar[tuple[str, ...]] = ("v", "a")
    decay: Any = 0.5
    threshold: Any = 0.7
    rise: Any = Learned(0.2, share="channel", low=0.0)
    recovery: Any = Learned(0.9, share="neuron")

    def step(self, ops: Any, x: Any, state: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        """Return the spike and both states."""
        u = p.decay * state["v"] + x
        s = ops.spike(u - p.threshold - p.rise * state["a"])
        return s, {"v": u * (1.0 - s), "a": p.recovery * state["a"] + s}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadraticIF(Neuron):
    """Quadratic integrate-and-fire: u = v + rate v (v - critical) + x, reset to 0."""

    rate: Any = Learned(0.5)
    critical: Any = 0.8
    threshold: Any = 1.0

    def step(self, ops: Any, x: Any, state: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        """Return the spike and the potential."""
        v = state["v"]
        u = ops.maximum(v + p.rate * v * (v - p.critical) + x, -1.0)
        s = ops.spike(u - p.threshold)
        return s, {"v": u * (1.0 - s)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursting(Neuron):
    """A resonator whose reset is detached: its backward needs two comparisons, and no value."""

    states: ClassVar[tuple[str, ...]] = ("v", "w")

    def step(self, ops: Any, x: Any, state: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        """Return twice the spike and both states."""
        u = 0.5 * state["v"] - 0.25 * state["w"] + x
        s = ops.spike(u - 1.0)
        r = ops.stop_gradient(s)
        return 2.0 * s, {"v": u * (1.0 - r), "w": 0.75 * state["w"] + 0.5 * u + r}


OWN: dict[str, Neuron] = {
    "adaptive": AdaptiveLIF(surrogate=Triangular(1.0)),
    "quadratic": QuadraticIF(surrogate=Triangular(1.0)),
    "bursting": Bursting(surrogate=Rectangular(1.0)),
    "clif": CLIF.from_tau(threshold=Learned(0.5, low=0.1), surrogate=ArcTan(2.0)),
    "lif": LIF(surrogate=Triangular(1.0)),
}
