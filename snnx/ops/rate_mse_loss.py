"""Mean squared error between firing rates and a high or low target rate, per sample.

    rbar[k]   = mean over the valid steps of logits[t, k]
    wanted[k] = high where k is the target class, else low
    loss      = mean over k of (rbar[k] - wanted[k])^2
    g_logits[t, k] = 2 (rbar[k] - wanted[k]) / (K * length) * g_loss

Attributes: high (1.0), low (0.0), in the units of the readout. With dyadic logits, and T and K
powers of two, value and gradient are exact: this is the loss of exact mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import one_hot, step_weights


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return loss [N]."""
    _, distance = _distance(xp, inputs, attrs)
    return {"loss": xp.mean(distance * distance, axis=-1)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of logits."""
    weights, distance = _distance(xp, inputs, attrs)
    classes = inputs["logits"].shape[-1]
    g = (2.0 / classes) * distance * cotangents["loss"][:, None]
    return {"logits": weights * g[None, ...]}


def _distance(xp: Any, inputs: Arrays, attrs: Attributes) -> tuple[Array, Array]:
    """Return the step weights and rbar - wanted."""
    logits = inputs["logits"]
    high, low = attrs.get("high", 1.0), attrs.get("low", 0.0)
    hot = one_hot(xp, inputs["target"], logits.shape[-1], logits)
    weights = step_weights(xp, logits, inputs.get("length"), 1.0)
    return weights, xp.sum(weights * logits, axis=0) - (low + (high - low) * hot)


def samples() -> Iterator[Sample]:
    """Yield ordinary and dyadic rates, other targets, and lengths."""
    rng = generator(204)

    def case(shape: tuple[int, int, int], lengths: list[int] | None = None) -> dict[str, Any]:
        inputs = {
            "logits": rng.standard_normal(shape),
            "target": rng.integers(0, shape[2], shape[1]),
        }
        return inputs if lengths is None else {**inputs, "length": np.array(lengths)}

    yield Sample("plain", case((5, 3, 7)), dtypes=("float32",))
    yield Sample("one-step", case((1, 1, 3)), dtypes=("float32",))
    yield Sample("rates", case((4, 2, 5)), {"high": 0.9, "low": 0.05}, dtypes=("float32",))
    yield Sample("lengths", case((6, 4, 3), [1, 6, 3, 5]), dtypes=("float32",))
    for name, lengths in (("dyadic", None), ("lengths-dyadic", [1, 2, 4])):
        inputs = case((4, 3, 8), lengths) | {"logits": bits(rng, (4, 3, 8))}
        g = {"loss": dyadic(rng, (3,))}
        yield Sample(name, inputs, {"high": 0.75, "low": 0.25}, "exact", ("float32",), g)


RATE_MSE_LOSS = Op(
    name="rate_mse_loss",
    signature="logits[T N K], target[N], length[N]? -> loss[N]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("logits",),
    source="mean squared error on output firing rates; Wu et al. 2018 (STBP)",
)
