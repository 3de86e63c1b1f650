"""Stochastic gradient descent with momentum, one parameter array.

    g         = gradient + weight_decay * parameter
    velocity' = momentum * velocity + g                    (velocity starts at 0; no dampening)
    step      = g + momentum * velocity' if nesterov, else velocity'
    parameter' = parameter - lr * step

With momentum 0 the velocity is the gradient, and a backend need not keep it.
Attributes: momentum (0.0), nesterov (False), weight_decay (0.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return parameter and velocity after the update."""
    parameter, momentum = inputs["parameter"], attrs.get("momentum", 0.0)
    g = inputs["gradient"] + attrs.get("weight_decay", 0.0) * parameter
    velocity = momentum * inputs["velocity"] + g
    step = g + momentum * velocity if attrs.get("nesterov", False) else velocity
    return {"parameter": parameter - inputs["lr"] * step, "velocity": velocity}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return nothing: an update is not differentiated."""
    return {}


def samples() -> Iterator[Sample]:
    """Yield each attribute, the first update, and a scalar parameter."""
    rng = generator(301)
    cases: list[tuple[str, tuple[int, ...], bool, dict[str, Any]]] = [
        ("plain", (3, 5), False, {}),
        ("first", (4, 3, 3, 1), True, {"momentum": 0.9, "weight_decay": 5e-4}),
        ("momentum", (7,), False, {"momentum": 0.9, "weight_decay": 0.1}),
        ("nesterov", (3, 1), False, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("scalar", (), False, {"momentum": 0.5}),
    ]
    for name, shape, first, attributes in cases:
        inputs = {
            "parameter": np.asarray(rng.standard_normal(shape)),
            "gradient": np.asarray(rng.standard_normal(shape)),
            "velocity": np.zeros(shape) if first else np.asarray(rng.standard_normal(shape)),
            "lr": np.array(0.1),
        }
        yield Sample(name, inputs, attributes, dtypes=("float32",))


SGD_UPDATE = Op(
    name="sgd_update",
    signature=("parameter[*S], gradient[*S], velocity[*S], lr[] -> parameter[*S], velocity[*S]"),
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=(),
    source="torch.optim.SGD with dampening 0",
    smooth=False,
)
