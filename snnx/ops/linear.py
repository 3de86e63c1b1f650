"""Linear map of the last axis.

y[..., o] = bias[o] + sum over i of weight[o, i] * x[..., i]

g_x = g_y weight;   g_weight = sum of outer(g_y, x);   g_bias = sum of g_y, over the other axes

Attributes: bits (int, absent): the weight is that of `quantize_weight`, forward and in g_x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops._cases import bits, dyadic, generator, tolerances
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops.quantize_weight import on_grid, quantized


def forward(xp: Any, inputs: Arrays, attrs: Attributes) -> dict[str, Array]:
    """Return y [... O]."""
    weight = quantized(xp, inputs["weight"], attrs.get("bits"))
    y = xp.matmul(inputs["x"], xp.permute_dims(weight, (1, 0)))
    return {"y": y + inputs["bias"] if "bias" in inputs else y}


def vjp(
    xp: Any, inputs: Arrays, attrs: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of x, weight and, where given, bias."""
    x, g = inputs["x"], cotangents["y"]
    weight = quantized(xp, inputs["weight"], attrs.get("bits"))
    rows = xp.reshape(x, (-1, weight.shape[1]))
    g_rows = xp.reshape(g, (-1, weight.shape[0]))
    gradients = {
        "x": xp.matmul(g, weight),
        "weight": xp.matmul(xp.permute_dims(g_rows, (1, 0)), rows),
    }
    if "bias" in inputs:
        gradients["bias"] = xp.sum(g_rows, axis=0)
    return gradients


def samples() -> Iterator[Sample]:
    """Yield odd sizes, one step and one sample, with and without bias."""
    rng = generator(102)
    for name, lead, features_in, features_out, bias in [
        ("sequence", (3, 5), 7, 4, True),
        ("single", (1, 1), 13, 3, False),
        ("wide", (2, 3), 33, 17, True),
    ]:
        inputs = {
            "x": rng.standard_normal((*lead, features_in)),
            "weight": rng.standard_normal((features_out, features_in)) / features_in**0.5,
        }
        exact = {
            "x": bits(rng, (*lead, features_in)),
            "weight": dyadic(rng, (features_out, features_in)),
        }
        if bias:
            inputs["bias"] = rng.standard_normal(features_out)
            exact["bias"] = dyadic(rng, (features_out,))
        yield Sample(f"{name}-normal", inputs)
        g = dyadic(rng, (*lead, features_out))
        yield Sample(f"{name}-dyadic", exact, kind="exact", cotangents={"y": g})
    exact = {"x": bits(rng, (2, 3, 7)), "weight": on_grid(rng, (4, 7), 4, 0.125)}
    g = dyadic(rng, (2, 3, 4))
    yield Sample("bits-dyadic", exact, {"bits": 4}, "exact", cotangents={"y": g})


LINEAR = Op(
    name="linear",
    signature="x[... I], weight[O I], bias[O]? -> y[... O]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=tolerances(),
    differentiable=("x", "weight", "bias"),
    source="torch.nn.functional.linear and mlx.nn.Linear, whose definitions agree",
)
