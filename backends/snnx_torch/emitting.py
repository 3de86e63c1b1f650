"""Steps whose output is read as bits: who makes them (`snnx.passes.mark_packed` tells which)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snnx.lower import evaluate
from snnx_torch.bits import pack
from snnx_torch.kernels.implementation import fused
from snnx_torch.scan import OPERATIONS, wide


def emitted(
    outputs: dict[str, Tensor], inputs: Mapping[str, Any], attributes: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return a step's outputs with the bits and the scale of its output, as its attributes ask.

    Bits that a kernel has written are left as they are. Without gradients nobody reads them, and
    there are none.
    """
    if not torch.is_grad_enabled():
        return outputs
    found, y = dict(outputs), outputs["y"].detach()
    if attributes.get("emits") and "bits" not in found:
        found["bits"] = pack(y, fused(attributes, y))
    if "emits_scale" in attributes:
        lines, dtype = attributes["emits_scale"], wide(y.dtype)
        values = {n: inputs[n].detach().to(dtype) for n in lines.inputs if n != "spike"}
        values["spike"] = torch.ones((), dtype=dtype, device=y.device)
        found["scale"] = evaluate(lines, values, OPERATIONS)["scale"].to(y.dtype)
    return found
