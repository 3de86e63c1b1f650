"""Residual nets whose blocks fire after the sum: ResNet-18, ResNet-19, Spiking-ResNet-34."""

from __future__ import annotations

from typing import Literal

from snnx.layers import BatchNorm, Chain, Conv2d, Identity, Input, Layer, Linear, Residual
from snnx.models.parts import ASGL_LIF, DSPIKE_LIF, TET_LIF, MakeNeuron, conv, fire, scaled
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
    shortcut: Literal["strided", "pooled"] = "strided",
    scale: float = 1.0,
    sum_scale: float = 1.0,
) -> tuple[Layer, Layer]:
    """Return C3 - BN - neuron - C3 - BN plus shortcut, then the neuron.

    The shortcut is the input itself where shape and features stay, else a 1x1 convolution and BN,
    "strided" or after an average pool. `scale` is tdBN's alpha V_th, times `sum_scale` in the
    norms before the sum.
    """
    size = scaled(outputs, width)
    last = BatchNorm(scale=scale * sum_scale)
    body = Chain(
        *conv(size, neuron, stride=stride, norm=BatchNorm(scale=scale)),
        Conv2d(size, 3, bias=False),
        last,
    )
    skip: Layer = Identity()
    if stride > 1 and shortcut == "pooled":
        skip = Chain(AvgPool2d(stride), Conv2d(size, 1, bias=False), last)
    elif stride > 1 or inputs != outputs:
        skip = Chain(Conv2d(size, 1, stride, bias=False), last)
    return Residual(body, skip), fire(neuron, size)


def stages(
    inputs: int,
    plan: tuple[Stage, ...],
    neuron: MakeNeuron,
    width: float,
    *,
    shortcut: Literal["strided", "pooled"] = "strided",
    scale: float = 1.0,
    sum_scale: float = 1.0,
) -> list[Layer]:
    """Return the blocks of every stage; `inputs` are the features that the stem gives."""
    layers: list[Layer] = []
    for features, blocks, stride in plan:
        for index in range(blocks):
            layers += block(
                inputs,
                features,
                stride if index == 0 else 1,
                neuron,
                width,
                shortcut=shortcut,
                scale=scale,
                sum_scale=sum_scale,
            )
            inputs = features
    return layers


def resnet18_dspike(
    classes: int = 10,
    *,
    neuron: MakeNeuron = DSPIKE_LIF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
    norm_scale: float = 0.5,
    sum_scale: float = 1.0,
) -> Chain:
    """Return the ResNet-18 of Dspike: three stem layers and pooled shortcuts.

        stem       C3 64, C3 64, C3 64 stride 2                     32, 32, 16
        stages     2 blocks each of 64, 128, 256, 512               16, 8, 4, 2
        head       global AP, FC

    Shortcuts that change the shape: AP2 - 1x1 convolution - BN. `norm_scale` is tdBN's alpha V_th
    (Eq. 4), `sum_scale` its factor before a sum (1/sqrt(2) in Zheng 2021); 1 and 1 are plain batch
    norm. Source: Dspike 5.1. Parameters: 11,247,946, at 100 classes 11,294,116; MACs 187.37M, the
    paper's 187M, which fix the strides that the text leaves open. The author's later code has a
    gamma that starts at V_th in place of tdBN's constant factor.
    """
    norm = BatchNorm(scale=norm_scale)
    size = scaled(64, width)
    stem = [layer for s in (1, 1, 2) for layer in conv(size, neuron, stride=s, norm=norm)]
    plan = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))
    body = stages(64, plan, neuron, width, shortcut="pooled", scale=norm_scale, sum_scale=sum_scale)
    return Chain(Input(*input), *stem, *body, GlobalAvgPool2d(), Linear(classes))


