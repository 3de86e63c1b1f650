"""The small convolutional network of the quick start."""

from __future__ import annotations

from snnx.layers import AvgPool2d, BatchNorm, Chain, Conv2d, Flatten, Input, Linear
from snnx.neurons import LIF, Neuron
from snnx.program import Shape, ShapeError
from snnx.surrogate import Triangular

NEURON = LIF(surrogate=Triangular())


def digits(
    width: int = 16,
    neuron: Neuron = NEURON,
    *,
    shape: Shape = (8, 8, 1),
    classes: int = 10,
    batch_norm: bool = True,
) -> Chain:
    """Return conv - LIF - pool - conv - LIF - pool - linear, of `width` and 2 `width` channels.

    Input [T, N, H, W, C] with H and W at least 4; output [T, N, classes].
    """
    if len(shape) != 3 or min(shape[:2]) < 4:
        raise ShapeError(
            f"model digits: expects samples H, W, C of at least 4 x 4, gets {shape}; "
            "give model=FILE.json for other data"
        )
    norm = (BatchNorm(),) if batch_norm else ()
    return Chain(
        Input(*shape),
        Conv2d(width, 3, bias=not batch_norm),
        *norm,
        neuron,
        AvgPool2d(2),
        Conv2d(2 * width, 3, bias=not batch_norm),
        *norm,
        neuron,
        AvgPool2d(2),
        Flatten(),
        Linear(classes),
    )
