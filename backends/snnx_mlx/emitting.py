"""Steps whose output is read as bits: who makes them (`snnx.passes.mark_packed` tells which)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from snnx.lower import evaluate
from snnx_mlx import bits as generic
from snnx_mlx.kernels import bits as kernels
from snnx_mlx.kernels.implementation import implementation
from snnx_mlx.sequence import OPERATIONS


def runs_kernels(attributes: Mapping[str, Any], x: mx.array) -> bool:
    """Tell whether kernels pack and unpack a sequence."""
    return implementation(attributes, x.dtype, x.size // x.shape[0]).name != "generic"


def emitted(
    outputs: dict[str, mx.array], inputs: Mapping[str, Any], attributes: Mapping[str, Any]
) -> dict[str, mx.array]:
    """Return a step's outputs with the bits and the scale of its output, as its attributes ask.

    Bits that a kernel has written are left as they are.
    """
    found, y = dict(outputs), mx.stop_gradient(outputs["y"])
    if attributes.get("emits"):
        pack = kernels.pack if runs_kernels(attributes, y) else generic.pack
        found["bits"] = mx.stop_gradient(found["bits"] if "bits" in found else pack(y))
    if "emits_scale" in attributes:
        lines = attributes["emits_scale"]
        values = {n: inputs[n].astype(mx.float32) for n in lines.inputs if n != "spike"}
        values["spike"] = mx.ones((), mx.float32)
        scale = evaluate(lines, values, OPERATIONS)["scale"]
        found["scale"] = mx.stop_gradient(scale).astype(y.dtype)
    return found
