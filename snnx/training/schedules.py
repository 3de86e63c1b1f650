"""Schedules: the learning rate (or another dial) as a function of epoch and optimiser step.

Plain Python floats, computed on the host and handed to the compiled step as a dial, so that both
backends see the same number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    """What a schedule is: `value` at a place in the run."""

    def value(self, base: float, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the value for optimiser step `step`, both counted from 0 over the whole run."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """The base value at every step."""

    def value(self, base: float, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return `base`."""
        return base


@dataclass(frozen=True, slots=True)
class Cosine:
    """Half a cosine from the base value towards 0, one value per epoch.

        value = base / 2 * (1 + cos(pi * epoch / epochs)),   epoch = 0 .. epochs - 1

    The last epoch is not 0; from epoch = epochs on the value is 0.
    Raises: ValueError if epochs < 1.
    Source: Loshchilov and Hutter 2017, stepped per epoch as in the code of all four methods.
    """

    epochs: int

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"Cosine: epochs is {self.epochs}; give at least 1")

    def value(self, base: float, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the value of `epoch`."""
        if epoch >= self.epochs:
            return 0.0
        return 0.5 * base * (1.0 + math.cos(math.pi * epoch / self.epochs))


@dataclass(frozen=True, slots=True)
class Warmup:
    """Another schedule, ramped up linearly over the first optimiser steps.

        value = min((step + 1) / steps, 1) * then.value(...)

    The first step is base / steps, not 0, and step = steps - 1 is the first at full value.
    Raises: ValueError if steps < 1.
    """

    steps: int
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Warmup: steps is {self.steps}; give at least 1")

    def value(self, base: float, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the value of `step`."""
        share = min((step + 1) / self.steps, 1.0)
        return share * self.then.value(base, epoch, step, steps_per_epoch)


@dataclass(frozen=True, slots=True)
class Step:
    """The base value times `factor` once for every milestone that the epoch has reached.

        value = base * factor^(number of milestones <= epoch)

    Raises: ValueError if the milestones do not increase or the factor is not positive.
    """

    milestones: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        if any(b <= a for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"Step: milestones {self.milestones} do not increase; sort them")
        if not self.factor > 0.0:
            raise ValueError(f"Step: factor is {self.factor}; give a positive number")

    def value(self, base: float, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the value of `epoch`."""
        return base * self.factor ** sum(epoch >= milestone for milestone in self.milestones)
