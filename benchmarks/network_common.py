"""What the cases of `networks.py` share: the net, the batch, the clock."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import snnx
from snnx.models import MODELS

WARM = 6
TIMED = 3 if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else 20  # hidden: the script is tried
Case = dict[str, Any]
Figures = dict[str, Any]


def neuron() -> Any:
    """Return the neuron of every contender."""
    return snnx.LIF(detach_reset=True, surrogate=snnx.ArcTan(1.0))


def shape(case: Case) -> tuple[int, ...]:
    return tuple(case.get("input", (32, 32, 3))) if case["model"] != "shd" else (700,)


def model(case: Case) -> Any:
    """Return the tree of a case."""
    made = MODELS[case["model"]]
    return made(neuron=neuron(), input=shape(case), width=case.get("width", 1.0))


def batch(case: Case, samples: int | None = None) -> Any:
    """Return a batch of noise: at the first layer a mean rate of 0.1 to 0.3."""
    n, draw = samples or case["batch"], np.random.default_rng(3)
    lead = (case["T"], n) if case["model"] == "shd" else (n,)
    x = 3.4 * (draw.random((*lead, *shape(case)), dtype=np.float32) - 0.5)
    x = (x > 1.3).astype(np.float32) if case["model"] == "shd" else x
    return {"x": x, "y": draw.integers(0, 10, n), "index": np.arange(n)}


def device_of(case: Case) -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def timed(call: Callable[[], Any], count: int = TIMED) -> dict[str, float]:
    """Return the median time of a call: between CUDA events, else by the host's clock."""
    import torch

    spans = []
    for _ in range(count):
        if torch.cuda.is_available():
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            last.synchronize()
            spans.append(first.elapsed_time(last))
        else:
            began = time.perf_counter()
            call()
            spans.append(1e3 * (time.perf_counter() - began))
    return {"device_ms": statistics.median(spans), "least_ms": min(spans)}
