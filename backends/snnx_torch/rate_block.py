"""Convolution or linear map and batch norm between two DSR layers: see `snnx.ops.rate_block`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnx_torch.losses import step_weights
from snnx_torch.quantize import quantized
from snnx_torch.sequence import wide


def _images(x: Tensor) -> Tensor:
    """Return [..., H, W, C] as a view [B, C, H, W] in channels_last memory."""
    return x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2)


def _how(attributes: Mapping[str, Any]) -> tuple[list[int], list[int], int]:
    stride, padding = attributes.get("stride", 1), attributes.get("padding", 0)
    return [stride, stride], [padding, padding], attributes.get("groups", 1)


def _pull(x: Tensor, weight: Tensor, g: Tensor, attributes: Mapping[str, Any], of: str) -> Tensor:
    """Return the product's gradient of "x" or of "weight", at x and g [T N ...]."""
    if weight.dim() == 2:
        return g @ weight if of == "x" else g.flatten(0, -2).T @ x.flatten(0, -2)
    stride, padding, groups = _how(attributes)
    found = torch.ops.aten.convolution_backward(
        _images(g),
        _images(x),
        weight,
        None,
        stride,
        padding,
        [1, 1],
        False,
        [0, 0],
        groups,
        [of == "x", of == "weight", False],
    )
    if of == "weight":
        return found[1]
    return found[0].permute(0, 2, 3, 1).reshape(x.shape)


class RateBlock(torch.autograd.Function):
    """apply(attributes, x, weight, bias, norm_weight, norm_bias, running_mean, running_var).

    Returns y, and the mean and biased variance that normalised it. Keeps means over time and a
    covariance, whatever the number of steps. The product is in x's dtype, all else in float32.
    """

    @staticmethod
    def forward(ctx: Any, attributes: dict[str, Any], x: Tensor, *rest: Any) -> Any:
        weight, bias, norm_weight, norm_bias, running_mean, running_var = rest
        dtype = wide(x.dtype)
        low = weight.to(x.dtype)
        low_bias = None if bias is None else bias.to(x.dtype)
        if weight.dim() == 2:
            z = F.linear(x, low, low_bias)
        else:
            stride, padding, groups = _how(attributes)
            z = F.conv2d(_images(x), low, low_bias, stride, padding, 1, groups)
            z = z.permute(0, 2, 3, 1)
            z = z.reshape(*x.shape[:2], *z.shape[1:])
        z = z.to(dtype)
        if attributes["mode"] == "running":
            mean, var, centred = running_mean, running_var, z - running_mean
        else:
            over = tuple(range(z.dim() - 1))
            mean = z.mean(dim=over)
            centred = z - mean
            var = centred.square().mean(dim=over)
        inverse = (var + attributes.get("eps", 1e-5)).rsqrt()
        xhat = centred * inverse
        y = (attributes.get("scale", 1.0) * norm_weight) * xhat + norm_bias
        plain = xhat.mean(dim=0)
        decay = attributes.get("decay", 1.0)
        weighted = plain
        if decay != 1.0:
            weighted = (step_weights(xhat, None, decay, xhat.dtype) * xhat).sum(dim=0)
        x_mean = x.mean(dim=0, keepdim=True, dtype=dtype)
        covariance = None
        batch = attributes["mode"] != "running"
        if batch and attributes.get("covariance", True) and ctx.needs_input_grad[2]:
            about = ((x - x_mean).to(x.dtype), low, (xhat - plain).to(x.dtype))
            covariance = _pull(*about, attributes, "weight").to(dtype)
        ctx.attributes, ctx.shape, ctx.biased = attributes, x.shape, bias is not None
        ctx.dtype = x.dtype
        ctx.save_for_backward(x_mean, weight, norm_weight, inverse, plain, weighted, covariance)
        ctx.mark_non_differentiable(mean, var)
        return y.to(x.dtype), mean.clone(), var.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x_mean, weight, norm_weight, inverse, plain, weighted, covariance = ctx.saved_tensors
        attributes, steps = ctx.attributes, ctx.shape[0]
        scale = attributes.get("scale", 1.0)
        collapsed = grads[0].to(plain.dtype).sum(dim=0)
        over = tuple(range(plain.dim() - 1))
        factor = scale * norm_weight * inverse
        c = torch.zeros_like(inverse)
        centred = collapsed
        if attributes["mode"] != "running":
            c = (collapsed * plain).mean(dim=over)
            centred = collapsed - collapsed.mean(dim=over)
        into = factor * (centred - plain * c)
        g_x = g_weight = None
        if ctx.needs_input_grad[1]:
            g = (factor * (centred - weighted * c) / steps)[None]
            g_x = _pull(x_mean, weight, g, attributes, "x").to(ctx.dtype).expand(ctx.shape)
        if ctx.needs_input_grad[2]:
            g_weight = _pull(x_mean, weight, into[None], attributes, "weight")
            if covariance is not None:
                along = (factor * c / steps).reshape(-1, *[1] * (weight.dim() - 1))
                g_weight = g_weight - along * covariance
        g_bias = None
        if ctx.biased:  # the norm of a batch takes a bias away
            running = attributes["mode"] == "running"
            g_bias = into.sum(dim=over) if running else torch.zeros_like(factor)
        g_norm = scale * (collapsed * plain).sum(dim=over)
        return None, g_x, g_weight, g_bias, g_norm, collapsed.sum(dim=over), None, None


def rate_block(inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return y and the running statistics after this batch."""
    if attributes.get("copies", 1) != 1:
        raise ValueError("rate_block: statistics per copy are not its own; copies must be 1")
    names = ("weight", "bias", "norm_weight", "norm_bias", "running_mean", "running_var")
    x, rest = inputs["x"], [inputs.get(name) for name in names]
    rest[0] = quantized(inputs["weight"], attributes.get("bits"))
    y, mean, var = RateBlock.apply(dict(attributes), x, *rest)
    old = [inputs[name].detach() for name in ("running_mean", "running_var")]
    if attributes["mode"] == "batch":
        count = attributes.get("repeat", 1) * (y.numel() // y.shape[-1])
        if count == 1:
            raise ValueError(
                "batch_norm: one value per channel has no unbiased variance; give more samples or "
                'steps, or use mode "running"'
            )
        momentum = attributes.get("momentum", 0.1)
        new = (mean, var * (count / (count - 1)))
        old = [(1 - momentum) * a + momentum * b for a, b in zip(old, new, strict=True)]
    return {"y": y, "running_mean": old[0], "running_var": old[1]}
