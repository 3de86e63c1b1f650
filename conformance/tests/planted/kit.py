"""What a fault needs of a backend: its modules, and the few array calls that differ."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Patch = pytest.MonkeyPatch
Mutate = Callable[[Any], Any]


class Kit:
    """What a fault needs of a backend: its modules, and the few array calls that differ."""

    def __init__(self, name: str) -> None:
        self.name = name
        module = lambda part: importlib.import_module(f"snnx_{name}.{part}")  # noqa: E731
        self.ops, self.draws = module("ops"), module("draws")
        self.sequence = module("scan" if name == "torch" else "sequence")  # where steps are planned
        self.updates = self.ops if name == "torch" else module("updates")
        self.rules: dict[str, Any] = self.ops.RULES

    def swap(self, x: Any) -> Any:
        """Return x with its first two axes swapped."""
        if self.name == "torch":
            return x.transpose(0, 1)
        return importlib.import_module("mlx.core").swapaxes(x, 0, 1)

    def turn(self, x: Any, axes: tuple[int, ...]) -> Any:
        """Return x with its axes in another order."""
        return x.permute(axes) if self.name == "torch" else x.transpose(axes)

    def counting(self, like: Any) -> Any:
        """Return 0, 1, ... of the length and dtype of `like`."""
        if self.name == "torch":
            return importlib.import_module("torch").arange(len(like), dtype=like.dtype)
        return importlib.import_module("mlx.core").arange(like.shape[0]).astype(like.dtype)

    def ones(self, like: Any) -> Any:
        """Return ones of the shape of `like`."""
        return like * 0.0 + 1.0

    def wrap(self, patch: Patch, op: str, around: Callable[..., Any]) -> None:
        """Replace a rule by around(rule, inputs, attributes)."""
        rule = self.rules[op]
        patch.setitem(self.rules, op, lambda inputs, attributes: around(rule, inputs, attributes))

    def neurons(self, patch: Patch, mutate: Mutate) -> None:
        """Let the backend run every neuron as another one."""
        name = "plan" if self.name == "torch" else "_scan"
        at = 0 if self.name == "torch" else 1
        made = getattr(self.sequence, name)

        def planted(*given: Any) -> Any:
            return made(*given[:at], mutate(given[at]), *given[at + 1 :])

        patch.setattr(self.sequence, name, planted)
        if self.name == "mlx":  # torch's kernels take the neuron from the plan
            kernels = importlib.import_module("snnx_mlx.kernels.neuron")
            unit = kernels.unit
            patch.setattr(kernels, "unit", lambda n, *given: unit(mutate(n), *given))

    def fresh(self) -> None:
        """Forget what the backend has planned so far."""
        made = self.sequence.plan if self.name == "torch" else self.sequence._scan
        made.cache_clear()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name; `plant` patches it into the backend of a kit."""

    name: str
    plant: Callable[[Kit, Patch], None]
    backends: tuple[str, ...] = ("torch", "mlx")
    refused: bool = False  # the backend itself raises; elsewhere only numbers may tell
