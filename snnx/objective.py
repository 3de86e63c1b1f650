"""Objectives: the loss of a run as data. Each names its op, which gives one loss per sample.

The loss of a batch is the sum over samples divided by the global count of samples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Objective:
    """A per-sample loss on the output sequence [T, N, *K]; its fields are the op's attributes."""

    op: ClassVar[str] = ""
    classifies: ClassVar[bool] = True
    per_step: ClassVar[bool] = False  # a mean over the valid steps of a loss of each step

    @property
    def attributes(self) -> dict[str, Any]:
        """The op's attributes."""
        return asdict(self)

    @property
    def readout(self) -> dict[str, Any]:
        """Attributes of the readout by which a prediction is made."""
        return {"decay": getattr(self, "decay", 1.0)}


@dataclass(frozen=True, slots=True)
class SDT(Objective):
    """Cross entropy of the mean logit over time; decay < 1 weights late steps (DSR LIF).

    CE(sum_t w[t] O[t] / sum_t w[t], y), w[t] = decay^(T - t). Source: TET Eq. 6; DSR C.3.
    """

    op: ClassVar[str] = "sdt_loss"
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"SDT: decay weights late steps and is in (0, 1], not {self.decay}")


@dataclass(frozen=True, slots=True)
class TET(Objective):
    """Mean over time of the cross entropy of every step, mixed with a squared error.

    (1 - mse) mean_t CE(O[t], y) + mse mean_{t,k} (O[t, k] - target_value)^2. Source: TET Eq. 9-11.
    """

    op: ClassVar[str] = "tet_loss"
    per_step: ClassVar[bool] = True
    mse: float = 0.05
    target_value: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.mse <= 1:
            raise ValueError(f"TET: mse is a share in [0, 1], not {self.mse}")


@dataclass(frozen=True, slots=True)
class RateMSE(Objective):
    """Squared error of the mean output: `high` for the labelled class, `low` for the others."""

    op: ClassVar[str] = "rate_mse_loss"
    high: float = 1.0
    low: float = 0.0

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ValueError(
                f"RateMSE: high, of the labelled class, must be above low, not {self.high} and "
                f"{self.low}"
            )


@dataclass(frozen=True, slots=True)
class MSE(Objective):
    """Squared error of the mean output against a target array of its shape."""

    op: ClassVar[str] = "mse_loss"
    classifies: ClassVar[bool] = False
