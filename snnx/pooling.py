"""Pooling layers: windows of every step, over space."""

from __future__ import annotations

from dataclasses import dataclass

from snnx.layers import Layer, need_rank, place, whole
from snnx.program import Builder, Edge, Shape, ShapeError


@dataclass(frozen=True, slots=True)
class AvgPool2d(Layer):
    """Mean over windows kernel x kernel, moved by `stride` (the kernel unless given)."""

    kernel: int
    stride: int | None = None

    def __post_init__(self) -> None:
        whole(self, kernel=self.kernel, stride=self.stride or self.kernel)

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        shape = _pooled(self, path, edge, self.kernel, self.stride or self.kernel, 0)
        attributes = {"kernel": self.kernel, "stride": self.stride or self.kernel}
        inputs = {"x": edge.name}
        return program.add("avg_pool2d", path, inputs, attributes, shape, layer="AvgPool2d")


@dataclass(frozen=True, slots=True)
class MaxPool2d(Layer):
    """Maximum over windows; among equal values the first in row-major order has the gradient."""

    kernel: int
    stride: int | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        whole(self, kernel=self.kernel, stride=self.stride or self.kernel)
        if not 0 <= self.padding <= self.kernel // 2:
            raise ValueError(f"MaxPool2d: padding must be in [0, kernel / 2], not {self.padding}")

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        stride = self.stride or self.kernel
        shape = _pooled(self, path, edge, self.kernel, stride, self.padding)
        attributes = {"kernel": self.kernel, "stride": stride, "padding": self.padding}
        return program.add(
            "max_pool2d",
            path,
            {"x": edge.name},
            attributes,
            shape,
            binary=edge.binary,
            layer="MaxPool2d",
        )


def _pooled(layer: Layer, path: str, edge: Edge, kernel: int, stride: int, padding: int) -> Shape:
    need_rank(layer, path, edge, 3, "H, W, C")
    h, w, c = edge.shape
    size = tuple((s + 2 * padding - kernel) // stride + 1 for s in (h, w))
    if min(size) < 1:
        raise ShapeError(f"{place(layer, path)}: kernel {kernel} does not fit into {h} x {w}")
    return (*size, c)


@dataclass(frozen=True, slots=True)
class GlobalAvgPool2d(Layer):
    """Mean over H and W: [T, N, H, W, C] -> [T, N, C]."""

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        need_rank(self, path, edge, 3, "H, W, C")
        inputs = {"x": edge.name}
        return program.add(
            "global_avg_pool2d", path, inputs, {}, edge.shape[-1:], layer="GlobalAvgPool2d"
        )
