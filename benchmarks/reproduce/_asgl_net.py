"""The plain deep net of ASGL's pages on widths, and one run of it."""

from __future__ import annotations

from dataclasses import replace

from common import Values

import snnx
from snnx import AvgPool2d, BatchNorm, Chain, Conv2d, Flatten, Input, Linear, Rectangular
from snnx.data import Dataset
from snnx.methods import ASGLMethod
from snnx.models.parts import ASGL_LIF
from snnx.training.schedules import Cosine


def network(depth: int, channels: int, width: float) -> Chain:
    """Return `depth` convolutions with norm and ASGL's neuron, a pool after the second."""
    neuron = replace(ASGL_LIF, surrogate=Rectangular(width))
    layers = []
    for i in range(depth):
        layers += [Conv2d(channels, 3, bias=False), BatchNorm(), neuron]
        if i == 1:
            layers.append(AvgPool2d(2))
    return Chain(Input(8, 8, 1), *layers, Flatten(), Linear(10))


def trained(
    s: Values, data: Dataset, method: str, depth: int, width: float, seed: int, backend: str
) -> Values:
    """Train one network and return its figures."""
    asgl = method == "ASGL"
    result = snnx.fit(
        network(depth, s["channels"], width),
        data,
        objective=snnx.SDT(),
        optim=snnx.Optim(snnx.SGD(s["lr"], s["momentum"], weight_decay=s["weight_decay"])),
        schedule=Cosine(s["epochs"]),
        methods=(
            ASGLMethod(p=s["p"] if asgl else 1.0, learned=asgl, width_lr=s["width_lr"], similar=0),
        ),
        steps=s["T"],
        epochs=s["epochs"],
        batch_size=s["batch_size"],
        seed=seed,
        backend=backend,
    )
    last = result.history[-1]
    return {
        "test_accuracy": result.test_accuracy,
        "train_accuracy": last["train_accuracy"],
        "history": [row["test_accuracy"] for row in result.history],
        "widths": [round(v, 4) for name, v in last.items() if name.startswith("width.")],
    }
