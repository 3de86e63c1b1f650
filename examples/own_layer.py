"""Your own layer: array-API code with its gradient, the same on numpy, torch and MLX.

The layer divides every input by the root mean square over its features and scales it back.

python examples/own_layer.py --backend torch
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import snnx
from snnx import LIF, ArrayLayer, Chain, Flatten, Input, Linear, Triangular
from snnx.program import Init, Shape


@dataclass(frozen=True, slots=True)
class RMSNorm(ArrayLayer):
    """y = weight x / r,  r = sqrt(mean(x^2) + eps) over the last axis."""

    eps: float = 1e-5

    def parameters(self, shape: Shape) -> dict[str, tuple[Shape, Init]]:
        return {"weight": (shape[-1:], Init("constant", 1.0))}

    def forward(self, xp: Any, x: Any, parameters: Mapping[str, Any]) -> Any:
        return parameters["weight"] * x / self._root(xp, x)

    def _root(self, xp: Any, x: Any) -> Any:
        return xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + self.eps)

    def vjp(self, xp: Any, x: Any, parameters: Mapping[str, Any], y: Any, g: Any) -> Any:
        r = self._root(xp, x)
        h = parameters["weight"] * g
        g_x = (h - x * xp.mean(h * x, axis=-1, keepdims=True) / (r * r)) / r
        over = tuple(range(x.ndim - 1))
        return g_x, {"weight": xp.sum(g * x / r, axis=over)}


def model(hidden: int = 64) -> Chain:
    """Return a dense spiking net with the layer before its neurons."""
    neuron = LIF(surrogate=Triangular(width=1.0))
    return Chain(Input(8, 8, 1), Flatten(), Linear(hidden), RMSNorm(), neuron, Linear(10))


def main(arguments: list[str] | None = None) -> float:
    """Train on the digits; return the test accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--epochs", type=int, default=10)
    chosen = parser.parse_args(arguments)
    optim = snnx.Optim(snnx.Adam(lr=0.01))
    result = snnx.fit(model(), "digits", optim=optim, epochs=chosen.epochs, backend=chosen.backend)
    print(f"test accuracy {result.test_accuracy:.4f}")
    return result.test_accuracy


if __name__ == "__main__":
    main()
