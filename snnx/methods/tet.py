"""TET: temporal efficient training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnx.methods.method import Method
from snnx.objective import TET, Objective


@dataclass(frozen=True)
class TETMethod(Method):
    """The loss of every time step by itself: the objective TET, whose `mse` is lambda.

    Nothing else of a run changes. `stages` of the recipe train first at short, then at long T.
    Source: TET Eq. 9-11.
    """

    name: ClassVar = "tet"
    defaults: ClassVar = {"objective": {"name": "tet"}}

    def check(self, model: object, objective: Objective) -> None:
        """Raise ValueError for another objective, which is another method."""
        if not isinstance(objective, TET):
            raise ValueError(
                f"method tet: is the objective TET, and {type(objective).__name__} was asked for; "
                "leave out one of the two"
            )
