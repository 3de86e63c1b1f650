"""Products, residual sum and batch norm between DSR layers: see `snnx.ops.rate_block`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnx_torch.losses import step_weights
from snnx_torch.quantize import quantized
from snnx_torch.scan import narrow, wide


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


def _product(branch: Sequence[Any], how: Mapping[str, Any]) -> Tensor:
    """Return a branch (x, weight, bias) in x's dtype; without a weight x itself."""
    x, weight, bias = branch
    if weight is None:
        return x
    low = weight.to(x.dtype)
    low_bias = None if bias is None else bias.to(x.dtype)
    if weight.dim() == 2:
        return F.linear(x, low, low_bias)
    stride, padding, groups = _how(how)
    z = F.conv2d(_images(x), low, low_bias, stride, padding, 1, groups).permute(0, 2, 3, 1)
    return z.reshape(*x.shape[:2], *z.shape[1:])


class RateBlock(torch.autograd.Function):
    """apply(attributes, norm_weight, norm_bias, running_mean, running_var, *branches).

    A branch of the sum is x, weight or None, bias or None. Returns y, and the mean and biased
    variance that normalised it. Keeps means over time and covariances, whatever the number of
    steps. The products are in the dtype of their x, all else in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        attributes: dict[str, Any],
        norm_weight: Tensor,
        norm_bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        *flat: Any,
    ) -> Any:
        branches = [flat[i : i + 3] for i in range(0, len(flat), 3)]
        hows = (attributes, attributes.get("skip", {}))
        x = branches[0][0]
        dtype = wide(x.dtype)
        z = _product(branches[0], hows[0]).to(dtype)
        if len(branches) > 1:
            z = z + _product(branches[1], hows[1]).to(dtype)
        if attributes["mode"] == "running":
            mean, var, centred = running_mean, running_var, z - running_mean
        elif attributes.get("share") is not None:
            mean, var = attributes["share"].moments(z)
            centred = z - mean
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
        exact = attributes["mode"] != "running" and attributes.get("covariance", True)
        kept: list[Tensor | None] = []
        for i, (x, weight, _) in enumerate(branches):
            if weight is None:
                kept += [None, None, None]
                continue
            x_mean = x.mean(dim=0, keepdim=True, dtype=dtype)
            covariance = None
            if exact and ctx.needs_input_grad[6 + 3 * i]:
                about = ((x - x_mean).to(x.dtype), weight.to(x.dtype), (xhat - plain).to(x.dtype))
                covariance = _pull(*about, hows[i], "weight").to(dtype)
            kept += [x_mean, weight, covariance]
        ctx.attributes, ctx.hows = attributes, hows
        ctx.inputs = [(x.shape, x.dtype, bias is not None) for x, _, bias in branches]
        ctx.save_for_backward(norm_weight, inverse, plain, weighted, *kept)
        ctx.mark_non_differentiable(mean, var)
        return narrow(y, branches[0][0].dtype), mean.clone(), var.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        norm_weight, inverse, plain, weighted, *kept = ctx.saved_tensors
        attributes, steps = ctx.attributes, ctx.inputs[0][0][0]
        running = attributes["mode"] == "running"
        scale = attributes.get("scale", 1.0)
        collapsed = grads[0].to(plain.dtype).sum(dim=0)
        over = tuple(range(plain.dim() - 1))
        factor = scale * norm_weight * inverse
        share = attributes.get("share")
        g_norm, g_norm_bias = (collapsed * plain).sum(dim=over), collapsed.sum(dim=over)
        c = torch.zeros_like(inverse)
        centred = collapsed
        if not running and share is None:
            c = (collapsed * plain).mean(dim=over)
            centred = collapsed - collapsed.mean(dim=over)
        elif not running:
            n = share.values(plain[None])
            c, mean = (share.own(total / n) for total in share.sums(g_norm, g_norm_bias))
            centred = share.own(collapsed - mean)
        into = factor * (centred - plain * c)
        through = (factor * (centred - weighted * c) / steps)[None]
        found: list[Any] = [None, scale * g_norm, g_norm_bias, None, None]
        for i, (shape, dtype, biased) in enumerate(ctx.inputs):
            x_mean, weight, covariance = kept[3 * i : 3 * i + 3]
            wants_x, wants_weight, _ = ctx.needs_input_grad[5 + 3 * i : 8 + 3 * i]
            g_x = g_weight = g_bias = None
            if wants_x:
                g = through
                if weight is not None:
                    g = _pull(x_mean, weight, g, ctx.hows[i], "x")
                g_x = g.to(dtype).expand(shape)
            if weight is not None and wants_weight:
                g_weight = _pull(x_mean, weight, into[None], ctx.hows[i], "weight")
                if covariance is not None:
                    along = (factor * c / steps).reshape(-1, *[1] * (weight.dim() - 1))
                    g_weight = g_weight - along * covariance
            if biased:  # the norm of a batch takes a bias away
                g_bias = into.sum(dim=over) if running else torch.zeros_like(factor)
            found += [g_x, g_weight, g_bias]
        return tuple(found)


def _branch(
    inputs: Mapping[str, Tensor], name: str, prefix: str, how: Mapping[str, Any]
) -> list[Tensor | None]:
    weight = inputs.get(f"{prefix}weight")
    if weight is not None:
        weight = quantized(weight, how.get("bits"))
    return [inputs[name], weight, inputs.get(f"{prefix}bias")]


def rate_block(inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return y and the running statistics after this batch."""
    if attributes.get("copies", 1) != 1:
        raise ValueError("rate_block: statistics per copy are not its own; copies must be 1")
    names = ("norm_weight", "norm_bias", "running_mean", "running_var")
    branches: list[Tensor | None] = _branch(inputs, "x", "", attributes)
    if "skip" in inputs:
        branches += _branch(inputs, "skip", "skip_", attributes.get("skip", {}))
    norm = [inputs[name] for name in names]
    y, mean, var = RateBlock.apply(dict(attributes), *norm, *branches)
    old = [inputs[name].detach() for name in ("running_mean", "running_var")]
    if attributes["mode"] == "batch":
        share = attributes.get("share")
        count = y.numel() // y.shape[-1] if share is None else share.values(y)
        count *= attributes.get("repeat", 1)
        if count == 1:
            raise ValueError(
                "batch_norm: one value per channel has no unbiased variance; give more samples or "
                'steps, or use mode "running"'
            )
        momentum = attributes.get("momentum", 0.1)
        new = (mean, var * (count / (count - 1)))
        old = [(1 - momentum) * a + momentum * b for a, b in zip(old, new, strict=True)]
    return {"y": y, "running_mean": old[0], "running_var": old[1]}
