"""Building: from a tree to a native module with the same initial weights on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnx import random
from snnx.backend import load_backend
from snnx.program import Parameter, Program, flatten


def parameters(model: Any) -> tuple[Parameter, ...]:
    """Return path, shape, role and group of every parameter, without a framework."""
    return flatten(model).parameters


def initial_parameters(program: Program, seed: int) -> dict[str, np.ndarray]:
    """Return the initial weights in float32, the same bits everywhere; drawn on the host."""
    return {p.path: _draw(p, seed) for p in program.parameters}


def initial_statistics(program: Program) -> dict[str, np.ndarray]:
    """Return the running statistics before training."""
    return {s.path: np.full(s.shape, s.value, np.float32) for s in program.statistics}


def _draw(p: Parameter, seed: int) -> np.ndarray:
    if p.init.kind == "constant":
        return np.full(p.shape, p.init.value, np.float32)
    if p.init.kind == "uniform":
        u = random.uniform(seed, "init", p.path, 0, [0], [0], p.size).reshape(p.shape)
        return ((2.0 * u.astype(np.float64) - 1.0) * p.init.value).astype(np.float32)
    z = random.normal(seed, "init", p.path, 0, [0], [0], p.size).reshape(p.shape)
    return (z.astype(np.float64) * p.init.value).astype(np.float32)


def build(
    model: Any,
    backend: str = "auto",
    seed: int = 0,
    device: str | None = None,
    precision: str = "fp32",
    lean: bool | None = None,
    kernels: str = "auto",
) -> Any:
    """Return a native module (torch.nn.Module, mlx.nn.Module or the NumPy network) of the model.

    lean True trains in less memory: what norms and neurons compute is computed again in the
    backward pass, and spikes are kept as bits. None leaves that to the backend. kernels is what
    runs the neurons: "generic", "fused" (kernels, or an error where there are none) or "auto".

    Raises: TypeError, ValueError, ShapeError for a model that does not fit together, with the place
    in the tree; BackendError for a backend, device or precision that is not to be had.
    """
    program = flatten(model)
    chosen = load_backend(backend)
    values = initial_parameters(program, seed)
    form = {"precision": precision, "lean": lean, "kernels": kernels}
    return chosen.build(program, values, device=device, **form)
