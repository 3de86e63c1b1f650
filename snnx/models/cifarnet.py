"""Plain nets for CIFAR: SNN-5 and CifarNet."""

from __future__ import annotations

from typing import Literal

from snnx.layers import Chain, Flatten, Input, Layer, Linear
from snnx.models.parts import ASGL_LIF, TET_LIF, MakeNeuron, conv, scaled
from snnx.models.vgg import classifier
from snnx.pooling import AvgPool2d
from snnx.program import Shape
from snnx.spatial import AdaptiveAvgPool2d


def snn5(
    classes: int = 10,
    *,
    neuron: MakeNeuron = TET_LIF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
) -> Chain:
    """Return SNN-5: five convolutions and a readout.

        16C3 - 64C5 - AP2 - 128C5 - AP2 - 256C5 - AP2 - 512C3 - AP2 - FC

    every convolution with bias, norm and neuron; maps of 32, 32, 16, 8, 4 and 2 at the end.
    Source: TET 5 (CIFAR). Parameters: 2,253,098; MACs 150.4M. The paper gives the name only:
    strides, padding and biases are inferred from it.
    """
    layers: list[Layer] = [*conv(scaled(16, width), neuron, bias=True)]
    for size, kernel in ((64, 5), (128, 5), (256, 5), (512, 3)):
        layers += [*conv(scaled(size, width), neuron, kernel=kernel, bias=True), AvgPool2d(2)]
    return Chain(Input(*input), *layers, Flatten(), Linear(classes))


def cifarnet(
    classes: int = 10,
    *,
    neuron: MakeNeuron = ASGL_LIF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
    head: Literal["wu", "code"] = "wu",
    bias: bool = False,
) -> Chain:
    """Return CifarNet: five wide convolutions and a classifier.

        128C3 - 256C3 - AP2 - 512C3 - AP2 - 1024C3 - 512C3, every one with norm and neuron
        wu     FC1024 - FC512 - FC
        code   adaptive pool to 2x2 - FC4096 - FC4096 - FC

    hidden FC with a neuron; `bias` is that of every FC, convolutions have none. Source: Wu 2019,
    ASGL 5 (CIFAR). Parameters: 45.0M (wu), 36.1M (code); MACs of wu 1,245.6M. It is open which
    head the paper used; Wu votes, ASGL's readout is linear and does not fire.
    """
    if head not in ("wu", "code"):
        raise ValueError(f'cifarnet: head is "wu" or "code", not {head!r}')
    layers: list[Layer] = [*conv(scaled(128, width), neuron)]
    for size, pool in ((256, True), (512, True), (1024, False), (512, False)):
        layers += conv(scaled(size, width), neuron)
        if pool:
            layers.append(AvgPool2d(2))
    if head == "code":
        layers.append(AdaptiveAvgPool2d(2))
    hidden = (1024, 512) if head == "wu" else (4096, 4096)
    return Chain(Input(*input), *layers, *classifier(hidden, classes, neuron, width, bias))
