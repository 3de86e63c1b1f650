"""What the architectures share: the papers' neurons, scaled widths, conv - norm - neuron.

Everywhere in the zoo `neuron` is a layer, which stands wherever the net fires, or a function of
the number of features that returns one; so one tree takes LIF, DSR layers or a ReLU. `width`
scales every number of features, `input` is the shape of one sample. A shape that does not fit is
refused by `flatten` and `build` with the layer's place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from snnx.layers import BatchNorm, Conv2d, Layer, WeightInit
from snnx.neurons import IF, LIF
from snnx.spiking import DSR
from snnx.surrogate import ArcTan, Dspike, Rectangular, Triangular

MakeNeuron: TypeAlias = Layer | Callable[[int], Layer]

TET_LIF = LIF(decay=0.5, threshold=1.0, fire=">", surrogate=Triangular(1.0))
"""TET Eq. 1-3 and code: hard reset, not detached, fires above the threshold."""

DSPIKE_LIF = LIF(decay=0.25, threshold=0.5, fire=">", surrogate=Dspike())
"""Dspike 3.1; the decay is not given, 0.25 is that of the first author's later code."""

ASGL_LIF = LIF(decay=0.5, threshold=0.5, surrogate=Rectangular(1.0))
"""ASGL Eq. 1-4 with the code's decay and threshold, without its learned width and analog share."""

SEW_IF = IF(detach_reset=True, surrogate=ArcTan(1.0))
"""SEW-ResNet: integrate and fire, hard reset, detached. TET leaves the surrogate open."""

DSR_IF = DSR.integrate_and_fire()
"""DSR App. C: threshold from 6, fires at half of it; `DSR.leaky()` is the LIF."""


PLAIN_NORM = BatchNorm()


def scaled(features: int, width: float) -> int:
    """Return the number of features at this width, rounded and at least 1."""
    if features < 1:
        raise ValueError(f"a layer needs at least 1 feature, not {features}")
    if not 0 < width <= 64:
        raise ValueError(f"width must be in (0, 64], not {width!r}; 1 is the paper's")
    return max(1, round(features * width))


def fire(neuron: MakeNeuron, features: int) -> Layer:
    """Return the layer that fires on this many features."""
    layer = neuron if isinstance(neuron, Layer) else neuron(features)
    if not isinstance(layer, Layer):
        raise TypeError(
            "neuron is a layer, or a function of the number of features that returns one; "
            f"for {features} features it gives {layer!r}"
        )
    return layer


def conv(
    features: int,
    neuron: MakeNeuron,
    *,
    kernel: int = 3,
    stride: int = 1,
    bias: bool = False,
    init: WeightInit = "lecun_uniform",
    norm: BatchNorm = PLAIN_NORM,
) -> tuple[Layer, ...]:
    """Return convolution, batch norm and neuron."""
    weights = Conv2d(features, kernel, stride, bias=bias, init=init)
    return weights, norm, fire(neuron, features)
