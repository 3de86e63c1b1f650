"""Optimisers as data: which update rule each group of parameters follows.

A learning rate is a constant or a Dial, so a schedule changes it without compiling anything again.
The rules are ops of the spec (`snnx.ops`), the same formula on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from snnx.program import Parameter, Program
from snnx.scalars import Dial, Scalar, initial, is_number


@dataclass(frozen=True, slots=True)
class Rule:
    """An update rule; fields other than lr are the op's attributes."""

    op: ClassVar[str] = ""
    moments: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[bool] = False
    lr: Scalar = Dial("lr", 0.1)

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if not is_number(self.lr):
            raise TypeError(f"{kind}: lr is a number or a Dial, not {self.lr!r}")
        if not 0 < initial(self.lr) < math.inf:
            raise ValueError(f"{kind}: lr must be above 0, not {initial(self.lr)}")
        for name, value in self.attributes.items():
            self._check(kind, name, value)

    @staticmethod
    def _check(kind: str, name: str, value: Any) -> None:
        """Raise ValueError where a number lies outside of what it means."""
        if name in ("momentum", "betas"):
            values = value if isinstance(value, tuple | list) else (value,)
            if not all(is_number(v) and 0 <= v < 1 for v in values):
                raise ValueError(f"{kind}: {name} must be in [0, 1), not {value}")
        elif name in ("eps", "grid", "limit") and not (is_number(value) and 0 < value < math.inf):
            raise ValueError(f"{kind}: {name} must be above 0, not {value}")
        elif name == "weight_decay" and not (is_number(value) and 0 <= value < math.inf):
            raise ValueError(f"{kind}: weight_decay must be at least 0, not {value}")

    @property
    def attributes(self) -> dict[str, Any]:
        """The op's attributes."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "lr"}


@dataclass(frozen=True, slots=True)
class SGD(Rule):
    """b = momentum b + (g + weight_decay w); w = w - lr b (Nesterov: lr (g + momentum b))."""

    op: ClassVar[str] = "sgd_update"
    moments: ClassVar[tuple[str, ...]] = ("velocity",)
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class Adam(Rule):
    """Adam with bias correction; weight decay is added to the gradient. Kingma and Ba, 2015."""

    op: ClassVar[str] = "adam_update"
    moments: ClassVar[tuple[str, ...]] = ("first", "second")
    counts: ClassVar[bool] = True
    lr: Scalar = Dial("lr", 1e-3)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class AdamW(Adam):
    """Adam with decoupled weight decay. Loshchilov and Hutter, 2019."""

    op: ClassVar[str] = "adamw_update"
    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True)
class RoundedSGD(Rule):
    """w = clip(round((w - lr g) / grid) grid, -limit, limit): exact on a dyadic grid."""

    op: ClassVar[str] = "rounded_sgd_update"
    grid: float = 2.0**-4
    limit: float = 1.0


@dataclass(frozen=True, slots=True)
class Optim:
    """`default` for every group but those named in `groups`; a path names one parameter alone.

    clip_norm scales all gradients so that their joint Euclidean norm is at most this. clip_value
    clips every element of every gradient into [-clip_value, clip_value]. The norm that a step
    reports is that before either. Raises: ValueError for both at once.
    """

    default: Rule = SGD()
    groups: Mapping[str, Rule] = field(default_factory=dict)
    clip_norm: float | None = None
    clip_value: float | None = None

    def __post_init__(self) -> None:
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"Optim: {name} must be above 0, not {getattr(self, name)}")
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("Optim: give clip_norm or clip_value, not both")

    def rule(self, parameter: Parameter) -> Rule:
        """Return the rule of a parameter: that of its path, else of its group, else the default."""
        by_group = self.groups.get(parameter.group, self.default)
        return self.groups.get(parameter.path, by_group)

    def check(self, program: Program) -> None:
        """Raise ValueError where a group names nothing in the program."""
        known = {p.group for p in program.parameters} | {p.path for p in program.parameters}
        unknown = sorted(set(self.groups) - known)
        if unknown:
            raise ValueError(
                f"Optim: no parameter has the group or path {unknown}; there are {sorted(known)}"
            )

    def dials(self, program: Program) -> dict[str, float]:
        """Return every learning-rate dial with its initial value."""
        found: dict[str, float] = {}
        for p in program.parameters:
            lr = self.rule(p).lr
            if isinstance(lr, Dial) and found.setdefault(lr.name, lr.init) != lr.init:
                raise ValueError(f"Optim: dial {lr.name!r} has two initial values")
        return found
