"""DSR: differentiation on spike representation. Layers that train by the mapping of their rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from snnx.backend import Session, Snapshot
from snnx.layers import BatchNorm, Chain, Layer, Linear
from snnx.methods.method import Method
from snnx.methods.rewrite import layers_in, replace_layers, with_weight_bits
from snnx.neurons import LIF, Neuron
from snnx.objective import SDT, TET, Objective
from snnx.passes import merge_rate_blocks
from snnx.program import Program
from snnx.scalars import Learned
from snnx.spiking import DSR, Recurrent

if TYPE_CHECKING:
    from snnx.data.arrays import Split
    from snnx.data.lazy import Source
    from snnx.training.loop import Training


@dataclass(frozen=True)
class _Numbers:
    threshold: float
    low: float
    fire_fraction: float
    dt: float = 1.0


IF_NUMBERS = _Numbers(6.0, 0.01, 0.5)
LIF_NUMBERS = {  # DSR Table 5, by T
    20: _Numbers(0.3, 0.0005, 0.3, 0.05),
    15: _Numbers(0.3, 0.0005, 0.4, 0.05),
    10: _Numbers(0.3, 0.0005, 0.4, 0.05),
    5: _Numbers(0.6, 0.001, 0.5, 0.1),
}


@dataclass(frozen=True)
class DSRMethod(Method):
    """Every neuron becomes a DSR layer (`snnx.DSR`), and the output fires too.

    kind "if" or "lif". threshold (where learning begins), low (its lower bound), fire_fraction (the
    share of the threshold at which it fires) and dt are those of the paper's Table 5 unless given;
    for LIF they depend on T, and a T that the table lacks takes the numbers of the nearest T in it.
    tau is the time constant. kappa scales the gradient of the threshold: 1 (IF; the ImageNet code
    has 0.001) or dt (LIF) unless given. learned False keeps every threshold where it begins.
    weight_bits rounds the weights, straight through (the paper: 8 and 4).

    backward "released" is ordinary differentiation of what lies between DSR layers; "means" gives
    the same gradients from means over time and covariances, wherever products, perhaps a residual
    sum of two branches, and a norm stand alone between DSR layers
    (`snnx.passes.merge_rate_blocks`), and keeps there what does not grow with T; "cheap" drops the
    covariances, which is another algorithm.

    A model that ends with Linear gets batch norm and a DSR layer after it; the loss is the cross
    entropy of the output's rate, weighted as the mapping is (LIF: SDT with decay exp(-dt/tau)). The
    thresholds are under the weight decay of the optimiser, as the paper's regulariser.

    After a stage that trains an ANN, thresholds begin at the 99.9th percentile of its activations.

    Every epoch records "threshold.PATH", as the epoch begins. Source: DSR Sec. 4, App. C.
    """

    name: ClassVar = "dsr"
    defaults: ClassVar[Mapping[str, Any]] = {
        "T": 10,
        "objective": {"name": "sdt"},
        "optim": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup_steps": 400},
    }
    kind: Literal["if", "lif"] = "if"
    threshold: float | None = None
    low: float | None = None
    fire_fraction: float | None = None
    dt: float | None = None
    tau: float = 1.0
    kappa: float | None = None
    learned: bool = True
    weight_bits: int | None = None
    backward: Literal["released", "means", "cheap"] = "released"

    def __post_init__(self) -> None:
        for name in ("threshold", "low", "dt", "tau"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"method dsr: {name} must be above 0, not {value}")
        if self.fire_fraction is not None and not 0 < self.fire_fraction <= 1:
            raise ValueError(
                f"method dsr: fire_fraction is a share of the threshold in (0, 1], not "
                f"{self.fire_fraction}"
            )
        if self.kappa is not None and not 0 <= self.kappa < math.inf:
            raise ValueError(f"method dsr: kappa must be at least 0, not {self.kappa}")
        if self.kappa is not None and not self.learned:
            raise ValueError(
                "method dsr: kappa scales the gradient of the thresholds, and learned is false; "
                "leave out one of the two"
            )

    def for_steps(self, steps: int) -> DSRMethod:
        """Return the method with the numbers of the paper's Table 5 where none are given."""
        if self.kind == "if" and self.dt is not None:
            raise ValueError("method dsr: an IF layer has no dt; leave it out, or use kind lif")
        nearest = min(LIF_NUMBERS, key=lambda t: (abs(t - steps), t))
        numbers = IF_NUMBERS if self.kind == "if" else LIF_NUMBERS[nearest]
        names = ("threshold", "low", "fire_fraction", *(("dt",) if self.kind == "lif" else ()))
        return replace(self, **{n: getattr(numbers, n) for n in names if getattr(self, n) is None})

    def layer(self) -> DSR:
        """Return the layer that stands for every neuron.

        Raises: ValueError before `for_steps`.
        """
        threshold, low, fraction = self.threshold, self.low, self.fire_fraction
        if threshold is None or low is None or fraction is None:
            raise ValueError("method dsr: its numbers depend on T; call for_steps(T) first")
        if self.kind == "if":
            made = DSR.integrate_and_fire(threshold, fraction, low)
        else:
            dt = self.dt
            if dt is None:
                raise ValueError("method dsr: dt depends on T; call for_steps(T) first")
            made = DSR.leaky(threshold, fraction, dt, self.tau, low)
        if not self.learned:
            made = replace(made, neuron=replace(made.neuron, threshold=threshold))
        return replace(made, kappa=self.kappa)

    @property
    def decay(self) -> float:
        """What a step before the last counts in a rate: 1 (IF) or exp(-dt/tau)."""
        return 1.0 if self.kind == "if" or self.dt is None else math.exp(-self.dt / self.tau)

    def objective(self, objective: Objective) -> Objective:
        """Return SDT with the weights of the mapping, unless other weights are asked for."""
        if isinstance(objective, SDT) and objective.decay == 1.0:
            return replace(objective, decay=self.decay)
        return objective

    def rewrite(self, model: Any) -> Any:
        """Return the model of DSR layers, whose output fires; DSR layers in it stay."""
        made = self.layer()
        if not any(isinstance(layer, Neuron | DSR) for layer in layers_in(model)):
            raise ValueError("method dsr: the model has no spiking neuron; put a LIF into it")

        def spiking(layer: Layer) -> Layer:
            if isinstance(layer, Recurrent):
                raise ValueError(
                    "method dsr: a recurrent layer has no rate mapping, since its input at each "
                    "step is its own last spike; use method asgl"
                )
            if isinstance(layer, DSR):
                return replace(layer)  # a new layer is not entered
            if isinstance(layer, Neuron) and not isinstance(layer, LIF):
                raise ValueError(
                    f"method dsr: {type(layer).__name__} has no rate mapping; use LIF neurons"
                )
            if isinstance(layer, LIF):
                _check_plain(layer)
                return made
            return layer

        found = replace_layers(model, spiking)
        if self.weight_bits is not None:
            found = with_weight_bits(found, self.weight_bits)
        last = found.layers[-1] if isinstance(found, Chain) and found.layers else found
        if isinstance(last, Linear):
            return Chain(*found.layers, BatchNorm(), made)
        return Chain(*found.layers, made) if isinstance(last, BatchNorm) else found

    def check(self, model: Any, objective: Objective) -> None:
        """Raise ValueError, with the reason, for a loss that is not one of the output's rate."""
        kinds = {layer.kind for layer in layers_in(model) if isinstance(layer, DSR)}
        if not isinstance(model, Chain) or not isinstance(model.layers[-1], DSR):
            raise ValueError(
                "method dsr: the output fires; let the model end with Linear, with Linear and "
                "BatchNorm, or with a neuron"
            )
        if kinds != {self.kind}:
            raise ValueError(
                f"method dsr: the model holds DSR layers of kind {sorted(kinds)}, the method is "
                f"{self.kind!r}; give method.kind, or a model of LIF neurons"
            )
        weight, name = objective.readout["decay"], type(objective).__name__
        if isinstance(objective, TET):
            raise ValueError(
                "method dsr: TET looks at every step by itself, and DSR gives the gradient of a "
                "function of the output's rate only; use objective sdt, or method asgl with tet"
            )
        if not math.isclose(weight, self.decay, rel_tol=1e-12):
            raise ValueError(
                f"method dsr: {name} weights the steps of the output by decay {weight}, the "
                f"mapping of the layers by {self.decay}; use objective sdt without a decay"
            )

    def program(self, program: Program) -> Program:
        """Return the program with blocks that differentiate by means over time, if asked for."""
        if self.backward == "released":
            return program
        return merge_rate_blocks(program, covariance=self.backward == "means")

    def from_ann(self, training: Training, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with thresholds at a percentile of what the ANN's ReLUs take in."""
        if not self.learned:
            return snapshot
        spiking = training.plan.program()
        paths = [s.path for s in spiking.spiking if f"{s.path}.threshold" in snapshot.parameters]
        scale = 1.0 if self.dt is None else self.dt
        found = ann_thresholds(
            training.session, training.program, paths, training.dataset, scale=scale
        )
        return with_thresholds(snapshot, found)


def _check_plain(neuron: LIF) -> None:
    """Raise ValueError for what a neuron was given and its place in the method would drop."""
    learned = [name for name, value in neuron.scalars().items() if isinstance(value, Learned)]
    if learned:
        raise ValueError(
            f"method dsr: puts its own layer in place of every neuron, and {learned[0]} of this "
            "one is learned; leave that out (the method learns the thresholds)"
        )
    if neuron.analog != 0.0:
        raise ValueError(
            "method dsr: a DSR layer emits no analog values; leave neuron.analog out, or use "
            "method asgl"
        )


def ann_thresholds(
    session: Session,
    program: Program,
    paths: Sequence[str],
    dataset: Source,
    split: Split = "train",
    *,
    percentile: float = 99.9,
    batches: int = 5,
    batch_size: int = 128,
    scale: float = 1.0,
) -> dict[str, float]:
    """Return where thresholds begin: a percentile of what enters each ReLU of a trained ANN.

        threshold = scale * percentile of the inputs of the layer at a path, over `batches` batches

    session and program are the ANN's: the tree of the spiking network with ReLU at the `paths` of
    its DSR layers. scale is 1 (IF) or dt (LIF). A layer that is silent in the ANN begins at its
    lower bound, where loading puts what lies below it. Source: DSR's ImageNet code.

    Raises: KeyError for a path that is not there.
    """
    from snnx.analysis.rates import first_batches

    edges = {path: program.step(path).inputs["x"] for path in paths}
    seen: dict[str, list[np.ndarray]] = {path: [] for path in paths}
    for batch in first_batches(dataset, split, batch_size, batches * batch_size):
        found = session.forward(batch, {}, taps=sorted({*edges.values()}), steps=1)
        for path, edge in edges.items():
            seen[path].append(np.asarray(found.taps[edge], np.float64).reshape(-1))
    return {
        path: scale * float(np.percentile(np.concatenate(values), percentile))
        for path, values in seen.items()
    }


def with_thresholds(snapshot: Snapshot, thresholds: Mapping[str, float]) -> Snapshot:
    """Return the snapshot with these thresholds of the DSR layers at these paths.

    Raises: KeyError for a path without a learned threshold.
    """
    new: dict[str, Any] = dict(snapshot.parameters)
    for path, value in thresholds.items():
        name = f"{path}.threshold"
        if name not in new:
            raise KeyError(f"layer {path} has no learned threshold")
        new[name] = np.asarray(value, new[name].dtype)
    return replace(snapshot, parameters=new)
