"""What a run is, as plain values: everything that the loop needs beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx.data import Batches
from snnx.methods.method import Method
from snnx.objective import TET, Objective
from snnx.optim import Adam, Optim
from snnx.program import Program, flatten
from snnx.training.schedules import Constant, Schedule

if TYPE_CHECKING:
    from snnx.data.lazy import Source


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    steps is T for static data. `schedule` sets every learning-rate dial of `optim` from its initial
    value. device and compile None leave the choice to the backend. `config` is kept in checkpoints.
    model and optim are what the methods made of them (`snnx.methods.method.applied`).
    """

    model: Any
    objective: Objective = TET()  # noqa: RUF009  (frozen)
    optim: Optim = field(default_factory=lambda: Optim(Adam()))
    schedule: Schedule = Constant()  # noqa: RUF009  (frozen)
    methods: tuple[Method, ...] = ()
    steps: int = 4
    epochs: int = 15
    batch_size: int = 64
    seed: int = 0
    max_steps: int | None = None
    backend: str = "auto"
    device: str | None = None
    precision: str = "fp32"
    compile: bool | None = None
    deterministic: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, not {self.max_steps}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0 .. 2^32 - 1, not {self.seed}")
        if not self.objective.classifies:
            raise ValueError(
                f"{type(self.objective).__name__} needs target arrays, and data sets hold "
                "class labels; use TET, SDT or RateMSE"
            )

    def program(self) -> Program:
        """Return the model's program, checked against the optimiser's groups."""
        program = flatten(self.model)
        self.optim.check(program)
        return program


def time_steps(dataset: Source, steps: int) -> int:
    """Return T: `steps` for static samples, their own length for sequences."""
    if dataset.layout == "NF":
        return steps
    first = Batches(dataset, "train", 1, shuffle=False).take(np.zeros(1, np.int64))
    return first["x"].shape[0]
