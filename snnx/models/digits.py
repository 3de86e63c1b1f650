"""The small convolutional network of the quick start."""

from __future__ import annotations

from snnx.layers import BatchNorm, Chain, Conv2d, Flatten, Input, Linear
from snnx.models.parts import MakeNeuron, fire, scaled
from snnx.neurons import LIF
from snnx.pooling import AvgPool2d
from snnx.program import Shape
from snnx.surrogate import Triangular

NEURON = LIF(surrogate=Triangular())


def digits(
    classes: int = 10,
    *,
    neuron: MakeNeuron = NEURON,
    input: Shape = (8, 8, 1),
    width: float = 1.0,
    batch_norm: bool = True,
) -> Chain:
    """Return conv 32 - LIF - pool - conv 64 - LIF - pool - linear, for images of 8 x 8 pixels.

    At width 1 it has 21,482 parameters; it fits in seconds on a CPU.
    """
    few, many = scaled(32, width), scaled(64, width)
    norm = (BatchNorm(),) if batch_norm else ()
    return Chain(
        Input(*input),
        Conv2d(few, 3, bias=not batch_norm),
        *norm,
        fire(neuron, few),
        AvgPool2d(2),
        Conv2d(many, 3, bias=not batch_norm),
        *norm,
        fire(neuron, many),
        AvgPool2d(2),
        Flatten(),
        Linear(classes),
    )
