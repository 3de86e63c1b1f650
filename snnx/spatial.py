"""Layers that change height and width without weights, and that the op table does not hold.

Both are user layers with a vjp in array-API code, so every backend runs them by one rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnx.array_layer import ArrayLayer
from snnx.layers import need_rank
from snnx.program import Builder, Edge, Shape


@dataclass(frozen=True, slots=True)
class Pad2d(ArrayLayer):
    """A border of `padding` zeros: [T, N, H, W, C] -> [T, N, H + 2 padding, W + 2 padding, C].

    Before AvgPool2d it makes an average pool whose windows count their padding.
    """

    padding: int

    def __post_init__(self) -> None:
        if not isinstance(self.padding, int) or isinstance(self.padding, bool) or self.padding < 1:
            raise ValueError(f"Pad2d: padding is a whole number >= 1, not {self.padding!r}")

    def output_shape(self, shape: Shape) -> Shape:
        h, w, c = shape
        return h + 2 * self.padding, w + 2 * self.padding, c

    def macs(self, shape: Shape) -> int:
        return 0

    def forward(self, xp: Any, x: Any, parameters: Mapping[str, Any]) -> Any:
        for axis in (2, 3):
            border = [xp.zeros_like(x[_along(axis, 0, 1)])] * self.padding
            x = xp.concat([*border, x, *border], axis=axis)
        return x

    def vjp(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, xp: Any, x: Any, parameters: Mapping[str, Any], y: Any, g: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the gradient of x, that of y without the border."""
        p = self.padding
        return g[:, :, p : p + x.shape[2], p : p + x.shape[3], :], {}

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        need_rank(self, path, edge, 3, "H, W, C")
        return ArrayLayer.lower(self, program, path, edge)


@dataclass(frozen=True, slots=True)
class AdaptiveAvgPool2d(ArrayLayer):
    """Average pool to size x size, whatever the input: [T, N, H, W, C] -> [T, N, size, size, C].

        y[i, j] = mean of x[a, b] over  floor(i H / size) <= a < ceil((i + 1) H / size),  b alike

    A map smaller than `size` is repeated: 1 x 1 becomes size^2 copies. A map that has this size
    already stays, without a step in the program.
    """

    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise ValueError(f"AdaptiveAvgPool2d: size is a whole number >= 1, not {self.size!r}")

    def output_shape(self, shape: Shape) -> Shape:
        return self.size, self.size, shape[2]

    def macs(self, shape: Shape) -> int:
        return 0

    def forward(self, xp: Any, x: Any, parameters: Mapping[str, Any]) -> Any:
        for axis in (2, 3):
            means = [
                xp.mean(x[_along(axis, start, stop)], axis=axis)
                for start, stop in self._bins(x.shape[axis])
            ]
            x = xp.stack(means, axis=axis)
        return x

    def vjp(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, xp: Any, x: Any, parameters: Mapping[str, Any], y: Any, g: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the gradient of x: each element's share of every mean that it is in."""
        for axis in (3, 2):
            bins = self._bins(x.shape[axis])
            shares = [
                g[_along(axis, i, i + 1)] / (stop - start) for i, (start, stop) in enumerate(bins)
            ]
            columns = []
            for a in range(x.shape[axis]):
                first, *rest = [
                    share
                    for share, (start, stop) in zip(shares, bins, strict=True)
                    if start <= a < stop
                ]
                for share in rest:
                    first = first + share
                columns.append(first)
            g = xp.concat(columns, axis=axis)
        return g, {}

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        need_rank(self, path, edge, 3, "H, W, C")
        if edge.shape[:2] == (self.size, self.size):
            program.edge = edge
            return edge
        return ArrayLayer.lower(self, program, path, edge)

    def _bins(self, length: int) -> list[tuple[int, int]]:
        """Return where each window starts and stops along an axis of this length."""
        return [
            (i * length // self.size, -(-(i + 1) * length // self.size)) for i in range(self.size)
        ]


def _along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """Return the index of a slice along one axis of [T, N, H, W, C]."""
    return tuple(slice(start, stop) if i == axis else slice(None) for i in range(5))
