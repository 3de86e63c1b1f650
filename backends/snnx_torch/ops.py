"""The rules of torch: one function per op name, (inputs, attributes) -> outputs.

Activations are [T, N, H, W, C]; convolution, norm and pooling see channels_last views of
[T * N, C, H, W], and their results are viewed back. Convolution weights are [O, I, kH, kW].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnx_torch import losses
from snnx_torch.bits import bits_of
from snnx_torch.kernels import neuron, norm_neuron, rate_neuron, recurrent
from snnx_torch.kernels.implementation import fused
from snnx_torch.packed import Conv2d, Kept, Linear
from snnx_torch.quantize import quantized
from snnx_torch.ranks import SyncNorm
from snnx_torch.rate_block import rate_block
from snnx_torch.rates import rate_mapping

Inputs = Mapping[str, Tensor]
Attributes = Mapping[str, Any]
Rule = Callable[[Inputs, Attributes], dict[str, Tensor]]


def images(x: Tensor) -> Tensor:
    """Return [..., H, W, C] as a view [B, C, H, W] in channels_last memory."""
    return x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2)


def sequence_of(y: Tensor, lead: torch.Size) -> Tensor:
    """Return [B, C, H, W] as [..., H, W, C]: a view, since B's memory is channels_last."""
    y = y.permute(0, 2, 3, 1)
    return y.reshape(*lead, *y.shape[1:])


