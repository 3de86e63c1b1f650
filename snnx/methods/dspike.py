"""Dspike: a surrogate whose temperature follows the finite difference gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from snnx.data import Batches
from snnx.layers import Layer
from snnx.methods.finite_difference import cosine, finite_differences, first_layer, held_mode
from snnx.methods.method import Method
from snnx.methods.rewrite import layers_in, replace_layers, with_tdbn
from snnx.neurons import Neuron
from snnx.objective import Objective
from snnx.program import flatten
from snnx.scalars import Dial, Learned, initial
from snnx.spiking import DSR
from snnx.surrogate import Dspike

if TYPE_CHECKING:
    from snnx.training.loop import Training

DIAL = "temperature"


@dataclass(frozen=True)
class DspikeMethod(Method):
    """One temperature b for the surrogates of the whole network, chosen anew every epoch.

    Before each epoch, on one batch: G is the gradient of the first layer by finite differences of
    `eps`, and b becomes that of b, b + step, b - step whose surrogate gradient has the largest
    cosine with G. b stays where two are equal, and stays above 0. b starts at `start`.

    radius is half the surrogate's support, the neuron's threshold unless given. samples is the size
    of the batch, that of training unless given. `tdbn` scales every BatchNorm by the threshold.
    Source: Dspike Algorithm 1, Eq. 10-12.
    """

    name: ClassVar = "dspike"
    defaults: ClassVar = {
        "objective": {"name": "sdt"},
        "neuron": {"decay": 0.25, "threshold": 0.5, "fire": ">"},
        "surrogate": {"name": "dspike"},
    }
    eps: float = 0.1
    step: float = 0.2
    start: float = 1.0
    radius: float | None = None
    samples: int | None = None
    tdbn: bool = False

    def __post_init__(self) -> None:
        for name in ("eps", "step", "start", "radius", "samples"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"method dspike: {name} must be above 0, not {value}")

    def rewrite(self, model: Any) -> Any:
        """Return the model with the surrogate Dspike in every neuron."""
        thresholds: set[float] = set()

        def dialled(layer: Layer) -> Layer:
            if not isinstance(layer, Neuron):
                return layer
            threshold = initial(getattr(layer, "threshold", 0.5))
            thresholds.add(threshold)
            if isinstance(getattr(layer.surrogate, "width", None), Learned):
                raise ValueError(
                    "method dspike: puts its own surrogate, which has a temperature, in place of "
                    "one with a learned width; leave the learning out, or use method asgl"
                )
            surrogate = Dspike(Dial(DIAL, self.start), self.radius or threshold)
            return replace(layer, surrogate=surrogate)

        rewritten = replace_layers(model, dialled)
        if not self.tdbn:
            return rewritten
        if len(thresholds) != 1:
            raise ValueError(f"method dspike: tdbn needs one threshold, not {sorted(thresholds)}")
        return with_tdbn(rewritten, threshold=thresholds.pop())

    def check(self, model: Any, objective: Objective) -> None:
        """Raise ValueError where no surrogate, or no first layer, would be there to adapt."""
        if any(isinstance(layer, DSR) for layer in layers_in(model)):
            raise ValueError(
                "method dspike: the backward pass of a DSR layer has no surrogate, so there is no "
                "temperature to choose; use a LIF"
            )
        program = flatten(model)
        if DIAL not in program.dials:
            raise ValueError("method dspike: the model has no spiking neuron; put a LIF into it")
        first_layer(program)

    def before_epoch(self, training: Training) -> None:
        """Choose the temperature of the epoch and record it with its cosine."""
        program, plan, session = training.program, training.plan, training.session
        if DIAL not in program.dials:
            return
        batches = Batches(training.dataset, "train", plan.batch_size, plan.seed)
        order = batches.order(training.epoch)[: self.samples or plan.batch_size]
        batch: Any = batches.take(order, training.epoch)
        counters = {"seed": plan.seed, "step": training.step, "epoch": training.epoch}
        dials = {**training.dials, **counters}
        path, mode = first_layer(program).inputs["weight"], held_mode(program)
        wanted = finite_differences(session, program, batch, dials, self.eps)

        def similarity(b: float) -> float:
            _, found = session.grads(batch, {**dials, DIAL: b}, mode, [path])
            return cosine(wanted, found[path])

        b = training.dials[DIAL]
        best = similarity(b)
        for other in (round(b + self.step, 9), round(b - self.step, 9)):
            if other > 0 and (found := similarity(other)) > best:
                training.dials[DIAL], best = other, found
        training.note("cosine", best)
