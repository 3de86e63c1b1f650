"""Adam with decoupled weight decay, one parameter array.

    decayed    = parameter * (1 - lr * weight_decay)
    parameter' = decayed - lr * (first' / c1) / (sqrt(second' / c2) + eps)

The moments take the gradient without decay; they, c1, c2 and `count` are those of `adam_update`.
Attributes: betas ((0.9, 0.999)), eps (1e-8, added after the root), weight_decay (0.01).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops.adam_update import SIGNATURE, adam_samples, adam_step


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return parameter and both moments after the update."""
    decayed = inputs["parameter"] * (1.0 - inputs["lr"] * attrs.get("weight_decay", 0.01))
    return adam_step(xp, decayed, inputs["gradient"], inputs, attrs)


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return nothing: an update is not differentiated."""
    return {}


def samples() -> Iterator[Sample]:
    """Yield the cases that Adam and AdamW share."""
    yield from adam_samples(303)


ADAMW_UPDATE = Op(
    name="adamw_update",
    signature=SIGNATURE,
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=(),
    source="Loshchilov and Hutter 2019; torch.optim.AdamW",
    smooth=False,
)
