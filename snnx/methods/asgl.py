"""ASGL: neurons that are partly smooth in training, with a learned width of the surrogate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from snnx.layers import Layer
from snnx.methods.method import Method
from snnx.methods.rewrite import layers_in, replace_layers
from snnx.neurons import Neuron
from snnx.optim import Adam, Optim
from snnx.scalars import Dial, Learned, Share, initial
from snnx.spiking import DSR
from snnx.surrogate import Surrogate

if TYPE_CHECKING:
    from snnx.training.loop import Training

ANALOG = "analog"  # the dial that holds 1 - p


@dataclass(frozen=True)
class ASGLMethod(Method):
    """Mixed spikes in training, and the width of the surrogate learned beside the weights.

        training     s = (1 - m) Theta(x) + m H(x),  m = 1 with probability 1 - p;  ds/dx = h(x)
        evaluation   s = Theta(x)
        milestone    p <- min(1 - (1 - p) zeta + rise, 1)     in the epoch after each milestone

    p is the share of spikes, as in the paper; the code's p is 1 - p, which is the dial "analog".
    The surrogate of the recipe and its width are where learning begins. `share` says over what one
    width is shared; learned False leaves it fixed. Widths are updated by Adam with `width_lr`, no
    weight decay and no schedule. `similar` samples of the training split tell once per epoch how
    like the noisy network is to the spiking one inside it (0: not measured).

    Every epoch records the dial, "width.PATH" (as all that is learned: the mean over a layer, as
    the epoch begins) and "similarity". Source: ASGL Eq. 9-11, 4.2, 5.5, B.1 and the released code.
    """

    name: ClassVar = "asgl"
    defaults: ClassVar[Mapping[str, Any]] = {
        "objective": {"name": "sdt"},
        "neuron": {"name": "lif", "threshold": 0.5},
        "surrogate": {"name": "rectangular", "width": 1.0},
    }
    p: float = 0.8
    zeta: float = 1.0
    rise: float = 0.0
    milestones: tuple[int, ...] = ()
    learned: bool = True
    share: Share = "layer"
    width_lr: float = 3e-4
    similar: int = 64

    def __post_init__(self) -> None:
        for name in ("p", "zeta", "rise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"method asgl: {name} is a share in [0, 1], not {getattr(self, name)}"
                )
        if any(b <= a for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"method asgl: milestones {self.milestones} do not increase")
        if self.milestones and self.zeta == 1.0 and self.rise == 0.0:
            raise ValueError("method asgl: milestones do nothing with zeta 1 and rise 0")
        if not self.width_lr > 0:
            raise ValueError(f"method asgl: width_lr must be above 0, not {self.width_lr}")
        if self.similar < 0:
            raise ValueError(f"method asgl: similar is a number of samples, not {self.similar}")

    def analog_share(self, epoch: int) -> float:
        """Return 1 - p in an epoch, counted from 0."""
        share = 1.0 - self.p
        for _ in range(sum(milestone < epoch for milestone in self.milestones)):
            share = max(share * self.zeta - self.rise, 0.0)
        return share

    def rewrite(self, model: Any) -> Any:
        """Return the model whose neurons are mixed in training, with learned widths."""
        layers = list(layers_in(model))
        if any(isinstance(layer, DSR) for layer in layers):
            raise ValueError(
                "method asgl: a DSR layer trains by its rate and has no surrogate to smooth; "
                "use LIF neurons, or method dsr"
            )
        if not any(isinstance(layer, Neuron) for layer in layers):
            raise ValueError("method asgl: the model has no spiking neuron; put a LIF into it")
        # p = 1 stays 1 at every milestone: a plain surrogate gradient, and no mask to draw
        analog = Dial(ANALOG, 1.0 - self.p) if self.p < 1 else 0.0

        def mixed(layer: Layer) -> Layer:
            if not isinstance(layer, Neuron):
                return layer
            if layer.analog != 0.0:
                raise ValueError(
                    f"method asgl: the share of analog outputs is 1 - p, and the neuron has its "
                    f"own, {layer.analog}; give method.p alone"
                )
            return replace(layer, analog=analog, surrogate=self._with_width(layer.surrogate))

        return replace_layers(model, mixed)

    def _with_width(self, surrogate: Surrogate) -> Surrogate:
        given = getattr(surrogate, "width", None)
        if not self.learned:
            if isinstance(given, Learned):
                raise ValueError(
                    "method asgl: learned is false, and the surrogate's width is learned; leave "
                    "out one of the two"
                )
            return surrogate
        if "width" not in {f.name for f in fields(surrogate)}:
            raise ValueError(
                f"method asgl: surrogate {type(surrogate).__name__} has no width to learn; use "
                "rectangular, triangular, sigmoid, tanh or arctan, or learned false"
            )
        width: Any = surrogate
        if isinstance(given, Learned):  # as it was asked for
            return surrogate
        learned = Learned(initial(width.width), self.share, "width", "log")
        return replace(width, width=learned)

    def optim(self, optim: Optim) -> Optim:
        """Return the optimiser with Adam for the widths, unless a group of theirs is there."""
        if not self.learned or "width" in optim.groups:
            return optim
        groups = {**optim.groups, "width": Adam(lr=self.width_lr)}
        return replace(optim, groups=groups)

    def before_epoch(self, training: Training) -> None:
        """Set the analog share, and record the similarity."""
        program = training.program
        if ANALOG in program.dials:
            training.dials[ANALOG] = self.analog_share(training.epoch)
        if self.similar and ANALOG in program.dials:
            from snnx.analysis.similarity import similarity

            found = similarity(
                training.session,
                program,
                training.dataset,
                "train",
                samples=self.similar,
                steps=training.stage.steps,
                dials={**training.dials, "seed": training.plan.seed, "epoch": training.epoch},
            )
            training.note("similarity", found.mean)
