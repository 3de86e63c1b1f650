"""Plain convolutional nets: VGGSNN, VGG-11, VGG-13, VGG-16."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from snnx.layers import BatchNorm, Chain, Dropout, Flatten, Input, Layer, Linear, WeightInit
from snnx.models.parts import (
    ASGL_LIF,
    DSPIKE_LIF,
    DSR_IF,
    PLAIN_NORM,
    TET_LIF,
    MakeNeuron,
    conv,
    fire,
    scaled,
)
from snnx.pooling import AvgPool2d, GlobalAvgPool2d
from snnx.program import Shape
from snnx.spatial import AdaptiveAvgPool2d

Plan: TypeAlias = Iterable[int | Literal["pool"]]

VGG13_CODE: Plan = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, "pool"),
    *(512, 512, 512, "pool", 512),
)
VGG13: Plan = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, "pool"),
    *(512, 512, "pool", 512, 512, "pool"),
)
VGG16: Plan = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool"),
    *(512, 512, 512, "pool", 512, 512, 512, "pool"),
)


def features(
    plan: Plan,
    neuron: MakeNeuron,
    width: float,
    *,
    bias: bool = False,
    init: WeightInit = "lecun_uniform",
    norm: BatchNorm = PLAIN_NORM,
    dropout: float = 0.0,
) -> list[Layer]:
    """Return 3x3 convolutions with norm and neuron, and average pools 2x2, as planned."""
    layers: list[Layer] = []
    for item in plan:
        if item == "pool":
            layers.append(AvgPool2d(2))
            continue
        layers += conv(scaled(item, width), neuron, bias=bias, init=init, norm=norm)
        if dropout:
            layers.append(Dropout(dropout))
    return layers


def classifier(
    hidden: Iterable[int], classes: int, neuron: MakeNeuron, width: float, bias: bool
) -> list[Layer]:
    """Return fully connected layers with neurons, then the readout, which does not fire."""
    layers: list[Layer] = [Flatten()]
    for size in (scaled(size, width) for size in hidden):
        layers += [Linear(size, bias=bias), fire(neuron, size)]
    return [*layers, Linear(classes, bias=bias)]


def vggsnn(
    classes: int = 10,
    *,
    neuron: MakeNeuron = TET_LIF,
    input: Shape = (48, 48, 2),
    width: float = 1.0,
    bias: bool = True,
    strided: bool = False,
    init: WeightInit = "kaiming_normal",
    head_init: WeightInit = "lecun_uniform",
) -> Chain:
    """Return VGGSNN: eight convolutions for event frames.

        64C3 - 128C3 - AP2 - 256C3 - 256C3 - AP2 - 512C3 - 512C3 - AP2 - 512C3 - 512C3 - AP2 - FC

    every convolution with norm and neuron. Source: TET 5 (DVS-CIFAR10); ASGL ("VGGSNN2").
    Parameters: 9,271,498 (TET); 9,268,736 with bias=False (ASGL). MACs 1,361.7M, strided 660.9M.
    Paper and code differ: TET's script has stride 2 in convolutions 2, 4, 6, 8 in place of the
    pools (strided=True). TET draws convolutions Kaiming-normal; ASGL draws every weight from
    N(0, 0.5^2), init=0.5 and head_init=0.5.
    """
    layers: list[Layer] = []
    for index, size in enumerate((64, 128, 256, 256, 512, 512, 512, 512)):
        halves = index % 2 == 1
        stride = 2 if strided and halves else 1
        layers += conv(scaled(size, width), neuron, stride=stride, bias=bias, init=init)
        if halves and not strided:
            layers.append(AvgPool2d(2))
    head = Linear(classes, bias=bias, init=head_init)
    return Chain(Input(*input), *layers, Flatten(), head)


def vgg11_dsr(
    classes: int = 10,
    *,
    neuron: MakeNeuron = DSR_IF,
    input: Shape = (48, 48, 2),
    width: float = 1.0,
    dropout: float = 0.1,
    replicate: int = 7,
) -> Chain:
    """Return the VGG-11 of DSR, whose output fires.

        64C3 - AP2 - 128C3 - AP2 - 256C3 - 256C3 - AP2 - 512C3 - 512C3 - AP2 - 512C3 - 512C3 - AP2
        - adaptive pool to 7x7 - FC - BN - neuron

    every convolution with bias, norm, neuron and dropout. The output is its (weighted) rate.
    Source: DSR App. C.3 and code (DVS-CIFAR10). Parameters: 9,476,327; 9 neuron layers.
    Paper and code differ: the paper names one FC; the code pools to 7x7, which at 48x48 repeats
    the 1x1 map 49 times: the function of a 512 -> K layer, learning 49 times as fast.
    replicate=1 is the plain layer. The code has no neuron after a pool.
    """
    plan: Plan = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
    body = features(plan, neuron, width, bias=True, init="kaiming_normal", dropout=dropout)
    head = [AdaptiveAvgPool2d(replicate), Flatten(), Linear(classes, init=0.01)]
    return Chain(Input(*input), *body, *head, BatchNorm(), fire(neuron, classes))


def vgg13_asgl(
    classes: int = 200,
    *,
    neuron: MakeNeuron = ASGL_LIF,
    input: Shape = (64, 64, 3),
    width: float = 1.0,
    plan: Literal["code", "standard"] = "code",
    bias: bool = False,
) -> Chain:
    """Return the VGG-13 of ASGL.

        code       2 x 64C3 - AP2 - 2 x 128C3 - AP2 - 2 x 256C3 - AP2 - 3 x 512C3 - AP2 - 512C3
                   - global AP - FC
        standard   2 x 64C3 - AP2 - 2 x 128C3 - AP2 - 2 x 256C3 - AP2 - 2 x 512C3 - AP2
                   - 2 x 512C3 - AP2 - FC4096 - FC4096 - FC

    every convolution and hidden layer with a neuron, convolutions with norm; `bias` is theirs, the
    FC have one. Source: ASGL Table 5 (Tiny-ImageNet). Parameters: 9,510,536 (code), 35.4M
    (standard) at 200 classes; MACs of the code's 1,026.4M. The paper does not describe the net; it
    is open which of the two its table shows.
    """
    if plan not in ("code", "standard"):
        raise ValueError(f'vgg13_asgl: plan is "code" or "standard", not {plan!r}')
    body = features(VGG13_CODE if plan == "code" else VGG13, neuron, width, bias=bias)
    if plan == "code":
        return Chain(Input(*input), *body, GlobalAvgPool2d(), Linear(classes))
    return Chain(Input(*input), *body, *classifier((4096, 4096), classes, neuron, width, True))


def vgg16(
    classes: int = 10,
    *,
    neuron: MakeNeuron = TET_LIF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
) -> Chain:
    """Return the plain CIFAR VGG-16.

        2 x 64C3 - AP2 - 2 x 128C3 - AP2 - 3 x 256C3 - AP2 - 3 x 512C3 - AP2 - 3 x 512C3 - AP2 - FC

    every convolution with norm and neuron, no bias. Source: the usual CIFAR form; none of the four
    papers trains it, `vgg16_imagenet` and `vgg16_asgl` are theirs. Parameters: 14.72M.
    """
    body = features(VGG16, neuron, width)
    return Chain(Input(*input), *body, Flatten(), Linear(classes))


def vgg16_imagenet(
    classes: int = 1000,
    *,
    neuron: MakeNeuron = DSPIKE_LIF,
    input: Shape = (224, 224, 3),
    width: float = 1.0,
    norm_scale: float = 0.5,
) -> Chain:
    """Return the ImageNet VGG-16 of Dspike.

        2 x 64C3 - AP2 - 2 x 128C3 - AP2 - 3 x 256C3 - AP2 - 3 x 512C3 - AP2 - 3 x 512C3 - AP2
        - FC4096 - FC4096 - FC

    every convolution with norm, every layer but the last with a neuron; biases in the FC only.
    `norm_scale` is tdBN's alpha V_th (Dspike Eq. 4); 1 is plain batch norm. Source: Dspike 5.1,
    "the same VGG-16" as Diet-SNN's. Parameters: 138.36M. The paper gives neither biases nor norms.
    """
    body = features(VGG16, neuron, width, norm=BatchNorm(scale=norm_scale))
    return Chain(Input(*input), *body, *classifier((4096, 4096), classes, neuron, width, True))


def vgg16_asgl(
    classes: int = 10,
    *,
    neuron: MakeNeuron = ASGL_LIF,
    input: Shape = (32, 32, 3),
    width: float = 1.0,
    bias: bool = True,
) -> Chain:
    """Return the VGG-16 in which ASGL counts dead neurons.

        2 x 64C3 - AP2 - 2 x 128C3 - AP2 - 3 x 256C3 - AP2 - 3 x 512C3 - AP2 - 3 x 512C3
        - adaptive pool to 2x2 - FC4096 - FC4096 - FC

    every layer but the last with a neuron, convolutions with norm and no bias; `bias` is that of
    the FC. Source: ASGL B.7 and code (CIFAR-10). Parameters: 39.93M, with and without bias; the
    code's biases are not known.
    """
    body = features(tuple(VGG16)[:-1], neuron, width)
    head = classifier((4096, 4096), classes, neuron, width, bias)
    return Chain(Input(*input), *body, AdaptiveAvgPool2d(2), *head)
