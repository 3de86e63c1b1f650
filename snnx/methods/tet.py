"""TET: temporal efficient training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from snnx.methods.method import Method
from snnx.objective import TET, Objective

if TYPE_CHECKING:
    from snnx.training.loop import Training


@dataclass(frozen=True)
class TETMethod(Method):
    """The loss of every time step by itself: the objective TET, whose `mse` is lambda.

    Nothing else of a run changes. `stages` of the recipe train first at short, then at long T.

    Every epoch records, as it begins and on the first `watched` samples of the training split (0:
    not measured), "worst_step", the accuracy of the least accurate single step, which this loss
    lifts, and "all_steps", that of their mean output. Source: TET Eq. 9-11, Table 4.
    """

    name: ClassVar = "tet"
    defaults: ClassVar = {"objective": {"name": "tet"}}
    watched: int = 64

    def __post_init__(self) -> None:
        if self.watched < 0:
            raise ValueError(f"method tet: watched is a number of samples, not {self.watched}")

    def check(self, model: object, objective: Objective) -> None:
        """Raise ValueError for another objective, which is another method."""
        if not isinstance(objective, TET):
            raise ValueError(
                f"method tet: is the objective TET, and {type(objective).__name__} was asked for; "
                "leave out one of the two"
            )

    def before_epoch(self, training: Training) -> None:
        """Record the accuracy of the worst step alone, and of all steps together."""
        if not self.watched or training.stage.steps == 1:
            return
        from snnx.analysis.rates import first_batches
        from snnx.analysis.time import right_over_time

        right: Any = 0.0
        alone: Any = 0.0
        there: Any = 0.0
        for batch in first_batches(
            training.dataset, "train", training.plan.batch_size, self.watched
        ):
            counters = {"seed": training.plan.seed, "epoch": training.epoch}
            dials = {**training.dials, **counters}
            out = training.session.forward(batch, dials, steps=training.stage.steps)
            after, own, valid = right_over_time(
                out.y, batch["y"], batch.get("length"), training.plan.objective.readout
            )
            right, alone = right + after[-1].sum(), alone + own.sum(1)
            there = there + valid.sum(1)
        seen = there > 0  # every step that one sample has
        training.note("worst_step", float(np.min(alone[seen] / there[seen])))
        training.note("all_steps", float(right / there[0]))
