"""Layers: the language in which a model is written. A model is a tree of frozen dataclasses.

    Chain(Input(8, 8, 1), Conv2d(32, 3), BatchNorm(), LIF(), AvgPool2d(2), Flatten(), Linear(10))

A tree is a value: it holds no arrays, and the same layer written twice is two layers with weights
of their own. Sequences are [T, N, *F] with channels last; layers without time act on every step.
`lower` appends the layer's steps to a program (`snnx.program`) and checks shapes on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from snnx.program import Builder, Edge, Init, Shape, ShapeError
from snnx.weights import ZERO, bias_init, check_bits, weight_init
from snnx.weights import WeightInit as WeightInit


@dataclass(frozen=True, slots=True)
class Layer:
    """A node of the tree."""

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        """Append this layer's steps after `edge` and return the edge it makes."""
        raise NotImplementedError(f"{type(self).__name__}.lower")


def place(layer: Layer, path: str) -> str:
    """Return how an error names a layer: its path in the tree and its kind."""
    return f"layer {path} {type(layer).__name__}"


def whole(layer: Layer, **numbers: int) -> None:
    """Raise ValueError unless every number is a whole number of at least 1."""
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{type(layer).__name__}: {name} is a whole number >= 1, not {value!r}"
            )


def need_rank(layer: Layer, path: str, edge: Edge, rank: int, axes: str) -> None:
    """Raise ShapeError unless the edge has that many axes."""
    if len(edge.shape) != rank:
        hint = "; put Flatten() before it" if rank == 1 else ""
        raise ShapeError(
            f"{place(layer, path)}: expects {axes} per step, gets shape {edge.shape} "
            f"from {edge.name!r}{hint}"
        )


@dataclass(frozen=True, slots=True, init=False)
class Input(Layer):
    """The shape of one sample without time and batch: Input(8, 8, 1) is H, W, C."""

    shape: Shape

    def __init__(self, *shape: int) -> None:
        dims = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        if not dims:
            raise ValueError("Input: give at least one dimension, for example Input(8, 8, 1)")
        object.__setattr__(self, "shape", tuple(dims))
        for d in self.shape:
            whole(self, dimension=d)

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        raise ValueError(f"{place(self, path)}: Input stands only first in the outermost Chain")


