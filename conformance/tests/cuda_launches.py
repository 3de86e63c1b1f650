"""What MLX launches on CUDA: every op's samples, users' neurons, nets that draw and pack."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest

import snnx
from snnx import (
    CLIF,
    LIF,
    BatchNorm,
    Chain,
    Conv2d,
    Dial,
    Flatten,
    Input,
    Learned,
    Linear,
    MaxPool2d,
    Neuron,
    Recurrent,
    Residual,
    Triangular,
)
from snnx.backend import load_backend
from snnx.ops import OPS
from tests.nvrtc import Launch, on_cuda
from tests.own_neurons import OWN
from tests.test_emit_cpp import outcome, samples
from tests.test_mlx_kernels import served

OPERATIONS = ("neuron", "norm_neuron", "rate_neuron", "recurrent")
DTYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}
PRECISIONS = {"float32": "fp32", "bfloat16": "bf16"}  # in which nets train
SPIKES = LIF(threshold=0.2)
SCALED = LIF(threshold=Learned(0.7, "channel", low=0.01), emit=("threshold", 2.0))
DRAWN = LIF(analog=Dial("share", 0.4), surrogate=Triangular(1.0), threshold=Learned(0.9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential(Neuron):
    """A neuron in which a number is added to every function: nothing is to be fused into it."""

    states: ClassVar[tuple[str, ...]] = ("v",)
    slope: Any = Learned(0.3)

    def step(self, ops: Any, x: Any, state: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        """Return the spike and the potential."""
        v = state["v"]
        u = ops.exp(p.slope * v) + x
        u = u + ops.tanh(v) + ops.atan(x) + ops.log(2.0 + v * v) + ops.sqrt(1.0 + x * x)
        s = ops.spike(u - 1.0)
        return s, {"v": (u + u / 3.0) * (1.0 - s)}


OTHERS: dict[str, Neuron] = {**OWN, "exponential": Exponential(surrogate=Triangular(1.0))}


def nets() -> list[Chain]:
    """Return nets whose training draws masks, packs spikes, and reads a residual from bits."""

    def conv(norm: bool) -> tuple[Any, ...]:
        return (Conv2d(3, 3, bias=not norm), *((BatchNorm(),) if norm else ()))

    found = [
        Chain(
            Input(6),
            *(Linear(9, bias=False), BatchNorm(), DRAWN),
            *(Linear(7), DRAWN, Linear(5), Recurrent(DRAWN), Linear(4)),
        )
    ]
    for neuron in OTHERS.values():
        layers = (Linear(5), neuron, Linear(5), BatchNorm(), neuron, Recurrent(neuron), Linear(4))
        found.append(Chain(Input(6), *layers))
    for neuron in (SPIKES, SCALED, LIF(emit=0.5), CLIF.from_tau()):
        for norm in (False, True):
            block = Residual(Chain(*conv(norm), neuron, *conv(norm)), Chain())
            ends = (neuron, MaxPool2d(2), Conv2d(3, 1), neuron, Flatten(), Linear(4))
            found.append(Chain(Input(8, 8, 2), *conv(norm), neuron, block, *ends))
    return found


def train(net: Chain, precision: Any, steps: int = 2) -> None:
    """Take one optimiser step."""
    first = net.layers[0]
    assert isinstance(first, Input)
    x = np.ones((steps, 2, *first.shape), np.float32)
    batch: Any = {"x": x, "y": np.arange(2), "index": np.arange(2)}
    made = snnx.build(net, "mlx", seed=3, device="cpu", lean=True, precision=precision)
    backend: Any = load_backend("mlx")
    optim = snnx.Optim(snnx.SGD(lr=0.1))
    session = backend.session(made, snnx.TET(), optim, steps=steps, compile=False)
    session.step([batch], {"step": 0, "seed": 5})


def pack(dtype: str) -> None:
    """Pack a sequence, and unpack it at every scale."""
    import mlx.core as mx

    from snnx_mlx.kernels import bits

    kind = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}[dtype]
    x = mx.zeros((5, 2, 7), kind)
    for scale in (None, mx.array(0.5), mx.ones((7,))):
        bits.unpack(bits.pack(x), x.shape, scale, kind)


@contextmanager
def noted() -> Iterator[dict[str, Launch]]:
    """Let MLX believe that it has CUDA, and yield what it launches from now on."""
    with pytest.MonkeyPatch.context() as patch:
        yield on_cuda(patch).found


@cache
def launched(dtype: str) -> tuple[Launch, ...]:
    """Return every kernel of a dtype that MLX launches in all of this."""
    backend: Any = load_backend("mlx")
    rule = importlib.import_module("snnx_mlx.kernels.recurrent")  # not its function
    with noted() as found, pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            for sample in samples(OPS[name]):
                if name != "norm_neuron" or served(sample):
                    outcome(backend, OPS[name], sample, dtype)
        pack(dtype)
        for net in nets() if dtype in PRECISIONS else ():
            train(net, PRECISIONS[dtype])
        patch.setattr(rule, "RESIDENT", 1)  # several units to a thread
        for sample in OPS["recurrent"].samples():
            outcome(backend, OPS["recurrent"], sample, dtype)
    return tuple(launch for launch in found.values() if launch.data == DTYPES[dtype])


def trained(net: Chain, dtype: str, steps: int) -> list[Launch]:
    """Return what one optimiser step of a net launches, of the dtype."""
    with noted() as found:
        train(net, PRECISIONS[dtype], steps)
    return [launch for launch in found.values() if launch.data == DTYPES[dtype]]
