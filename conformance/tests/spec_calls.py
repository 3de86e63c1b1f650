"""An op of the spec called by name on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnx.ops import OPS


def forward(name: str, attributes: Any = None, **inputs: Any) -> dict[str, np.ndarray]:
    return OPS[name].forward(np, inputs, attributes or {})


def vjp(name: str, g: Any, attributes: Any = None, **inputs: Any) -> dict[str, np.ndarray]:
    outputs = forward(name, attributes, **inputs)
    (output,) = outputs
    return OPS[name].vjp(np, inputs, attributes or {}, outputs, {output: np.asarray(g)})
