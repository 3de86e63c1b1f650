"""Per-sample losses and the readout, in float32 or wider: see the ops of these names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnx_torch.scan import wide

Inputs = Mapping[str, Tensor]
Attributes = Mapping[str, Any]


def step_weights(x: Tensor, length: Tensor | None, decay: float, dtype: torch.dtype) -> Tensor:
    """Return the weights of a mean over the valid steps of x [T, N, ...], ready to multiply it."""
    t = torch.arange(x.shape[0], device=x.device, dtype=dtype)[:, None]
    age = (x.shape[0] - 1 if length is None else length.to(dtype)[None, :] - 1) - t
    valid = age >= 0
    weight = torch.where(valid, decay ** torch.where(valid, age, 0.0), 0.0)
    weight = weight / weight.sum(dim=0, keepdim=True)
    return weight.reshape(*weight.shape, *(1,) * (x.dim() - 2))


def _mean(name: str, inputs: Inputs, decay: float) -> Tensor:
    x = inputs[name]
    dtype = wide(x.dtype)
    return (step_weights(x, inputs.get("length"), decay, dtype) * x.to(dtype)).sum(dim=0)


def _one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    return (labels[:, None] == torch.arange(classes, device=labels.device)[None, :]).to(dtype)


def readout(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    """Return the mean logits [N, K]."""
    y = _mean("logits", inputs, attributes.get("decay", 1.0))
    return {"y": y.to(inputs["logits"].dtype)}


def sdt_loss(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    """Return the cross entropy of the mean logits."""
    mean = _mean("logits", inputs, attributes.get("decay", 1.0))
    hot = _one_hot(inputs["target"], mean.shape[-1], mean.dtype)
    return {"loss": -(hot * F.log_softmax(mean, dim=-1)).sum(dim=-1)}


def tet_loss(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    """Return the mean over steps of each step's cross entropy and squared error."""
    logits, mse = inputs["logits"], attributes.get("mse", 0.05)
    logits = logits.to(wide(logits.dtype))
    hot = _one_hot(inputs["target"], logits.shape[-1], logits.dtype)
    entropy = -(hot[None] * F.log_softmax(logits, dim=-1)).sum(dim=-1)
    square = (logits - attributes.get("target_value", 1.0)).square().mean(dim=-1)
    weights = step_weights(logits, inputs.get("length"), 1.0, logits.dtype)[:, :, 0]
    return {"loss": (weights * ((1.0 - mse) * entropy + mse * square)).sum(dim=0)}


def rate_mse_loss(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    """Return the squared error of the mean output against high and low rates."""
    mean = _mean("logits", inputs, 1.0)
    high, low = attributes.get("high", 1.0), attributes.get("low", 0.0)
    hot = _one_hot(inputs["target"], mean.shape[-1], mean.dtype)
    return {"loss": (mean - (low + (high - low) * hot)).square().mean(dim=-1)}


def mse_loss(inputs: Inputs, attributes: Attributes) -> dict[str, Tensor]:
    """Return the squared error of the mean output against target values."""
    mean = _mean("output", inputs, 1.0)
    distance = mean - inputs["target_values"].to(mean.dtype)
    return {"loss": distance.square().flatten(1).mean(dim=-1)}
