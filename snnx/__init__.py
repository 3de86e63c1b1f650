"""Spiking neural networks: one model definition, the same numbers on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnx.activation import ReLU as ReLU
from snnx.array_layer import ArrayLayer as ArrayLayer
from snnx.clif import CLIF as CLIF
from snnx.layers import (
    BatchNorm as BatchNorm,
)
from snnx.layers import (
    Chain as Chain,
)
from snnx.layers import (
    Conv2d as Conv2d,
)
from snnx.layers import (
    Dropout as Dropout,
)
from snnx.layers import (
    Flatten as Flatten,
)
from snnx.layers import (
    Identity as Identity,
)
from snnx.layers import (
    Input as Input,
)
from snnx.layers import (
    Layer as Layer,
)
from snnx.layers import (
    Linear as Linear,
)
from snnx.layers import (
    Poisson as Poisson,
)
from snnx.layers import (
    Residual as Residual,
)
from snnx.mode import EVAL as EVAL
from snnx.mode import Mode as Mode
from snnx.mode import train_mode as train_mode
from snnx.neurons import IF as IF
from snnx.neurons import LIF as LIF
from snnx.neurons import Neuron as Neuron
from snnx.objective import MSE as MSE
from snnx.objective import SDT as SDT
from snnx.objective import TET as TET
from snnx.objective import RateMSE as RateMSE
from snnx.optim import (
    SGD as SGD,
)
from snnx.optim import (
    Adam as Adam,
)
from snnx.optim import (
    AdamW as AdamW,
)
from snnx.optim import (
    Optim as Optim,
)
from snnx.optim import (
    RoundedSGD as RoundedSGD,
)
from snnx.pooling import AvgPool2d as AvgPool2d
from snnx.pooling import GlobalAvgPool2d as GlobalAvgPool2d
from snnx.pooling import MaxPool2d as MaxPool2d
from snnx.program import Program as Program
from snnx.program import ShapeError as ShapeError
from snnx.program import flatten as flatten
from snnx.scalars import Dial as Dial
from snnx.scalars import Learned as Learned
from snnx.spatial import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from snnx.spatial import Pad2d as Pad2d
from snnx.spiking import DSR as DSR
from snnx.spiking import Recurrent as Recurrent
from snnx.surrogate import (
    ArcTan as ArcTan,
)
from snnx.surrogate import (
    Dspike as Dspike,
)
from snnx.surrogate import (
    Rectangular as Rectangular,
)
from snnx.surrogate import (
    Sigmoid as Sigmoid,
)
from snnx.surrogate import (
    Tanh as Tanh,
)
from snnx.surrogate import (
    Triangular as Triangular,
)

if TYPE_CHECKING:
    from snnx.backend import load_backend as load_backend
    from snnx.building import build as build
    from snnx.building import parameters as parameters
    from snnx.serial import dumps as dumps
    from snnx.serial import loads as loads
    from snnx.serial import register as register
    from snnx.training.fit import fit as fit

__version__ = "0.1.0"

_LAZY = {  # they load NumPy or more
    "build": "snnx.building",
    "parameters": "snnx.building",
    "load_backend": "snnx.backend",
    "fit": "snnx.training.fit",
    "dumps": "snnx.serial",
    "loads": "snnx.serial",
    "register": "snnx.serial",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'snnx' has no attribute {name!r}")
