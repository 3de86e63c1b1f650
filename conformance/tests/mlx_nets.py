"""Tiny nets, batches and sessions for the tests of the MLX backend."""

from __future__ import annotations

from typing import Any

import numpy as np

import snnx
from snnx import (
    LIF,
    SGD,
    TET,
    BatchNorm,
    Chain,
    Conv2d,
    Flatten,
    Input,
    Linear,
    MaxPool2d,
    Optim,
    Triangular,
)
from snnx.backend import load_backend


def small(**neuron: Any) -> Chain:
    """A conv net without parameters whose gradient is zero but for rounding."""
    unit = {"surrogate": Triangular(1.0), **neuron}
    return Chain(
        Input(4, 4, 1),
        Conv2d(4, 3, bias=False),
        BatchNorm(),
        LIF(**unit),
        MaxPool2d(2),
        Flatten(),
        Linear(3),
    )


def batch(model: Chain, n: int = 6, classes: int = 3, seed: int = 0) -> Any:
    """Return a batch of random samples and labels."""
    rng = np.random.default_rng(seed)
    shape = snnx.flatten(model).input_shape
    x = rng.random((n, *shape)).astype(np.float32)
    return {"x": x, "y": rng.integers(0, classes, n), "index": np.arange(n) + 10}


def session(model: Chain, optim: Optim | None = None, backend: str = "mlx", **more: Any) -> Any:
    """Return a session of the model on a backend."""
    precision = "fp64" if backend == "numpy" else more.pop("precision", "fp32")
    net = snnx.build(model, backend=backend, seed=3, precision=precision)
    chosen = optim or Optim(SGD(momentum=0.9))
    options = {"steps": 4, **more}
    return load_backend(backend).session(net, TET(), chosen, **options)


def error(found: Any, wanted: Any) -> float:
    """Return the largest error, relative to the largest wanted number."""
    scale = max(float(np.max(np.abs(wanted), initial=0.0)), 1e-30)
    return float(np.max(np.abs(np.asarray(found, np.float64) - wanted), initial=0.0)) / scale
