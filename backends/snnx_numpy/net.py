"""The network of the NumPy backend: arrays by path and the program that they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnx.batch import check_input
from snnx.building import initial_statistics
from snnx.mode import EVAL, Run, train_mode
from snnx.program import Program
from snnx_numpy import core


def project(program: Program, parameters: dict[str, np.ndarray]) -> None:
    """Clip every learned number into its bounds, in place."""
    for p in program.parameters:
        if p.learned is not None:
            low, high = p.learned.raw_bounds
            if low is not None or high is not None:
                parameters[p.path] = np.clip(parameters[p.path], low, high)


class Net:
    """A network of NumPy arrays: `parameters`, `statistics`, and a call that runs the program.

    y, state = net(x, state=None, steps=None): x [N, *F] with steps = T, or [T, N, *F].
    `training` chooses between `train_mode` and `EVAL`.
    """

    def __init__(
        self, program: Program, parameters: Mapping[str, np.ndarray], dtype: np.dtype[Any]
    ) -> None:
        self.program = program
        self.dtype = dtype
        self.parameters = {k: np.asarray(v, dtype) for k, v in parameters.items()}
        project(program, self.parameters)
        start = initial_statistics(program)
        self.statistics = {k: v.astype(dtype) for k, v in start.items()}
        self.training = False

    def implementations(self) -> dict[str, str]:
        """Return what runs each spiking step: the spec itself."""
        return {step.path: f"{step.op}: the spec" for step in self.program.spiking}

    def __call__(
        self,
        x: np.ndarray,
        state: Mapping[str, Any] | None = None,
        steps: int | None = None,
        dials: Mapping[str, Any] | None = None,
        index: np.ndarray | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return y [T, N, *K] and the state for the next chunk of time."""
        static, total = check_input(self.program, np.shape(x), steps)
        x = np.asarray(x, self.dtype)
        x = x[None] if static else x
        known = {**self.program.dials, "seed": 0, "step": 0, "epoch": 0, **(dials or {})}
        mode = train_mode(self.program) if self.training else EVAL
        order = np.arange(x.shape[1]) if index is None else index
        out = core.run(
            self.program, self.parameters, self.statistics, x, state, known, order, Run(mode, total)
        )
        if self.training:
            self.statistics = out.statistics
        return out.y, out.state
