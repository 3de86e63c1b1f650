"""ReLU: what stands in the place of a neuron in a network without time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnx.array_layer import ArrayLayer
from snnx.program import Shape


@dataclass(frozen=True, slots=True)
class ReLU(ArrayLayer):
    """Rectified linear unit: y = max(x, 0), of any shape; the gradient at x = 0 is 0."""

    def macs(self, shape: Shape) -> int:
        return 0

    def forward(self, xp: Any, x: Any, parameters: Mapping[str, Any]) -> Any:
        return xp.where(x > 0, x, xp.zeros_like(x))

    def vjp(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, xp: Any, x: Any, parameters: Mapping[str, Any], y: Any, g: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the gradient of x: that of y where x is above 0."""
        return xp.where(x > 0, g, xp.zeros_like(g)), {}
