"""Standard direct training loss: the cross entropy of the mean logits, per sample.

    w[t] = decay^(length - t),  t = 1 .. length;   obar = sum over t of w[t] O[t] / sum of w[t]
    loss = logsumexp(obar) - obar[target]
    g_O[t] = w[t] / sum(w) * (softmax(obar) - onehot(target)) * g_loss

Attributes: decay (1.0; below 1 it is the loss on DSR LIF's weighted firing rate).
The objective takes the mean over the global batch. Lemma: loss <= tet_loss with mse = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import log_softmax, one_hot, step_weights


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return loss [N]."""
    _, log_p, hot = _weighted(xp, inputs, attrs)
    return {"loss": -xp.sum(hot * log_p, axis=-1)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of logits."""
    weights, log_p, hot = _weighted(xp, inputs, attrs)
    g = (xp.exp(log_p) - hot) * cotangents["loss"][:, None]
    return {"logits": weights * g[None, ...]}


def _weighted(xp: Any, inputs: Arrays, attrs: Attributes) -> tuple[Array, Array, Array]:
    """Return the step weights, log softmax of the mean logits, and the one-hot target."""
    logits = inputs["logits"]
    weights = step_weights(xp, logits, inputs.get("length"), attrs.get("decay", 1.0))
    log_p = log_softmax(xp, xp.sum(weights * logits, axis=0))
    return weights, log_p, one_hot(xp, inputs["target"], logits.shape[-1], logits)


def samples() -> Iterator[Sample]:
    """Yield plain and weighted means, lengths, large logits, one step."""
    rng = generator(202)
    cases: list[tuple[str, tuple[int, int, int], list[int] | None, float, float]] = [
        ("plain", (5, 4, 7), None, 1.0, 1.0),
        ("one-step", (1, 1, 2), None, 1.0, 1.0),
        ("large-logits", (3, 2, 5), None, 1.0, 100.0),
        ("weighted", (6, 3, 4), None, 0.95, 1.0),
        ("lengths", (6, 4, 3), [1, 6, 3, 5], 1.0, 2.0),
        ("weighted-lengths", (5, 3, 10), [5, 2, 4], 0.8, 1.0),
    ]
    for name, shape, length, decay, size in cases:
        inputs: dict[str, np.ndarray] = {
            "logits": size * rng.standard_normal(shape),
            "target": rng.integers(0, shape[2], shape[1]),
        }
        if length is not None:
            inputs["length"] = np.array(length)
        yield Sample(name, inputs, {"decay": decay}, dtypes=("float32",))


SDT_LOSS = Op(
    name="sdt_loss",
    signature="logits[T N K], target[N], length[N]? -> loss[N]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("logits",),
    source="TET (Deng et al. 2022) Sec. 3.1; weighted rate: DSR (Meng et al. 2022) Sec. 3.3",
)
