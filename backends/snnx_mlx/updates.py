"""Optimiser updates by the spec's formulas; `mlx.optimizers` leaves out Adam's bias correction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

Arrays = Mapping[str, mx.array]
Attributes = Mapping[str, Any]


def sgd(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return parameter and velocity after a step of gradient descent with momentum."""
    parameter, momentum = inputs["parameter"], attributes.get("momentum", 0.0)
    g = inputs["gradient"] + attributes.get("weight_decay", 0.0) * parameter
    velocity = momentum * inputs["velocity"] + g
    step = g + momentum * velocity if attributes.get("nesterov", False) else velocity
    return {"parameter": parameter - inputs["lr"] * step, "velocity": velocity}


def adam(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return parameter and moments after Adam with L2 weight decay."""
    parameter = inputs["parameter"]
    g = inputs["gradient"] + attributes.get("weight_decay", 0.0) * parameter
    return _adam(parameter, g, inputs, attributes)


def adamw(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return parameter and moments after Adam with decoupled weight decay."""
    keep = 1.0 - inputs["lr"] * attributes.get("weight_decay", 0.01)
    return _adam(inputs["parameter"] * keep, inputs["gradient"], inputs, attributes)


def _adam(
    parameter: mx.array, gradient: mx.array, inputs: Arrays, attributes: Attributes
) -> dict[str, mx.array]:
    beta1, beta2 = attributes.get("betas", (0.9, 0.999))
    first = beta1 * inputs["first"] + (1.0 - beta1) * gradient
    second = beta2 * inputs["second"] + (1.0 - beta2) * gradient * gradient
    mean = first / _correction(beta1, inputs["count"])
    root = mx.sqrt(second / _correction(beta2, inputs["count"]))
    step = inputs["lr"] * mean / (root + attributes.get("eps", 1e-8))
    return {"parameter": parameter - step, "first": first, "second": second}


def _correction(beta: float, count: mx.array) -> mx.array:
    """Return 1 - beta^count with all its digits."""
    return -mx.expm1(count * math.log(beta)) if beta > 0.0 else mx.ones_like(count)


def rounded_sgd(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return parameter after a step on a dyadic grid; halves round to the even number."""
    grid, limit = attributes["grid"], attributes["limit"]
    if math.frexp(grid)[0] != 0.5:
        raise ValueError(f"rounded_sgd_update: grid {grid} is not a power of two")
    moved = inputs["parameter"] - inputs["lr"] * inputs["gradient"]
    return {"parameter": mx.clip(mx.round(moved / grid) * grid, -limit, limit)}


def project(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Return the parameter within [low, high]; None leaves a side open."""
    parameter, low, high = inputs["parameter"], attributes.get("low"), attributes.get("high")
    # not maximum, whose gradient MLX splits at a tie: a parameter on its bound keeps its gradient
    if low is not None:
        parameter = mx.where(parameter < low, low, parameter)
    if high is not None:
        parameter = mx.where(parameter > high, high, parameter)
    return {"parameter": parameter}
