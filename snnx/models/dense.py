"""Fully connected nets: SHD, MedlyDB, the autoencoder."""

from __future__ import annotations

import math

from snnx.clif import CLIF
from snnx.layers import Chain, Flatten, Input, Layer, Linear
from snnx.models.parts import ASGL_LIF, MakeNeuron, fire, scaled
from snnx.neurons import LIF, Neuron
from snnx.program import Shape
from snnx.scalars import Scalar
from snnx.spiking import Recurrent
from snnx.surrogate import Tanh

MEDLYDB_CLIF = CLIF.from_tau(30.0, 7.5, 3.0)
"""The C-LIF of the MedlyDB baseline that ASGL compares with, in ms."""

AUTOENCODER_LIF = LIF(decay=0.5, threshold=0.5, surrogate=Tanh(1.0))
"""ASGL's code values and the tanh step of its autoencoder."""


def _flat(input: Shape) -> tuple[Layer, ...]:
    return (Input(*input),) if len(input) == 1 else (Input(*input), Flatten())


def shd(
    classes: int = 20,
    *,
    neuron: MakeNeuron = ASGL_LIF,
    input: Shape = (700,),
    width: float = 1.0,
    synapse_decay: Scalar = 0.5,
) -> Chain:
    """Return the recurrent net of ASGL for spoken digits: 700 - 240 recurrent - 20, no biases.

    T = 250; the readout does not fire and its mean over time is the answer. Source: ASGL A.4, 5.3
    (SHD). Parameters: 230,400 = 700 240 + 240^2 + 240 20, the paper's 23.04 x 10^4. Open in the
    paper: the synapse's time constant (synapse_decay 0.5, that of the neuron, is a choice made
    here; 0 is plain recurrence) and whether the feedback has a zero diagonal (it has none here).
    """
    size = scaled(240, width)
    cell = fire(neuron, size)
    if not isinstance(cell, Neuron):
        raise TypeError(f"shd: a recurrent layer needs a Neuron, not {type(cell).__name__}")
    return Chain(
        *_flat(input),
        Linear(size, bias=False),
        Recurrent(cell, synapse_decay),
        Linear(classes, bias=False),
    )


def medlydb(
    classes: int = 10,
    *,
    neuron: MakeNeuron = MEDLYDB_CLIF,
    input: Shape = (384,),
    width: float = 1.0,
) -> Chain:
    """Return the current-based net of ASGL for instruments: 384 - 700 C-LIF - 10, no biases.

    T = 500; the readout does not fire. Source: ASGL A.3, B.4 (MedlyDB). Parameters: 275,800 =
    384 700 + 700 10, the paper's 27.6 x 10^4. The paper leaves the time constants open; those of
    `neuron` are its baseline's.
    """
    size = scaled(700, width)
    hidden = (Linear(size, bias=False), fire(neuron, size))
    return Chain(*_flat(input), *hidden, Linear(classes, bias=False))


def autoencoder(
    classes: int | None = None,
    *,
    neuron: MakeNeuron = AUTOENCODER_LIF,
    input: Shape = (784,),
    width: float = 1.0,
    bias: bool = False,
) -> Chain:
    """Return the autoencoder of ASGL: 784 - 128 - 64 - 32 - 64 - 128 - 784.

    Hidden layers fire; the mean over time of the last layer's current is the image, with the mean
    square error as loss. T = 8. `classes` is the number of outputs, that of the inputs unless
    given. Source: ASGL B.3, Table 8 (MNIST). Parameters: 221,184, with biases 222,384; the paper
    does not say which, nor how the image is read out.
    """
    layers: list[Layer] = []
    for size in (scaled(size, width) for size in (128, 64, 32, 64, 128)):
        layers += [Linear(size, bias=bias), fire(neuron, size)]
    outputs = math.prod(input) if classes is None else classes
    return Chain(*_flat(input), *layers, Linear(outputs, bias=bias))
