"""What a training step allocates, measured by running one: MLX counts what its arrays take."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from snnx.backend import Footprint
from snnx_mlx.session import MlxSession


def footprint(session: MlxSession, samples: int) -> Footprint:
    """Return peak and standing bytes of a step; what is kept by layer, MLX does not tell."""
    program = session.net.program
    batch: Any = {
        "x": np.zeros((samples, *program.input_shape), np.float32),
        "y": np.zeros((samples, *program.output_shape), np.float32),
        "index": np.arange(samples),
    }
    if session.train_step.objective.classifies:
        batch["y"] = np.zeros(samples, np.int64)
    session.read(session.step([batch], {}))  # moments and compiled pieces stand from here on
    mx.clear_cache()
    standing = mx.get_active_memory()
    mx.reset_peak_memory()
    session.read(session.step([batch], {"step": 1}))
    return Footprint(mx.get_peak_memory(), standing, {})
