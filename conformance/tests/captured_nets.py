"""Small nets and sessions whose steps are recorded, for the tests of capture."""

from __future__ import annotations

from typing import Any

import numpy as np

import snnx
from snnx.backend import Snapshot
from snnx.building import initial_parameters
from snnx_torch import backend, replay
from snnx_torch.session import TorchSession

STEPS, SHAPE = 3, (4, 4, 1)
WARM = replay.WARM
ADAM = snnx.Optim(snnx.Adam(lr=snnx.Dial("lr", 0.01)), clip_norm=0.5)
SGD = snnx.Optim(snnx.SGD(lr=snnx.Dial("lr", 0.1), momentum=0.9))


def block(neuron: snnx.Layer) -> snnx.Chain:
    """Convolutions, norms, a residual with a norm of its own, every pool, a linear map."""
    short = snnx.Chain(snnx.Conv2d(4, 1), snnx.BatchNorm())
    return snnx.Chain(
        snnx.Input(*SHAPE),
        snnx.Conv2d(4, 3),
        snnx.BatchNorm(),
        neuron,
        snnx.Residual(snnx.Chain(snnx.Conv2d(4, 3), snnx.BatchNorm()), short),
        neuron,
        snnx.MaxPool2d(2),
        snnx.Conv2d(4, 3),
        snnx.BatchNorm(),
        neuron,
        snnx.AvgPool2d(2),
        snnx.Flatten(),
        snnx.Linear(3),
    )


def lif(**more: Any) -> snnx.Neuron:
    return snnx.LIF(threshold=0.4, **more)


MODELS = {
    "lif": block(lif(surrogate=snnx.ArcTan())),
    "asgl": block(
        lif(
            surrogate=snnx.Tanh(snnx.Learned(0.5, transform="log")),
            analog=snnx.Dial("noise", 0.3),
        )
    ),
    "dspike": block(lif(reset="subtract", surrogate=snnx.Dspike())),
    "dsr": block(snnx.DSR.integrate_and_fire(threshold=0.4)),
    "dropout": snnx.Chain(
        snnx.Input(4, 4, 1), snnx.Flatten(), snnx.Linear(8), lif(), snnx.Dropout(0.3),
        snnx.Recurrent(lif(), synapse_decay=0.5), snnx.Linear(3),
    ),
}  # fmt: skip


def made(
    model: Any, capture: Any = None, optim: Any = ADAM, lean: bool = False, **more: Any
) -> TorchSession:
    program = snnx.flatten(model)
    precision, objective = more.pop("precision", "fp32"), more.pop("objective", snnx.TET())
    kernels = more.pop("kernels", "auto")
    form = {"device": "cpu", "precision": precision, "lean": lean, "kernels": kernels}
    net = backend.build(program, initial_parameters(program, 1), **form)
    return TorchSession(net, objective, optim, STEPS, False, False, None, **more, capture=capture)


def dials_of(session: TorchSession, k: int) -> dict[str, Any]:
    every = {"lr": 0.3 / (k + 1), "temperature": 0.5 + k, "noise": k / 15}
    known = {name: value for name, value in every.items() if name in session.known}
    return {**known, "step": 2**31 + k, "epoch": k // 4, "seed": 7 * k}


def same(ours: Snapshot, theirs: Snapshot) -> bool:
    pairs = [
        (getattr(ours, field)[name], array)
        for field in ("parameters", "statistics", "moments")
        for name, array in getattr(theirs, field).items()
    ]
    assert pairs
    return ours.count == theirs.count and all(np.array_equal(a, b) for a, b in pairs)
