"""A user's own layer, written in array-API code: see `snnx.array_layer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from array_api_compat import torch as xp
from torch import Tensor


class LayerRule(torch.autograd.Function):
    """A user's layer that brings its own vjp: apply(layer, names, x, *parameters) -> y."""

    @staticmethod
    def forward(ctx: Any, layer: Any, names: tuple[str, ...], x: Tensor, *rest: Tensor) -> Tensor:
        y = layer.forward(xp, x, dict(zip(names, rest, strict=True)))
        ctx.layer, ctx.names = layer, names
        ctx.save_for_backward(x, y, *rest)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        x, y, *rest = ctx.saved_tensors
        g_x, g_rest = ctx.layer.vjp(xp, x, dict(zip(ctx.names, rest, strict=True)), y, g)
        return (None, None, g_x, *(g_rest.get(name) for name in ctx.names))


def array_layer(layer: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a user's layer: by its own vjp where it has one, else autograd differentiates it."""
    x = inputs["x"]
    names = tuple(name for name in inputs if name != "x")
    rest = [inputs[name].to(x.dtype) for name in names]
    if not layer.has_vjp:
        return {"y": layer.forward(xp, x, dict(zip(names, rest, strict=True)))}
    return {"y": LayerRule.apply(layer, names, x, *rest)}
