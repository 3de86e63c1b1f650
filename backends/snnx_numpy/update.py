"""One update of the weights by the spec's rules, after clipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnx.ops import OPS
from snnx.optim import Optim
from snnx.scalars import Dial
from snnx_numpy.net import Net, project


def updated(
    net: Net,
    optim: Optim,
    moments: dict[str, np.ndarray],
    count: int,
    gradients: Mapping[str, np.ndarray],
    norm: float,
    dials: Mapping[str, Any],
) -> None:
    """Move the weights of a network and the moments by gradients of that joint norm.

    `count` is the number of updates, this one included.
    """
    scale = 1.0 if optim.clip_norm is None else min(1.0, optim.clip_norm / (norm + 1e-6))
    most = np.inf if optim.clip_value is None else optim.clip_value
    dtype = net.dtype
    for p in net.program.parameters:
        rule = optim.rule(p)
        lr = dials[rule.lr.name] if isinstance(rule.lr, Dial) else rule.lr
        inputs: dict[str, Any] = {
            "parameter": net.parameters[p.path],
            "gradient": np.clip(gradients[p.path] * np.asarray(scale, dtype), -most, most),
            "lr": np.asarray(lr, dtype),
        }
        inputs |= {m: moments[f"{p.path}.{m}"] for m in rule.moments}
        if rule.counts:
            inputs["count"] = np.asarray(count, dtype)
        out = OPS[rule.op].forward(np, inputs, rule.attributes)
        net.parameters[p.path] = np.asarray(out["parameter"], dtype)
        for m in rule.moments:
            moments[f"{p.path}.{m}"] = np.asarray(out[m], dtype)
    project(net.program, net.parameters)
