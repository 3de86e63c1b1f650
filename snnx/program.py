"""The program: a model tree flattened into a list of steps in single-assignment form.

Each step names its op, its inputs (edges and parameters by tree path), its output edge, its
attributes and the shape of its output without the leading [T, N]. Shapes, parameters, operation
counts, plans, taps and every backend read this one list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from snnx.scalars import Dial, Learned, Scalar

Shape: TypeAlias = tuple[int, ...]
Share = Literal["layer", "channel", "neuron"]
MOST = 2**32 - 1  # elements of one array: what a counter of the random stream can name


class ShapeError(ValueError):
    """A layer that does not fit the shape it gets; names the place in the tree."""


@dataclass(frozen=True, slots=True)
class Init:
    """How a parameter starts; all draws are on the host, the same bits for every backend.

    "uniform": U(-bound, bound). "normal": N(0, std^2). "constant": value.
    """

    kind: Literal["uniform", "normal", "constant"]
    value: float


@dataclass(frozen=True, slots=True)
class Parameter:
    """A trained array: path in the tree, shape, role, optimiser group, start and bounds.

    role: "weight", "bias", "norm" or the name of a neuron's number ("threshold", ...).
    `learned` is the declaration of a neuron's number: its transform and bounds.
    """

    path: str
    shape: Shape
    role: str
    group: str
    init: Init
    learned: Learned | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Statistic:
    """A running statistic of a norm layer: not trained, saved with the weights."""

    path: str
    shape: Shape
    value: float


@dataclass(frozen=True, slots=True)
class Edge:
    """A value between steps. `shape` is without [T, N]; `binary`: {0, scale} in "spike" mode."""

    name: str
    shape: Shape
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `inputs` maps the op's input names to edges, parameters, statistics or dials.

    `output` is the edge's name, which is the path of the layer that made it. `states` names the
    arrays of shape [N, *shape] handed from one chunk of time to the next.
    """

    op: str
    inputs: Mapping[str, str]
    output: str
    path: str
    attributes: Mapping[str, Any]
    shape: Shape
    states: tuple[tuple[str, Shape], ...] = ()
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A flat list of steps. `source` is the edge of the input, `result` that of the output."""

    steps: tuple[Step, ...]
    source: str
    result: str
    edges: Mapping[str, Edge]
    parameters: tuple[Parameter, ...]
    statistics: tuple[Statistic, ...]
    dials: Mapping[str, float]

    @property
    def input_shape(self) -> Shape:
        """Shape of one input sample without [T, N]."""
        return self.edges[self.source].shape

    @property
    def output_shape(self) -> Shape:
        """Shape of one output sample without [T, N]."""
        return self.edges[self.result].shape

    def parameter(self, path: str) -> Parameter:
        """Return the parameter of that path; KeyError names the nearest."""
        for p in self.parameters:
            if p.path == path:
                return p
        raise KeyError(f"no parameter {path!r}; there are {[p.path for p in self.parameters]}")

    def step(self, path: str) -> Step:
        """Return the step of that path."""
        for s in self.steps:
            if s.path == path:
                return s
        raise KeyError(f"no step {path!r}; there are {[s.path for s in self.steps]}")

    @property
    def spiking(self) -> tuple[Step, ...]:
        """The steps that fire."""
        return tuple(s for s in self.steps if "neuron" in s.attributes)

    @property
    def has_mask(self) -> bool:
        """Whether some neuron's analog share is not the constant 0."""
        return any(s.attributes["neuron"].analog != 0.0 for s in self.spiking)


