"""A pair with a residual of spikes, dense and as bits: what both give, for any kind of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from snnx import LIF, Triangular
from snnx_torch.bits import pack
from snnx_torch.kernels import norm_neuron


def outcomes(share: str, language: str, features: int, steps: int, dtype: Any) -> list[dict]:
    """Return outputs and gradients of a dense residual and of one that is read from bits."""
    rng = np.random.default_rng(features + steps)
    shape = (steps, 2, 3, features)
    drawn = {n: torch.tensor(rng.standard_normal(shape)) for n in ("x", "residual", "g")}
    scale = None if share == "unit" else torch.tensor(0.75)
    scale = torch.tensor(rng.uniform(0.5, 1.5, features)) if share == "channel" else scale
    scale = None if scale is None else scale.to(dtype)
    fired = (drawn["residual"] > 0.5).to(dtype)
    residual = fired if scale is None else fired * scale
    results = []
    for packed in (False, True):
        given: dict[str, Any] = {"x": drawn["x"].to(dtype), "residual": residual}
        given |= {"weight": torch.full((features,), 1.2), "bias": torch.full((features,), 0.3)}
        given = {n: a.clone().requires_grad_() for n, a in given.items()}
        given |= {"running_mean": torch.zeros(features), "running_var": torch.ones(features)}
        if packed:
            beside = {"residual_bits": pack(residual), "residual_scale": scale}
            given |= {n: a for n, a in beside.items() if a is not None}
        attributes = {"neuron": LIF(decay=0.7, surrogate=Triangular(1.0)), "mode": "batch"}
        attributes |= {"steps": steps, "implementation": language, "emits": packed}
        found = norm_neuron(given, attributes)
        (found["y"] * drawn["g"].to(dtype)).sum().backward()
        learns = ("x", "residual", "weight", "bias")
        bits = {"bits": found.pop("bits") if "bits" in found else pack(found["y"].detach())}
        results.append({**found, **bits, **{f"g.{n}": given[n].grad for n in learns}})
    return results
