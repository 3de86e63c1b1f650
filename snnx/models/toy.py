"""The two-layer net in which Dspike measures gradients by finite differences."""

from __future__ import annotations

from snnx.layers import Chain, Conv2d, Flatten, Input, Linear
from snnx.models.parts import MakeNeuron, fire, scaled
from snnx.neurons import LIF
from snnx.pooling import AvgPool2d
from snnx.program import Shape
from snnx.surrogate import Rectangular

TOY_LIF = LIF(decay=0.25, threshold=0.5, fire=">", surrogate=Rectangular(1.0))
"""Dspike's neuron with the rectangular window a = 1 of its experiments II and III."""


def mnist_toy(
    classes: int = 10,
    *,
    neuron: MakeNeuron = TOY_LIF,
    input: Shape = (28, 28, 1),
    width: float = 1.0,
    padding: bool = True,
    pool: int = 2,
) -> Chain:
    """Return the toy net of Dspike: 6C3 - neuron - average pool - FC.

    The convolution has no bias and no norm, so its 54 weights need 108 forward passes for one
    gradient by differences. Source: Dspike 4.2, Fig. 2, Table 1 (MNIST). Parameters: 11,824 =
    54 + 14^2 6 10 + 10. The paper leaves padding, pool size, decay and T open.
    """
    size = scaled(6, width)
    first = Conv2d(size, 3, padding="same" if padding else 0, bias=False)
    return Chain(
        Input(*input), first, fire(neuron, size), AvgPool2d(pool), Flatten(), Linear(classes)
    )
