"""Adam with L2 weight decay, one parameter array.

    g       = gradient + weight_decay * parameter
    first'  = beta1 * first + (1 - beta1) * g
    second' = beta2 * second + (1 - beta2) * g^2
    parameter' = parameter - lr * (first' / c1) / (sqrt(second' / c2) + eps)
    c1 = 1 - beta1^count,  c2 = 1 - beta2^count

`count` is the number of updates, this one included, as a float. The bias is always corrected; the
corrections are computed as -expm1(count * log(beta)), which keeps its digits in float32.
Attributes: betas ((0.9, 0.999)), eps (1e-8, added after the root), weight_decay (0.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.ops._cases import generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return parameter and both moments after the update."""
    g = inputs["gradient"] + attrs.get("weight_decay", 0.0) * inputs["parameter"]
    return adam_step(xp, inputs["parameter"], g, inputs, attrs)


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return nothing: an update is not differentiated."""
    return {}


def adam_step(
    xp: Any, parameter: Array, gradient: Array, inputs: Arrays, attrs: Attributes
) -> dict[str, Array]:
    """Return the update of `parameter` by `gradient`, whatever the weight decay did to either."""
    beta1, beta2 = attrs.get("betas", (0.9, 0.999))
    first = beta1 * inputs["first"] + (1.0 - beta1) * gradient
    second = beta2 * inputs["second"] + (1.0 - beta2) * gradient * gradient
    mean = first / _correction(xp, beta1, inputs["count"])
    root = xp.sqrt(second / _correction(xp, beta2, inputs["count"]))
    parameter = parameter - inputs["lr"] * mean / (root + attrs.get("eps", 1e-8))
    return {"parameter": parameter, "first": first, "second": second}


def _correction(xp: Any, beta: float, count: Array) -> Array:
    """Return 1 - beta^count."""
    return -xp.expm1(count * math.log(beta)) if beta > 0.0 else xp.ones_like(count)


def adam_samples(seed: int) -> Iterator[Sample]:
    """Yield the first and a late update, other betas, decay, and a scalar parameter."""
    rng = generator(seed)
    cases: list[tuple[str, tuple[int, ...], int, dict[str, Any]]] = [
        ("first", (3, 5), 1, {}),
        ("late", (4, 3, 3, 1), 1000, {"weight_decay": 1e-2}),
        ("betas", (7,), 5, {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
        ("scalar", (), 2, {"betas": (0.0, 0.99)}),
    ]
    for name, shape, count, attributes in cases:
        size = 0.0 if count == 1 else 1.0
        inputs = {
            "parameter": np.asarray(rng.standard_normal(shape)),
            "gradient": np.asarray(rng.standard_normal(shape)),
            "first": np.asarray(size * rng.standard_normal(shape)),
            "second": np.asarray(size * rng.uniform(0.1, 2.0, shape)),
            "lr": np.array(1e-3 if name == "late" else 0.1),
            "count": np.array(float(count)),
        }
        yield Sample(name, inputs, attributes, dtypes=("float32",))


def samples() -> Iterator[Sample]:
    """Yield the cases that Adam and AdamW share."""
    yield from adam_samples(302)


SIGNATURE = (
    "parameter[*S], gradient[*S], first[*S], second[*S], lr[], count[] "
    "-> parameter[*S], first[*S], second[*S]"
)

ADAM_UPDATE = Op(
    name="adam_update",
    signature=SIGNATURE,
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=(),
    source="Kingma and Ba 2015; torch.optim.Adam",
    smooth=False,
)
