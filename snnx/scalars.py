"""What a number of a layer, neuron or surrogate is: a constant, learned, or set by the run.

float                constant, baked into the traced step
Learned(init, ...)   a parameter of the network
Dial(name, init)     set by the run before each step; one value for every use of its name
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Share: TypeAlias = Literal["layer", "channel", "neuron"]
Transform: TypeAlias = Literal["log", "logit"]
COUNTERS = ("seed", "step", "epoch")  # dials that every session has, as uint32


@dataclass(frozen=True, slots=True)
class Learned:
    """A number that is trained.

        value = raw                      (transform None)
        value = exp(raw)                 (transform "log": positive)
        value = 1 / (1 + exp(-raw))      (transform "logit": between 0 and 1)

    `init`, `low` and `high` are values, not raw numbers. `share` says over what one number is
    shared: the layer (shape []), a channel ([C], the last axis) or a neuron ([*F]). `group` names
    the optimiser group. The value is projected into [low, high] at build, at load and after each
    update.
    """

    init: float
    share: Share = "layer"
    group: str = "width"
    transform: Transform | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.share not in ("layer", "channel", "neuron"):
            raise ValueError(
                f'Learned: share is "layer", "channel" or "neuron", not {self.share!r}'
            )
        if self.transform not in (None, "log", "logit"):
            raise ValueError(
                f'Learned: transform is None, "log" or "logit", not {self.transform!r}'
            )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"Learned: low {self.low} is above high {self.high}")
        below = self.low is not None and self.init < self.low
        above = self.high is not None and self.init > self.high
        if below or above or not math.isfinite(self.init):
            raise ValueError(f"Learned: init {self.init} lies outside [{self.low}, {self.high}]")
        for name in ("init", "low", "high"):
            value = getattr(self, name)
            if value is not None:
                self._raw(value, name)

    def _raw(self, value: float, name: str) -> float:
        if self.transform == "log":
            if value <= 0:
                raise ValueError(f'Learned: transform "log" needs {name} > 0, not {value}')
            return math.log(value)
        if self.transform == "logit":
            if not 0 < value < 1:
                raise ValueError(f'Learned: transform "logit" needs 0 < {name} < 1, not {value}')
            return math.log(value / (1 - value))
        return value

    @property
    def raw_init(self) -> float:
        """The stored number at initialisation."""
        return self._raw(self.init, "init")

    def value(self, raw: float) -> float:
        """Return the value of a stored number."""
        if self.transform == "log":
            return math.exp(raw)
        return 0.5 * (1.0 + math.tanh(0.5 * raw)) if self.transform == "logit" else raw

    @property
    def raw_bounds(self) -> tuple[float | None, float | None]:
        """The bounds of the stored number (every transform is increasing)."""
        low = None if self.low is None else self._raw(self.low, "low")
        high = None if self.high is None else self._raw(self.high, "high")
        return low, high


@dataclass(frozen=True, slots=True)
class Dial:
    """A number set by the run: a 0-d array input, never a Python number inside a compiled step."""

    name: str
    init: float

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Dial: the name is empty")
        if self.name in COUNTERS:
            raise ValueError(f"Dial: {self.name!r} is a counter of the run; take another name")
        if not math.isfinite(self.init):
            raise ValueError(f"Dial {self.name!r}: init {self.init} is not finite")


Scalar: TypeAlias = float | Learned | Dial


def initial(scalar: Scalar) -> float:
    """Return the value that the scalar has before training."""
    return float(scalar) if isinstance(scalar, int | float) else scalar.init


def is_number(value: object) -> bool:
    """Tell whether a field's value is a Scalar (bool is not a number here)."""
    return isinstance(value, int | float | Learned | Dial) and not isinstance(value, bool)
