"""Mean squared error between the mean output and real target values, per sample (regression).

obar = mean over the valid steps of output[t]
loss = mean over F of (obar - target_values)^2
g_output[t] = 2 (obar - target_values) / (prod(F) * length) * g_loss
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import step_weights


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return loss [N]."""
    _, distance = _distance(xp, inputs)
    square = xp.reshape(distance * distance, (distance.shape[0], -1))
    return {"loss": xp.mean(square, axis=-1)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of output."""
    weights, distance = _distance(xp, inputs)
    size = 1
    for length in distance.shape[1:]:
        size *= length
    g_loss = xp.reshape(cotangents["loss"], (-1,) + (1,) * (distance.ndim - 1))
    return {"output": weights * ((2.0 / size) * distance * g_loss)[None, ...]}


def _distance(xp: Any, inputs: Arrays) -> tuple[Array, Array]:
    """Return the step weights and obar - target_values."""
    output = inputs["output"]
    weights = step_weights(xp, output, inputs.get("length"), 1.0)
    return weights, xp.sum(weights * output, axis=0) - inputs["target_values"]


def samples() -> Iterator[Sample]:
    """Yield images and vectors, ordinary and dyadic, with and without lengths."""
    rng = generator(205)
    for name, shape, length in [
        ("image", (3, 2, 3, 5, 1), None),
        ("vector", (1, 1, 7), None),
        ("lengths", (5, 3, 4), [2, 5, 1]),
    ]:
        inputs = {
            "output": rng.standard_normal(shape),
            "target_values": rng.standard_normal(shape[1:]),
        }
        if length is not None:
            inputs["length"] = np.array(length)
        yield Sample(f"{name}-normal", inputs, dtypes=("float32",))
    exact = {"output": bits(rng, (4, 3, 2, 2, 2)), "target_values": dyadic(rng, (3, 2, 2, 2))}
    g = {"loss": dyadic(rng, (3,))}
    yield Sample("image-dyadic", exact, {}, "exact", ("float32",), g)


MSE_LOSS = Op(
    name="mse_loss",
    signature="output[T N *F], target_values[N *F], length[N]? -> loss[N]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("output",),
    source="mean squared error of the time mean",
)
