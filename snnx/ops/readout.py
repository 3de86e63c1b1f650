"""Mean of the logits over the valid steps, plain or with the last steps counting most.

    w[t] = decay^(length - t),  t = 1 .. length;   y = sum over t of w[t] logits[t] / sum of w[t]
    g_logits[t] = w[t] / sum(w) * g_y

Attributes: decay (1.0, the plain mean; DSR LIF reads exp(-dt/tau)). Without `length` every step is
valid; otherwise 1 <= length <= T, and padded steps hold finite numbers, which count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops._xp import step_weights


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [N K]."""
    logits = inputs["logits"]
    weights = step_weights(xp, logits, inputs.get("length"), attrs.get("decay", 1.0))
    return {"y": xp.sum(weights * logits, axis=0)}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradient of logits."""
    logits = inputs["logits"]
    weights = step_weights(xp, logits, inputs.get("length"), attrs.get("decay", 1.0))
    g = weights * cotangents["y"][None, ...]
    return {"logits": xp.broadcast_to(g, tuple(logits.shape))}


def samples() -> Iterator[Sample]:
    """Yield the plain and the weighted mean, with and without lengths."""
    rng = generator(201)
    yield Sample("mean", {"logits": rng.standard_normal((5, 3, 7))})
    yield Sample("one-step", {"logits": rng.standard_normal((1, 1, 2))}, {"decay": 0.5})
    yield Sample("weighted", {"logits": rng.standard_normal((6, 2, 5))}, {"decay": 0.9})
    lengths = np.array([1, 4, 6, 3])
    for name, attributes in (("lengths", {}), ("weighted-lengths", {"decay": 0.7})):
        inputs = {"logits": rng.standard_normal((6, 4, 3)), "length": lengths}
        yield Sample(name, inputs, attributes)
    g = {"y": dyadic(rng, (3, 5))}
    yield Sample("dyadic", {"logits": bits(rng, (4, 3, 5))}, kind="exact", cotangents=g)
    inputs = {"logits": bits(rng, (4, 3, 5)), "length": np.array([1, 2, 4])}
    yield Sample("lengths-dyadic", inputs, kind="exact", cotangents=g)


READOUT = Op(
    name="readout",
    signature="logits[T N K], length[N]? -> y[N K]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("logits",),
    source="Dspike Eq. 3, ASGL Eq. 5, TET 3.1 (mean); DSR Sec. 3.3 (weighted rate)",
)