def repeat(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    x = inputs["x"]
    return {"y": x[None].expand(attributes["steps"], *x.shape)}


def poisson(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    x = inputs["x"].detach()
    return {"y": (inputs["noise"] < x).to(x.dtype)}


def quantize_weight(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    return {"y": quantized(inputs["weight"], attributes["bits"])}


def product(
    inputs: Inputs, attributes: Attributes
) -> tuple[Tensor, Tensor, Tensor | None, Kept, Any]:
    """Return x, weight and bias of a product, what is kept of packed spikes, and the side or None.

    Under torch.autocast x is rounded here, so that the product's own gradient has its dtype.
    """
    x, weight = inputs["x"], inputs["weight"]
    kind = x.device.type
    if x.dtype == torch.float32 and kind != "meta" and torch.is_autocast_enabled(kind):
        x = x.to(torch.get_autocast_dtype(kind))
    if attributes.get("bits") is not None:
        weight = quantized(weight.to(x.dtype), attributes["bits"])
    side, trains = attributes.get("side"), torch.is_grad_enabled()
    # only the gradient of a leaf is read by nobody before the side is joined
    side = side if trains and weight.is_leaf else None
    bits, scale = bits_of(inputs, "x") if trains else (None, None)
    kept = (bits, scale, "" if bits is None else fused(attributes, x))
    return x, weight, inputs.get("bias"), kept, side


def rounded(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias in the dtype of x."""
    return weight.to(x.dtype), None if bias is None else bias.to(x.dtype)


def conv2d(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    x, weight, bias, kept, side = product(inputs, attributes)
    stride, padding = attributes.get("stride", 1), attributes.get("padding", 0)
    groups = attributes.get("groups", 1)
    if kept[0] is not None or side is not None:
        y = Conv2d.apply(images(x), weight, bias, kept, (stride, padding, groups), side)
    else:
        low = rounded(x, weight, bias)
        y = F.conv2d(images(x), *low, stride, padding, 1, groups)
    return {"y": sequence_of(y, x.shape[:-3])}


def linear(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    x, weight, bias, kept, side = product(inputs, attributes)
    if kept[0] is not None or side is not None:
        return {"y": Linear.apply(x, weight, bias, kept, side)}
    return {"y": F.linear(x, *rounded(x, weight, bias))}


class AvgPool(torch.autograd.Function):
    """apply(x, kernel, stride): torch's average pool, which would keep x for its shape alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        ctx.shape, ctx.how = x.shape, ([kernel, kernel], [stride, stride], [0, 0])
        return F.avg_pool2d(x, kernel, stride)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        options: Any = {"dtype": g.dtype, "device": g.device}
        like = torch.empty(ctx.shape, memory_format=torch.channels_last, **options)  # never read
        how = (*ctx.how, False, True, None)
        return torch.ops.aten.avg_pool2d_backward(g, like, *how), None, None


def avg_pool2d(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    x, kernel = inputs["x"], attributes["kernel"]
    y = AvgPool.apply(images(x), kernel, attributes.get("stride", kernel))
    return {"y": sequence_of(y, x.shape[:-3])}


def max_pool2d(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    x, kernel = inputs["x"], attributes["kernel"]
    stride, padding = attributes.get("stride", kernel), attributes.get("padding", 0)
    y = F.max_pool2d(images(x), kernel, stride, padding)
    return {"y": sequence_of(y, x.shape[:-3])}


def global_avg_pool2d(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    return {"y": inputs["x"].mean(dim=(-3, -2))}


def flatten(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    return {"y": inputs["x"].flatten(2)}


def add(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    return {"y": inputs["a"] + inputs["b"]}


def dropout(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    return {"y": inputs["x"] * inputs["mask"] / (1.0 - attributes["rate"])}


def batch_norm(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    """Normalise by torch's own kernel; running statistics come back as new tensors."""
    x, mode = inputs["x"], attributes["mode"]
    scale, eps = attributes.get("scale", 1.0), attributes.get("eps", 1e-5)
    weight = inputs["weight"] if scale == 1.0 else scale * inputs["weight"]
    mean, var = inputs["running_mean"].detach(), inputs["running_var"].detach()
    view = x.reshape(-1, x.shape[-1]) if x.dim() == 3 else images(x)
    count = x.numel() // x.shape[-1]
    if mode == "running":
        y = F.batch_norm(view, mean, var, weight, inputs["bias"], False, 0.0, eps)
        return {"y": _back(y, x), "running_mean": mean, "running_var": var}
    copies, share = attributes.get("copies", 1), attributes.get("share")
    moves = mode == "batch" and copies == 1
    whole = count if share is None else share.values(x)
    seen = whole * attributes.get("repeat", 1)
    if moves and seen == 1:
        raise ValueError(
            "batch_norm: one value per channel has no unbiased variance; give more samples or "
            'steps, or use mode "running"'
        )
    if share is not None:
        y, batch_mean, biased = SyncNorm.apply(share, eps, x, weight, inputs["bias"])
        unbiased = biased * (seen / max(seen - 1, 1))
    elif copies > 1 or count == 1:
        y, batch_mean, biased = _by_formula(x, weight, inputs["bias"], eps, copies)
        unbiased = biased * (seen / max(seen - 1, 1))
    else:
        batch_mean, unbiased = torch.zeros_like(mean), torch.zeros_like(var)
        y = F.batch_norm(view, batch_mean, unbiased, weight, inputs["bias"], True, 1.0, eps)
        y = _back(y, x)
        if seen != count:  # the kernel corrected by count / (count - 1)
            unbiased = unbiased * ((count - 1) / count * (seen / (seen - 1)))
    if moves:
        momentum = attributes.get("momentum", 0.1)
        mean = (1 - momentum) * mean + momentum * batch_mean.detach()
        var = (1 - momentum) * var + momentum * unbiased.detach()
    return {"y": y, "running_mean": mean, "running_var": var}


def _back(y: Tensor, x: Tensor) -> Tensor:
    return y.reshape(x.shape) if y.dim() == 2 else sequence_of(y, x.shape[:-3])


def _by_formula(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, copies: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, mean and biased variance, each copy by statistics of its own."""
    groups = x.reshape(x.shape[0], copies, -1, x.shape[-1]).to(weight.dtype)
    mean = groups.mean(dim=(0, 2), keepdim=True)
    centred = groups - mean
    var = centred.square().mean(dim=(0, 2), keepdim=True)
    y = weight * (centred * (var + eps).rsqrt()) + bias
    first = (mean[0, 0, 0], var[0, 0, 0])  # defined for one copy only
    return (y.reshape(x.shape).to(x.dtype), *first)


def sgd_update(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    parameter, momentum = inputs["parameter"], attributes.get("momentum", 0.0)
    g = inputs["gradient"] + attributes.get("weight_decay", 0.0) * parameter
    velocity = momentum * inputs["velocity"] + g
    step = g + momentum * velocity if attributes.get("nesterov", False) else velocity
    return {"parameter": parameter - inputs["lr"] * step, "velocity": velocity}


def _adam(
    parameter: Tensor, gradient: Tensor, inputs: Inputs, attributes: Attributes
) -> dict[str, Tensor]:
    beta1, beta2 = attributes.get("betas", (0.9, 0.999))
    first = beta1 * inputs["first"] + (1.0 - beta1) * gradient
    second = beta2 * inputs["second"] + (1.0 - beta2) * gradient * gradient
    mean = first / _correction(beta1, inputs["count"])
    root = (second / _correction(beta2, inputs["count"])).sqrt()
    parameter = parameter - inputs["lr"] * mean / (root + attributes.get("eps", 1e-8))
    return {"parameter": parameter, "first": first, "second": second}


def _correction(beta: float, count: Tensor) -> Tensor:
    return -torch.expm1(count * math.log(beta)) if beta > 0.0 else torch.ones_like(count)


def adam_update(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    g = inputs["gradient"] + attributes.get("weight_decay", 0.0) * inputs["parameter"]
    return _adam(inputs["parameter"], g, inputs, attributes)


def adamw_update(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    decayed = inputs["parameter"] * (1.0 - inputs["lr"] * attributes.get("weight_decay", 0.01))
    return _adam(decayed, inputs["gradient"], inputs, attributes)


def rounded_sgd_update(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    grid, limit = attributes["grid"], attributes["limit"]
    moved = inputs["parameter"] - inputs["lr"] * inputs["gradient"]
    return {"parameter": (grid * torch.round(moved / grid)).clamp(-limit, limit)}


def project(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    low, high = attributes.get("low"), attributes.get("high")
    parameter = inputs["parameter"]
    if low is None and high is None:
        return {"parameter": parameter}
    return {"parameter": parameter.clamp(low, high)}


RULES: dict[str, Rule] = {
    "quantize_weight": quantize_weight,
    "repeat": repeat,
    "poisson": poisson,
    "conv2d": conv2d,
    "linear": linear,
    "batch_norm": batch_norm,
    "avg_pool2d": avg_pool2d,
    "max_pool2d": max_pool2d,
    "global_avg_pool2d": global_avg_pool2d,
    "flatten": flatten,
    "add": add,
    "dropout": dropout,
    "neuron": neuron,
    "norm_neuron": norm_neuron,
    "recurrent": recurrent,
    "rate_neuron": rate_neuron,
    "rate_mapping": rate_mapping,
    "rate_block": rate_block,
    "readout": losses.readout,
    "sdt_loss": losses.sdt_loss,
    "tet_loss": losses.tet_loss,
    "rate_mse_loss": losses.rate_mse_loss,
    "mse_loss": losses.mse_loss,
    "sgd_update": sgd_update,
    "adam_update": adam_update,
    "adamw_update": adamw_update,
    "rounded_sgd_update": rounded_sgd_update,
    "project": project,
}
