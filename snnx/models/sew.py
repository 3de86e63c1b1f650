"""Spike-element-wise residual nets, whose blocks fire before the sum."""

from __future__ import annotations

from snnx.layers import BatchNorm, Chain, Identity, Input, Layer, Linear, Residual
from snnx.models.parts import SEW_IF, MakeNeuron, conv, scaled
from snnx.pooling import GlobalAvgPool2d, MaxPool2d
from snnx.program import Shape


def sew_resnet34(
    classes: int = 1000,
    *,
    neuron: MakeNeuron = SEW_IF,
    input: Shape = (224, 224, 3),
    width: float = 1.0,
    last_gamma: float = 1.0,
) -> Chain:
    """Return SEW-ResNet-34.

        stem       C7 64 stride 2 - BN - neuron, max pool 3x3 of stride 2      112, 56
        stages     3 blocks of 64, 4 of 128, 6 of 256, 3 of 512                56, 28, 14, 7
        head       global AP, FC
        block      neuron(BN(C3(neuron(BN(C3 x))))) + x

    The sum ("ADD") is of spikes, so its values may exceed 1. Where the shape changes x goes
    through a 1x1 convolution of stride 2, BN and a neuron. `last_gamma` is where the last norm of
    every block starts; SEW offers 0. Source: SEW-ResNet and its code, TET 5 (ImageNet).
    Parameters: 21,797,672; MACs 3,663.8M; 36 neuron layers. SEW's FC reads the mean over time;
    this one stands at every step, as TET's loss needs it, and gives the same mean.
    """
    size = scaled(64, width)
    layers: list[Layer] = [*conv(size, neuron, kernel=7, stride=2), MaxPool2d(3, 2, padding=1)]
    for features, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        size = scaled(features, width)
        for index in range(blocks):
            stride = first_stride if index == 0 else 1
            last = conv(size, neuron, norm=BatchNorm(init=last_gamma))
            body = Chain(*conv(size, neuron, stride=stride), *last)
            skip = Chain(*conv(size, neuron, kernel=1, stride=stride)) if stride > 1 else Identity()
            layers.append(Residual(body, skip))
    return Chain(Input(*input), *layers, GlobalAvgPool2d(), Linear(classes))
