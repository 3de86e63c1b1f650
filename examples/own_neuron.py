"""Your own neuron: one `step`, written once, runs and trains on every backend.

Two are shown: a LIF whose threshold rises with every spike, and a quadratic integrate-and-fire.

python examples/own_neuron.py --backend mlx
"""

import argparse
from dataclasses import dataclass
from typing import Any, ClassVar

import snnx
from snnx import Chain, Flatten, Input, Learned, Linear, Neuron, Triangular
from snnx.scalars import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLIF(Neuron):
    """A LIF with an adaptive threshold.

    u[t] = decay v[t-1] + x[t]
    s[t] = 1 where u[t] >= threshold + rise a[t-1]
    v[t] = u[t] (1 - s[t]),    a[t] = recovery a[t-1] + s[t]
    """

    states: ClassVar[tuple[str, ...]] = ("v", "a")
    decay: Scalar = 0.5
    threshold: Scalar = 1.0
    rise: Scalar = Learned(0.2, share="channel", group="rise", low=0.0)
    recovery: Scalar = 0.9

    def step(self, ops: Any, x: Any, state: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        u = p.decay * state["v"] + x
        s = ops.spike(u - p.threshold - p.rise * state["a"])
        return s, {"v": u * (1.0 - s), "a": p.recovery * state["a"] + s}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadraticIF(Neuron):
    """Quadratic integrate-and-fire: u[t] = v + rate v (v - critical) + x[t], hard reset to 0."""

    rate: Scalar = 0.5
    critical: Scalar = 0.8
    threshold: Scalar = 1.0

    def step(self, ops: Any, x: Any, state: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        v = state["v"]
        u = ops.maximum(v + p.rate * v * (v - p.critical) + x, -1.0)
        s = ops.spike(u - p.threshold)
        return s, {"v": u * (1.0 - s)}


def model(neuron: Neuron, hidden: int = 64) -> Chain:
    """Return a net of two spiking layers of the neuron."""
    return Chain(
        Input(8, 8, 1), Flatten(), Linear(hidden), neuron, Linear(hidden), neuron, Linear(10)
    )


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train both neurons; return their test accuracies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--epochs", type=int, default=10)
    chosen = parser.parse_args(arguments)
    surrogate = Triangular(width=1.0)
    accuracy = {}
    for neuron in (AdaptiveLIF(surrogate=surrogate), QuadraticIF(surrogate=surrogate)):
        result = snnx.fit(
            model(neuron),
            "digits",
            optim=snnx.Optim(snnx.Adam(lr=0.01)),
            steps=6,
            epochs=chosen.epochs,
            backend=chosen.backend,
        )
        name = type(neuron).__name__
        accuracy[name] = result.test_accuracy
        print(f"{name:12} test accuracy {result.test_accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
