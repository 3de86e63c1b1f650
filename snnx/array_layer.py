"""Your own layer, written in array-API code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnx.layers import Layer
from snnx.program import Builder, Edge, Init, Shape


@dataclass(frozen=True, slots=True)
class ArrayLayer(Layer):
    """Base of a user's own layer, written in array-API code.

    Subclasses give `output_shape(shape)`, `parameters(shape)` -> {name: (shape, Init)}, and
    `forward(xp, x, parameters)` for x [T, N, *F]. With `vjp(xp, x, parameters, y, g)` ->
    (g_x, {name: g}) every backend trains it by that rule; without it torch and MLX differentiate
    `forward` themselves, and the numpy backend refuses to train it. `macs(shape)` tells how many
    multiply-accumulates it costs; None, where it is not given, makes the network's count unknown.
    """

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output's shape without [T, N]."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, tuple[Shape, Init]]:
        """Return the shape and start of every parameter."""
        return {}

    def macs(self, shape: Shape) -> int | None:
        """Return the multiply-accumulates of one sample and step, for an input of this shape."""
        return None

    def forward(self, xp: Any, x: Any, parameters: Mapping[str, Any]) -> Any:
        """Return y [T, N, *output_shape]."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def vjp(self, xp: Any, x: Any, parameters: Mapping[str, Any], y: Any, g: Any) -> Any:
        """Return (g_x, {name: g}) of the output's gradient g."""
        raise NotImplementedError(f"{type(self).__name__}.vjp")

    @property
    def has_vjp(self) -> bool:
        """Whether the class gives its own vjp."""
        return type(self).vjp is not ArrayLayer.vjp

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        inputs = {"x": edge.name}
        for name, (shape, init) in self.parameters(edge.shape).items():
            inputs[name] = program.parameter(f"{path}.{name}", shape, "weight", init)
        shape = self.output_shape(edge.shape)
        name = type(self).__name__
        return program.add("array_layer", path, inputs, {"layer": self}, shape, layer=name)