@dataclass(slots=True)
class Builder:
    """Collects steps while a tree is flattened; `edge` is the value the last layer made."""

    steps: list[Step] = field(default_factory=list)
    edges: dict[str, Edge] = field(default_factory=dict)
    parameters: list[Parameter] = field(default_factory=list)
    statistics: list[Statistic] = field(default_factory=list)
    dials: dict[str, float] = field(default_factory=dict)
    edge: Edge = Edge("", ())

    def parameter(
        self, path: str, shape: Shape, role: str, init: Init, learned: Learned | None = None
    ) -> str:
        """Declare a parameter and return its name."""
        group = learned.group if learned is not None else role
        self.parameters.append(Parameter(path, shape, role, group, init, learned))
        return path

    def statistic(self, path: str, shape: Shape, value: float) -> str:
        """Declare a running statistic and return its name."""
        self.statistics.append(Statistic(path, shape, value))
        return path

    def dial(self, dial: Dial, where: str) -> str:
        """Declare a dial and return its name; one name has one initial value."""
        old = self.dials.setdefault(dial.name, dial.init)
        if old != dial.init:
            raise ValueError(
                f"{where}: Dial {dial.name!r} starts at {dial.init}, elsewhere at {old}; "
                "a dial is shared by its name, give one initial value or another name"
            )
        return f"dial.{dial.name}"

    def add(
        self,
        op: str,
        path: str,
        inputs: Mapping[str, str],
        attributes: Mapping[str, Any],
        shape: Shape,
        *,
        binary: bool = False,
        states: tuple[tuple[str, Shape], ...] = (),
        layer: str = "",
    ) -> Edge:
        """Append a step and make its output the current edge."""
        if path in self.edges:
            raise ValueError(f"{path}: a step of this path exists")
        self.steps.append(
            Step(op, dict(inputs), path, path, dict(attributes), shape, states, layer)
        )
        self.edge = Edge(path, shape, binary)
        self.edges[path] = self.edge
        return self.edge

    def number(self, scalar: Scalar, name: str, path: str, shape: Shape) -> str | None:
        """Declare a neuron's number and return its name; None for a constant."""
        if isinstance(scalar, Dial):
            return self.dial(scalar, path)
        if not isinstance(scalar, Learned):
            return None
        shapes: dict[str, Shape] = {"layer": (), "channel": shape[-1:], "neuron": shape}
        init = Init("constant", scalar.raw_init)
        return self.parameter(f"{path}.{name}", shapes[scalar.share], name, init, scalar)

    def neuron(
        self, op: str, neuron: Any, path: str, edge: Edge, attributes: Mapping[str, Any]
    ) -> Edge:
        """Append the step of a spiking layer with its numbers, mask and states."""
        neuron.check_shape(edge.shape)
        inputs = {"x": edge.name}
        for name, scalar in neuron.scalars().items():
            declared = self.number(scalar, name, path, edge.shape)
            if declared is not None:
                inputs[f"p.{name}"] = declared
        if isinstance(neuron.analog, Dial):
            inputs["analog"] = self.dial(neuron.analog, path)
        states = tuple((name, edge.shape) for name in neuron.states)
        return self.add(
            op,
            path,
            inputs,
            attributes,
            edge.shape,
            binary=neuron.trace().binary,
            states=states,
            layer=type(neuron).__name__,
        )


def flatten(model: Any) -> Program:
    """Return the program of a tree that begins with Input; errors name the place in the tree."""
    from snnx.layers import Chain, Input

    if isinstance(model, Program):
        return model
    if not isinstance(model, Chain) or not model.layers or not isinstance(model.layers[0], Input):
        raise TypeError(
            f"a model is a Chain that begins with Input(shape), not {type(model).__name__}; "
            "write snnx.Chain(snnx.Input(8, 8, 1), ...)"
        )
    builder = Builder()
    source = Edge("input", model.layers[0].shape)
    builder.edge = source
    builder.edges[source.name] = source
    for index, layer in enumerate(model.layers[1:], start=1):
        layer.lower(builder, str(index), builder.edge)
    program = Program(
        tuple(builder.steps),
        source.name,
        builder.edge.name,
        builder.edges,
        tuple(builder.parameters),
        tuple(builder.statistics),
        builder.dials,
    )
    if not program.steps:
        raise ValueError("a model needs at least one layer after Input")
    sizes = [(s.path, s.shape) for s in program.steps]
    for path, shape in [*sizes, *((p.path, p.shape) for p in program.parameters)]:
        if math.prod(shape) > MOST:
            raise ShapeError(f"{path}: shape {shape} has more than {MOST} elements")
    return program


def renamed(step: Step, inputs: Mapping[str, str]) -> Step:
    """Return the step with other inputs."""
    return replace(step, inputs=dict(inputs))