def resnet18(
    classes: int = 10,
    *,
    neuron: MakeNeuron = ASGL_LIF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
) -> Chain:
    """Return the plain CIFAR ResNet-18.

        stem       C3 64                                            32
        stages     2 blocks each of 64, 128, 256, 512               32, 16, 8, 4
        head       global AP, FC

    Shortcuts that change the shape: 1x1 convolution of stride 2 - BN. Source: ASGL's code and log
    (76.77 %); its paper says the net of Dspike, `resnet18_dspike`. Parameters: 11,173,962, at 100
    classes 11,220,132; MACs 555.4M.
    """
    plan = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))
    stem = conv(scaled(64, width), neuron)
    body = stages(64, plan, neuron, width)
    return Chain(Input(*input), *stem, *body, GlobalAvgPool2d(), Linear(classes))


def resnet19(
    classes: int = 10,
    *,
    neuron: MakeNeuron = TET_LIF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
    stem: int = 128,
    bias: bool = False,
    norm_scale: float = 1.0,
    sum_scale: float = 1.0,
) -> Chain:
    """Return ResNet-19.

        stem       C3 `stem`                                        32
        stages     3 blocks of 128, 3 of 256, 2 of 512              32, 16, 8
        head       global AP, FC256, neuron, FC

    Shortcuts that change shape or features: strided 1x1 convolution - BN. `bias` is that of the FC.
    `norm_scale` and `sum_scale` as in `resnet18_dspike`: TET and ASGL train plain batch norm.
    Source: Zheng 2021, TET 5, ASGL 5. Parameters: 12,697,728 (ASGL: stem 128, no bias);
    12,630,858, at 100 classes 12,653,988 (TET's code: stem=64, bias=True). MACs 2285.4M, the
    paper's 2285M; 2216.5M with stem 64. TET's paper says "Zheng 2021", which is stem 128.
    """
    plan = ((128, 3, 1), (256, 3, 2), (512, 2, 2))
    first = conv(scaled(stem, width), neuron, norm=BatchNorm(scale=norm_scale))
    body = stages(stem, plan, neuron, width, scale=norm_scale, sum_scale=sum_scale)
    size = scaled(256, width)
    head = (Linear(size, bias=bias), fire(neuron, size), Linear(classes, bias=bias))
    return Chain(Input(*input), *first, *body, GlobalAvgPool2d(), *head)


def spiking_resnet34(
    classes: int = 1000,
    *,
    neuron: MakeNeuron = TET_LIF,
    input: Shape = (224, 224, 3),
    width: float = 1.0,
    stem: Literal["wide", "deep"] = "wide",
    norm_scale: float = 1.0,
    sum_scale: float = 2**-0.5,
) -> Chain:
    """Return the Spiking-ResNet-34 of tdBN.

        stem       C7 64 stride 2                                   112
        stages     3 blocks of 64, 4 of 128, 6 of 256, 3 of 512     56, 28, 14, 7
        head       global AP, FC

    No max pool: the first block of every stage has stride 2 and a strided 1x1 convolution - BN as
    shortcut. stem="deep" is the ImageNet stem of Dspike's first author: C3 32 stride 2 - C3 32 -
    C3 64 - AP 3x3 of stride 2, and stage 1 with stride 1. `norm_scale` is tdBN's alpha V_th (0.5
    for Dspike's threshold), times `sum_scale` before a sum. Source: Zheng 2021, as used by TET and
    Dspike (ImageNet). Parameters: 21.80M, MACs 3.68G. Neither paper describes the net; compare
    with Zheng 2021 before claiming that it is the same.
    """
    if stem not in ("wide", "deep"):
        raise ValueError(f'spiking_resnet34: stem is "wide" or "deep", not {stem!r}')
    norm = BatchNorm(scale=norm_scale)
    size = scaled(64, width)
    first = list(conv(size, neuron, kernel=7, stride=2, norm=norm))
    if stem == "deep":
        half = scaled(32, width)
        first = [
            *conv(half, neuron, stride=2, norm=norm),
            *conv(half, neuron, norm=norm),
            *conv(size, neuron, norm=norm),
            Pad2d(1),
            AvgPool2d(3, 2),
        ]
    plan = ((64, 3, 1 if stem == "deep" else 2), (128, 4, 2), (256, 6, 2), (512, 3, 2))
    body = stages(64, plan, neuron, width, scale=norm_scale, sum_scale=sum_scale)
    return Chain(Input(*input), *first, *body, GlobalAvgPool2d(), Linear(classes))
