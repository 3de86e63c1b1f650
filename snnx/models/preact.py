"""Pre-activation residual nets of DSR, whose output fires."""

from __future__ import annotations

from snnx.layers import BatchNorm, Chain, Conv2d, Dropout, Identity, Input, Layer, Linear, Residual
from snnx.models.parts import DSR_IF, MakeNeuron, conv, fire, scaled
from snnx.pooling import AvgPool2d, GlobalAvgPool2d
from snnx.program import Shape
from snnx.spatial import Pad2d

Stage = tuple[int, int, int]
"""Features, number of blocks, stride of the first block."""


def block(
    inputs: int,
    outputs: int,
    stride: int,
    neuron: MakeNeuron,
    width: float,
    *,
    bias: bool,
    shortcut_norm: bool,
    dropout: float,
) -> list[Layer]:
    """Return a = neuron(BN(x)), then C3(dropout(neuron(BN(C3 a)))) plus shortcut(a).

    The identity shortcut carries the spikes a and not x. Where the shape changes the shortcut is a
    1x1 convolution, with bias and no norm, or without bias and with one (`shortcut_norm`).
    """
    before, size = scaled(inputs, width), scaled(outputs, width)
    first = conv(size, neuron, stride=stride, bias=bias, init="kaiming_normal")
    drop = (Dropout(dropout),) if dropout else ()
    body = Chain(*first, *drop, Conv2d(size, 3, bias=bias, init="kaiming_normal"))
    skip: Layer = Identity()
    if stride > 1 or inputs != outputs:
        one = Conv2d(size, 1, stride, bias=not shortcut_norm, init="kaiming_normal")
        skip = Chain(one, BatchNorm()) if shortcut_norm else one
    return [BatchNorm(), fire(neuron, before), Residual(body, skip)]


def net(
    classes: int,
    neuron: MakeNeuron,
    input: Shape,
    width: float,
    stem: list[Layer],
    inputs: int,
    plan: tuple[Stage, ...],
    *,
    bias: bool = True,
    shortcut_norm: bool = False,
    dropout: float = 0.0,
) -> Chain:
    """Return stem, stages and head: BN - neuron - global AP - neuron - FC - BN - neuron."""
    layers = list(stem)
    for features, blocks, first_stride in plan:
        for index in range(blocks):
            layers += block(
                inputs,
                features,
                first_stride if index == 0 else 1,
                neuron,
                width,
                bias=bias,
                shortcut_norm=shortcut_norm,
                dropout=dropout,
            )
            inputs = features
    last = fire(neuron, scaled(inputs, width))
    head = (BatchNorm(), last, GlobalAvgPool2d(), last)
    out = (Linear(classes), BatchNorm(), fire(neuron, classes))
    return Chain(Input(*input), *layers, *head, *out)


def preact_resnet18(
    classes: int = 10,
    *,
    neuron: MakeNeuron = DSR_IF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
    dropout: float = 0.0,
) -> Chain:
    """Return the PreAct-ResNet-18 of DSR for CIFAR.

        stem       C3 64, no norm and no neuron                     32
        stages     2 blocks each of 64, 128, 256, 512               32, 16, 8, 4
        head       BN, neuron, global AP, neuron, FC, BN, neuron

    Block: `block`; convolutions behind the stem have a bias. The output is its (weighted) rate.
    Source: DSR App. C.3 and code. Parameters: 11,176,945, at 100 classes 11,223,295, with one
    trained threshold in each of the 19 neuron layers. The FC's bias stands before a norm, which
    takes it away in training, so its start does not matter. The paper puts neurons after every
    pool; the code has one after the last pool only, and its identity shortcut carries the spikes.
    """
    stem: list[Layer] = [Conv2d(scaled(64, width), 3, bias=False, init="kaiming_normal")]
    plan = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))
    return net(classes, neuron, input, width, stem, 64, plan, dropout=dropout)


def preact_resnet18_imagenet(
    classes: int = 1000,
    *,
    neuron: MakeNeuron = DSR_IF,
    input: Shape = (224, 224, 3),
    width: float = 1.0,
) -> Chain:
    """Return the PreAct-ResNet-18 of DSR for ImageNet.

        stem       C7 64 stride 2, BN, neuron, AP 3x3 stride 2 pad 1    112, 56
        stages     2 blocks each of 64, 128, 256, 512                   56, 28, 14, 7
        head       BN, neuron, global AP, neuron, FC, BN, neuron

    Convolutions have no bias; a 1x1 shortcut has a norm. The stem's pool counts its padding and
    no neuron follows it. Source: DSR App. C.3 and code. Parameters: 11,691,660 with one trained
    threshold in each of the 20 neuron layers.
    """
    size = scaled(64, width)
    first = conv(size, neuron, kernel=7, stride=2, init="kaiming_normal")
    plan = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))
    stem: list[Layer] = [*first, Pad2d(1), AvgPool2d(3, 2)]
    return net(classes, neuron, input, width, stem, 64, plan, bias=False, shortcut_norm=True)


def preact_resnet(
    classes: int = 10,
    *,
    neuron: MakeNeuron = DSR_IF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
    depth: int = 20,
    dropout: float = 0.0,
) -> Chain:
    """Return the PreAct-ResNet of DSR with 6 n + 2 layers: depth 20, 32, 44, 56 or 110.

        stem       C3 16, no norm and no neuron                     32
        stages     n blocks each of 16, 32, 64                      32, 16, 8
        head       BN, neuron, global AP, neuron, FC, BN, neuron

    Source: DSR Table 4 and Fig. 3b; not in the released code, so the block of `preact_resnet18`
    is an inference. Parameters: 273,091, 467,983, 662,875, 857,767, 1,734,781; neuron layers
    depth + 1.
    """
    if not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
        raise ValueError(f"preact_resnet: depth is 6 n + 2 (20, 32, 44, 56, 110), not {depth!r}")
    blocks = (depth - 2) // 6
    stem: list[Layer] = [Conv2d(scaled(16, width), 3, bias=False, init="kaiming_normal")]
    plan = ((16, blocks, 1), (32, blocks, 2), (64, blocks, 2))
    return net(classes, neuron, input, width, stem, 16, plan, dropout=dropout)