@dataclass(frozen=True, slots=True, init=False)
class Chain(Layer):
    """Layers one after another."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Chain[{i}]: expects a Layer, gets {layer!r}")
        object.__setattr__(self, "layers", tuple(layers))

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        for i, layer in enumerate(self.layers):
            edge = layer.lower(program, f"{path}.{i}", edge)
        program.edge = edge
        return edge


@dataclass(frozen=True, slots=True)
class Identity(Layer):
    """The input itself."""

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        program.edge = edge
        return edge


@dataclass(frozen=True, slots=True)
class Residual(Layer):
    """body(x) + skip(x). Both branches must give one shape."""

    body: Layer
    skip: Layer = Identity()

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        a = self.body.lower(program, f"{path}.body", edge)
        b = self.skip.lower(program, f"{path}.skip", edge)
        if a.shape != b.shape:
            raise ShapeError(
                f"{place(self, path)}: body gives {a.shape}, skip gives {b.shape}; "
                "give skip=Chain(Conv2d(...), BatchNorm()) of the body's features and stride"
            )
        return program.add("add", path, {"a": a.name, "b": b.name}, {}, a.shape, layer="Residual")


@dataclass(frozen=True, slots=True)
class Conv2d(Layer):
    """2-D convolution of every step: x [T, N, H, W, I] -> [T, N, H', W', features].

    Weight [features, kernel, kernel, I / groups]. padding "same" is (kernel - 1) / 2 zeros on each
    side. init: "lecun_uniform" U(+-1/sqrt(fan_in)) for weight and bias (torch's default),
    "kaiming_normal" N(0, 2 / fan_out) and bias 0, or a number: the standard deviation, bias 0.
    bits: the weight is rounded to so many bits, straight through (op "quantize_weight").
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int | Literal["same"] = "same"
    groups: int = 1
    bias: bool = True
    init: WeightInit = "lecun_uniform"
    bits: int | None = None

    def __post_init__(self) -> None:
        whole(self, features=self.features, kernel=self.kernel, stride=self.stride)
        whole(self, groups=self.groups)
        check_bits("Conv2d", self.bits)
        if self.padding == "same":
            if self.kernel % 2 == 0:
                raise ValueError(f'Conv2d: padding "same" needs an odd kernel, not {self.kernel}')
        elif not isinstance(self.padding, int) or self.padding < 0:
            raise ValueError(f'Conv2d: padding is "same" or >= 0, not {self.padding!r}')
        if self.features % self.groups:
            raise ValueError(
                f"Conv2d: features {self.features} is no multiple of groups {self.groups}"
            )

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        need_rank(self, path, edge, 3, "H, W, C")
        h, w, c = edge.shape
        if c % self.groups:
            raise ShapeError(
                f"{place(self, path)}: {c} input features are no multiple of groups {self.groups}"
            )
        k = self.kernel
        pad = (k - 1) // 2 if self.padding == "same" else self.padding
        size = tuple((s + 2 * pad - k) // self.stride + 1 for s in (h, w))
        if min(size) < 1:
            raise ShapeError(
                f"{place(self, path)}: kernel {k} with padding {pad} does not fit into {h} x {w}"
            )
        fan_in, fan_out = k * k * c // self.groups, k * k * self.features // self.groups
        inputs = {"x": edge.name}
        inputs["weight"] = program.parameter(
            f"{path}.weight",
            (self.features, k, k, c // self.groups),
            "weight",
            weight_init(self.init, fan_in, fan_out),
        )
        if self.bias:
            inputs["bias"] = program.parameter(
                f"{path}.bias", (self.features,), "bias", bias_init(self.init, fan_in)
            )
        attributes = {"stride": self.stride, "padding": pad, "groups": self.groups}
        attributes |= {} if self.bits is None else {"bits": self.bits}
        shape = (*size, self.features)
        return program.add("conv2d", path, inputs, attributes, shape, layer="Conv2d")


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """Linear map of every step: x [T, N, I] -> [T, N, features]; weight [features, I].

    bits: the weight is rounded to so many bits, straight through (op "quantize_weight").
    """

    features: int
    bias: bool = True
    init: WeightInit = "lecun_uniform"
    bits: int | None = None

    def __post_init__(self) -> None:
        whole(self, features=self.features)
        check_bits("Linear", self.bits)

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        need_rank(self, path, edge, 1, "one axis of features")
        (i,) = edge.shape
        inputs = {"x": edge.name}
        inputs["weight"] = program.parameter(
            f"{path}.weight", (self.features, i), "weight", weight_init(self.init, i, self.features)
        )
        if self.bias:
            inputs["bias"] = program.parameter(
                f"{path}.bias", (self.features,), "bias", bias_init(self.init, i)
            )
        attributes = {} if self.bits is None else {"bits": self.bits}
        return program.add("linear", path, inputs, attributes, (self.features,), layer="Linear")


@dataclass(frozen=True, slots=True)
class BatchNorm(Layer):
    """Batch norm over time, batch and space: one mean and variance per channel (last axis).

        y = scale gamma (x - mean) / sqrt(var + eps) + beta

    `scale` is tdBN's alpha V_th (1: plain); gamma starts at `init`. momentum is the weight of the
    new value. The running variance is unbiased and n counts time steps. Source: tdBN (Zheng 2021),
    Dspike Eq. 4-5.
    """

    momentum: float = 0.1
    eps: float = 1e-5
    scale: float = 1.0
    init: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.momentum <= 1:
            raise ValueError(f"BatchNorm: momentum must be in (0, 1], not {self.momentum}")
        if not self.eps > 0 or not self.scale > 0:
            raise ValueError(f"BatchNorm: eps {self.eps} and scale {self.scale} must be above 0")
        if not math.isfinite(self.init):
            raise ValueError(f"BatchNorm: init must be finite, not {self.init}")

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        shape = edge.shape[-1:]
        inputs = {
            "x": edge.name,
            "weight": program.parameter(
                f"{path}.weight", shape, "norm", Init("constant", float(self.init))
            ),
            "bias": program.parameter(f"{path}.bias", shape, "norm", ZERO),
            "running_mean": program.statistic(f"{path}.running_mean", shape, 0.0),
            "running_var": program.statistic(f"{path}.running_var", shape, 1.0),
        }
        attributes = {"momentum": self.momentum, "eps": self.eps, "scale": self.scale}
        return program.add("batch_norm", path, inputs, attributes, edge.shape, layer="BatchNorm")


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """[T, N, *F] -> [T, N, prod F] in the order H, W, C."""

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        shape = (math.prod(edge.shape),)
        inputs = {"x": edge.name}
        return program.add("flatten", path, inputs, {}, shape, binary=edge.binary, layer="Flatten")


@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """In training y = x mask / (1 - rate); one mask per step, or one for all (`per_step` False)."""

    rate: float
    per_step: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: rate must be in [0, 1), not {self.rate}")

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        attributes = {"rate": self.rate, "per_step": self.per_step}
        inputs = {"x": edge.name}
        return program.add("dropout", path, inputs, attributes, edge.shape, layer="Dropout")


@dataclass(frozen=True, slots=True)
class Poisson(Layer):
    """Rate encoding: a spike with probability x (clipped to [0, 1]) at every step; no gradient."""

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        inputs = {"x": edge.name}
        return program.add("poisson", path, inputs, {}, edge.shape, binary=True, layer="Poisson")
