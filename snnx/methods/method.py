"""What a method is: the defaults, tree rewriting and per-epoch work that a paper adds to a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from snnx.methods.rewrite import layers_in
from snnx.objective import TET, Objective
from snnx.optim import Optim
from snnx.spiking import DSR

if TYPE_CHECKING:
    from snnx.backend import Snapshot
    from snnx.program import Program
    from snnx.training.loop import Training


@dataclass(frozen=True)
class Method:
    """An addition to a training run; this base adds nothing and is itself the method "plain".

    A subclass is a frozen dataclass. Its fields are its options, and so the keys of the recipe's
    table `method`. Every hook may be left out. A method holds no state: what changes during a run
    is a dial of `training.dials`, which the checkpoint keeps, so a resumed run goes on as it was.
    """

    name: ClassVar[str] = "plain"
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Recipe values that the method brings; keys that the user sets explicitly override them."""

    def for_steps(self, steps: int) -> Method:
        """Return the method with the options that it chooses by T and the user left open."""
        return self

    def objective(self, objective: Objective) -> Objective:
        """Return the objective with what the method knows of it and the user left open."""
        return objective

    def rewrite(self, model: Any) -> Any:
        """Return the model that is trained; see `snnx.methods.rewrite.replace_layers`."""
        return model

    def optim(self, optim: Optim) -> Optim:
        """Return the optimiser with what the method's own parameters need and the user left out."""
        return optim

    def check(self, model: Any, objective: Objective) -> None:
        """Raise ValueError, with the reason, for a model or objective that makes no sense here.

        The model is the rewritten one.
        """

    def before_epoch(self, training: Training) -> None:
        """Set dials in `training.dials` for the epoch that begins; they are recorded with it.

        `training.note(name, value)` records another figure of the epoch. Losses, gradients and
        outputs of `training.session` may be asked for; `training.epoch` counts from 0. It is not
        called again where a run is resumed in the middle of an epoch. In a stage that trains an
        ANN the program has no neurons, and so none of their dials.
        """

    def program(self, program: Program) -> Program:
        """Return the program that is trained, after passes of the method; parameters stay."""
        return program

    def from_ann(self, training: Training, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot of the spiking network with what the trained ANN tells of it.

        `training` is in the stage of the ANN; the snapshot has its weights and statistics already.
        """
        return snapshot

    def describe(self) -> str:
        """Return name and options for the header of a run."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        shown = [f"{name} {value}" for name, value in options.items() if value is not None]
        return "   ".join([self.name, *shown])


def applied(
    methods: tuple[Method, ...], model: Any, optim: Optim, objective: Objective
) -> tuple[Any, Optim]:
    """Return model and optimiser as the methods make them, in their order, and check each."""
    for method in methods:
        model, optim = method.rewrite(model), method.optim(optim)
    for method in methods:
        method.check(model, objective)
    check_loss(model, objective)
    return model, optim


def check_loss(model: Any, objective: Objective) -> None:
    """Raise ValueError, with the reason, for a loss that the layers of a model cannot be given."""
    if isinstance(objective, TET) and any(isinstance(layer, DSR) for layer in layers_in(model)):
        raise ValueError(
            "objective TET looks at every step by itself, and a DSR layer gives the gradient of a "
            "function of its rate only; use objective sdt, or neurons with a surrogate"
        )
