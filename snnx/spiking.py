"""Layers around a neuron: a recurrent synapse, and DSR's spiking layer with a rate backward."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from snnx.layers import Layer, WeightInit, need_rank
from snnx.neurons import LIF, Neuron
from snnx.program import Builder, Edge
from snnx.scalars import Learned, Scalar, initial, is_number
from snnx.weights import weight_init


@dataclass(frozen=True, slots=True)
class Recurrent(Layer):
    """A neuron fed back to itself through a synapse that decays.

        c[t] = synapse_decay c[t-1] + x[t] + V y[t-1]
        y[t] = neuron(c[t])

    x is the preceding linear layer's output; V [F, F] has no bias. Shapes: x, y [T, N, F];
    states c and y [N, F] and those of the neuron. Source: ASGL A.4, discretised as exponential
    Euler with unit input gain.
    """

    neuron: Neuron
    synapse_decay: Scalar = 0.0
    init: WeightInit = "lecun_uniform"

    def __post_init__(self) -> None:
        if not is_number(self.synapse_decay) or not 0 <= initial(self.synapse_decay) < 1:
            raise ValueError(
                f"Recurrent: synapse_decay is a number in [0, 1), not {self.synapse_decay!r}"
            )

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        need_rank(self, path, edge, 1, "one axis of features")
        (f,) = edge.shape
        made = program.neuron("recurrent", self.neuron, path, edge, {"neuron": self.neuron})
        step = program.steps.pop()
        inputs = dict(step.inputs)
        inputs["feedback"] = program.parameter(
            f"{path}.feedback", (f, f), "weight", weight_init(self.init, f, f)
        )
        attributes = dict(step.attributes)
        declared = program.number(self.synapse_decay, "synapse_decay", path, edge.shape)
        if declared is None:
            attributes["synapse_decay"] = float(self.synapse_decay)  # type: ignore[arg-type]
        else:
            inputs["synapse_decay"] = declared
        states = (("c", edge.shape), ("y", edge.shape), *step.states)
        del program.edges[path]
        return program.add(
            "recurrent",
            path,
            inputs,
            attributes,
            made.shape,
            binary=made.binary,
            states=states,
            layer="Recurrent",
        )


def _above_zero(place: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{place}: {name} must be above 0, not {value}")


@dataclass(frozen=True, slots=True)
class DSR(Layer):
    """A spiking layer whose backward is the rate mapping of DSR instead of time.

    Forward it is `neuron`, a LIF with reset "subtract" that emits threshold (IF) or threshold / dt
    (LIF) per spike. Backward it is the released rule: with w[t] = decay^(T-t), S = sum w,

        Ibar = sum_t w[t] x[t] / S,   G = (T / S) sum_t w[t] g_y[t],   b = threshold or threshold/dt
        g_x[t] = M_in G / (T tau),    g_threshold = kappa sum(M_th G)

    M_in is 0 <= Ibar <= b (IF) or 0 < Ibar < b tau (LIF), M_th is Ibar above it. kappa is 1 (IF) or
    dt (LIF) unless given. Source: DSR Prop. 1-2 and the released code.
    """

    neuron: LIF
    kind: Literal["if", "lif"] = "if"
    dt: float = 1.0
    tau: float = 1.0
    kappa: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("if", "lif"):
            raise ValueError(f'DSR: kind is "if" or "lif", not {self.kind!r}')
        if self.neuron.reset != "subtract":
            raise ValueError(f'DSR: the neuron resets by "subtract", not {self.neuron.reset!r}')
        if not isinstance(self.neuron.decay, int | float):
            raise TypeError("DSR: the decay is a constant; only the threshold is learned")
        for name in ("dt", "tau"):
            _above_zero("DSR", name, getattr(self, name))
        if self.kappa is not None and not 0 <= self.kappa < math.inf:
            raise ValueError(f"DSR: kappa must be at least 0, not {self.kappa}")
        k = 1.0 if self.kind == "if" else 1.0 / self.dt
        if self.neuron.emit != ("threshold", k):
            raise ValueError(f'DSR: the neuron emits ("threshold", {k}), not {self.neuron.emit!r}')
        if self.neuron.analog != 0.0:
            raise ValueError("DSR: analog neurons have no rate mapping; use analog=0.0")

    @classmethod
    def integrate_and_fire(
        cls, threshold: float = 6.0, fire_fraction: float = 0.5, low: float = 0.01
    ) -> DSR:
        """Return DSR's IF layer with a trained threshold, kept above `low`."""
        learned = Learned(threshold, group="threshold", low=low)
        neuron = LIF(
            decay=1.0,
            threshold=learned,
            fire_fraction=fire_fraction,
            reset="subtract",
            emit=("threshold", 1.0),
        )
        return cls(neuron)

    @classmethod
    def leaky(
        cls,
        threshold: float = 0.3,
        fire_fraction: float = 0.3,
        dt: float = 0.05,
        tau: float = 1.0,
        low: float = 0.0005,
    ) -> DSR:
        """Return DSR's LIF layer: decay exp(-dt/tau), input gain 1 - decay, trained threshold."""
        _above_zero("DSR.leaky", "dt", dt)
        _above_zero("DSR.leaky", "tau", tau)
        learned = Learned(threshold, group="threshold", low=low)
        neuron = LIF(
            decay=math.exp(-dt / tau),
            gain="1-decay",
            threshold=learned,
            fire_fraction=fire_fraction,
            reset="subtract",
            emit=("threshold", 1.0 / dt),
        )
        return cls(neuron, "lif", dt, tau)

    def lower(self, program: Builder, path: str, edge: Edge) -> Edge:
        kappa = self.kappa
        if kappa is None:
            kappa = 1.0 if self.kind == "if" else self.dt
        attributes: Mapping[str, Any] = {
            "neuron": self.neuron,
            "kind": self.kind,
            "dt": self.dt,
            "tau": self.tau,
            "kappa": kappa,
        }
        return program.neuron("rate_neuron", self.neuron, path, edge, attributes)
