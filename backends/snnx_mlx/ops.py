"""One rule per op of the spec: (inputs, attributes) -> outputs, in MLX arrays.

The executor and `MlxBackend.run` use the same rules. Ordinary ops leave their gradients to MLX;
batch norm, max pooling, rate mapping and the bias of a layer bring their own, where MLX's would
lose digits or follow another rule at ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from snnx_mlx import (
    losses,
    norm,
    pooling,
    rate_block,
    rates,
    updates,
)
from snnx_mlx.arrays import custom_op, nested_sum
from snnx_mlx.kernels import neuron, norm_neuron, rate_neuron, recurrent
from snnx_mlx.packed import product_of
from snnx_mlx.quantize import quantized

Arrays = Mapping[str, mx.array]
Attributes = Mapping[str, Any]
Outputs = dict[str, mx.array]
Rule = Callable[[Arrays, Attributes], Outputs]


def _bias_gradients(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
    g = cotangents[0]
    return g, nested_sum(g.astype(mx.float32), g.ndim - 1)


_add_bias = custom_op(lambda x, bias: (x + bias,), _bias_gradients)


def _biased(y: mx.array, inputs: Arrays) -> Outputs:
    return {"y": _add_bias(y, inputs["bias"])[0] if "bias" in inputs else y}


def quantize_weight(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Round a weight to its levels; the gradient passes straight through."""
    return {"y": quantized(inputs["weight"], attributes["bits"])}


def conv2d(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Convolve [... H W I] with weight [O, kH, kW, I / groups]; both are MLX's own layouts."""
    x, weight = inputs["x"], quantized(inputs["weight"], attributes.get("bits"))
    stride, padding = attributes.get("stride", 1), attributes.get("padding", 0)
    groups = attributes.get("groups", 1)
    if "x_bits" in inputs:
        how = (stride, padding, groups)
        return _biased(product_of("conv2d", inputs, attributes, weight, *how), inputs)
    image = x.reshape(-1, *x.shape[-3:])
    y = mx.conv2d(image, weight, stride, padding, groups=groups)
    return _biased(y.reshape(*x.shape[:-3], *y.shape[1:]), inputs)


def linear(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Multiply the last axis by weight [O, I]."""
    weight = quantized(inputs["weight"], attributes.get("bits"))
    if "x_bits" in inputs:
        return _biased(product_of("linear", inputs, attributes, weight), inputs)
    return _biased(mx.matmul(inputs["x"], weight.T), inputs)


def flatten(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Join the axes after T and N in the order H, W, C."""
    x = inputs["x"]
    return {"y": x.reshape(*x.shape[:2], math.prod(x.shape[2:]))}


def add(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Add two sequences; a side of one step is static."""
    return {"y": inputs["a"] + inputs["b"]}


def dropout(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Apply a mask of 0 and 1, scaled by 1 / (1 - rate)."""
    return {"y": inputs["x"] * inputs["mask"] / (1.0 - attributes["rate"])}


def repeat(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Show a static input at every step."""
    x = inputs["x"]
    return {"y": mx.broadcast_to(x[None], (attributes["steps"], *x.shape))}


def poisson(inputs: Arrays, attributes: Attributes) -> Outputs:
    """Fire where the noise lies below x; no gradient."""
    x = mx.stop_gradient(inputs["x"])
    return {"y": (inputs["noise"] < x).astype(x.dtype)}


RULES: dict[str, Rule] = {
    "repeat": repeat,
    "poisson": poisson,
    "quantize_weight": quantize_weight,
    "conv2d": conv2d,
    "linear": linear,
    "batch_norm": norm.batch_norm,
    "avg_pool2d": pooling.avg_pool2d,
    "max_pool2d": pooling.max_pool2d,
    "global_avg_pool2d": pooling.global_avg_pool2d,
    "flatten": flatten,
    "add": add,
    "dropout": dropout,
    "neuron": neuron,
    "norm_neuron": norm_neuron,
    "recurrent": recurrent,
    "rate_neuron": rate_neuron,
    "rate_mapping": rates.rate_mapping,
    "rate_block": rate_block.rate_block,
    "readout": losses.readout,
    "sdt_loss": losses.sdt_loss,
    "tet_loss": losses.tet_loss,
    "rate_mse_loss": losses.rate_mse_loss,
    "mse_loss": losses.mse_loss,
    "sgd_update": updates.sgd,
    "adam_update": updates.adam,
    "adamw_update": updates.adamw,
    "rounded_sgd_update": updates.rounded_sgd,
    "project": updates.project,
}
