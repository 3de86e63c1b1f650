"""Neurons: their numbers, and one step of their dynamics, written once for every backend."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeAlias

from snnx.layers import Layer
from snnx.scalars import Learned, Scalar, initial, is_number
from snnx.surrogate import Rectangular, Surrogate
from snnx.trace import Trace, Tracer, Value, ref_of

State = dict[str, Any]
Emit: TypeAlias = float | tuple[Literal["threshold"], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neuron(Layer):
    """A spiking neuron over time; subclasses give the numbers, the states and one step.

    `step(ops, x, state, p)` receives the input, the states by name, and the numbers: `p.decay` for
    a field `decay`. It computes with + - * / and the functions of `ops` (abs, exp, log, tanh, atan,
    sqrt, maximum, minimum, ge, gt, where, stop_gradient) and calls `ops.spike(u - threshold)` once.
    It returns the output and the new states. Static choices are read from `self`, numbers only
    from `p`. At rest every state is 0. The shapes are elementwise: x, states and output [N, *F].

    The step is traced once; snnx derives its reverse, in which the spike has the slope of
    `surrogate`. Fields named in `unstepped` are numbers that the step does not see.
    """

    states: ClassVar[tuple[str, ...]] = ("v",)
    unstepped: ClassVar[tuple[str, ...]] = ("analog",)
    surrogate: Surrogate = Rectangular()
    fire: Literal[">=", ">"] = ">="
    analog: Scalar = 0.0

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if self.fire not in (">=", ">"):
            raise ValueError(f'{kind}: fire is ">=" or ">", not {self.fire!r}')
        if not isinstance(self.surrogate, Surrogate):
            raise TypeError(f"{kind}: surrogate is a Surrogate, not {self.surrogate!r}")
        if not is_number(self.analog) or isinstance(self.analog, Learned):
            raise TypeError(f"{kind}: analog is a number or a Dial, not {self.analog!r}")
        if not 0 <= initial(self.analog) <= 1:
            raise ValueError(f"{kind}: analog is a share in [0, 1], not {initial(self.analog)}")
        for name, scalar in self.scalars().items():
            if not math.isfinite(initial(scalar)):
                raise ValueError(f"{kind}: {name} must be finite, not {initial(scalar)}")

    def step(self, ops: Any, x: Any, state: State, p: Any) -> tuple[Any, State]:
        """Return the output and the new states."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def scalars(self) -> dict[str, Scalar]:
        """Return the numbers that the step sees, by name; those of the surrogate are dotted."""
        found: dict[str, Scalar] = {}
        for owner, prefix in ((self, ""), (self.surrogate, "surrogate.")):
            for f in fields(owner):
                value = getattr(owner, f.name)
                if is_number(value) and f.name not in self.unstepped:
                    found[prefix + f.name] = value
        return found

    def trace(self) -> Trace:
        """Return the step as data."""
        return _trace(self)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where the neuron cannot have this shape; every shape is welcome here."""

    def lower(self, program: Any, path: str, edge: Any) -> Any:
        program.neuron("neuron", self, path, edge, {"neuron": self})
        return program.edge


class _Numbers:
    """`p` of a step: constants as floats, learned numbers and dials as symbolic values."""

    def __init__(self, tracer: Tracer, scalars: dict[str, Scalar], prefix: str) -> None:
        for name, scalar in scalars.items():
            if name.startswith(prefix) and "." not in name.removeprefix(prefix):
                constant = isinstance(scalar, int | float)
                value = float(scalar) if constant else tracer.input(f"p.{name}")
                setattr(self, name.removeprefix(prefix), value)


@lru_cache(maxsize=512)
def _trace(neuron: Neuron) -> Trace:
    tracer = Tracer()
    scalars = neuron.scalars()
    numbers = _Numbers(tracer, scalars, "")
    state = {name: tracer.input(f"state.{name}") for name in neuron.states}
    y, new = neuron.step(tracer, tracer.input("x"), state, numbers)
    kind = type(neuron).__name__
    if not tracer.spikes:
        raise ValueError(f"{kind}.step never calls ops.spike")
    if set(new) != set(neuron.states):
        raise ValueError(
            f"{kind}.step returns states {sorted(new)}; the class names {neuron.states}"
        )
    if not isinstance(y, Value):
        raise TypeError(f"{kind}.step returns the constant {y!r} as output")
    varying = tuple(n for n, s in scalars.items() if not isinstance(s, int | float))
    inputs = ("x", *(f"state.{n}" for n in neuron.states), *(f"p.{n}" for n in varying))
    outputs = (("y", ref_of(y)), *((f"state.{n}", ref_of(new[n])) for n in neuron.states))
    return Trace(
        inputs=inputs,
        states=neuron.states,
        lines=tuple(tracer.lines),
        outputs=outputs,
        stopped=frozenset(tracer.stopped),
        spike_x=tracer.spikes[0][0],
        fire=neuron.fire,
        surrogate=neuron.surrogate,
        bind=lambda ops: _Numbers(ops, scalars, "surrogate."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LIF(Neuron):
    """Leaky integrate-and-fire neuron.

        u[t] = decay v[t-1] + gain x[t]
        s[t] = 1 where u[t] - fire_fraction threshold >= 0, else 0      (> 0 where fire is ">")
        v[t] = u[t] (1 - s[t]) + reset s[t]                              (reset a number: hard)
             = u[t] - threshold s[t]                                     (reset "subtract": soft)
        y[t] = emit s[t]                                                 (emit a number)
             = k threshold s[t]                                          (emit ("threshold", k))

    The order is: decay, add input, fire, reset, emit, in one step. gain "1-decay" is 1 - decay.
    `detach_reset` passes no gradient through s in the reset. `analog` is the share of neurons and
    steps that emit H(x) instead of a spike in mixed mode (ASGL); its mask is drawn anew every step.

    Shapes: x, y [T, N, *F]; v [N, *F]. Units: v, threshold and reset in the units of x.
    Raises: ValueError, TypeError for numbers out of range.
    Source: Dspike Eq. 1-2, TET Eq. 1-3, ASGL Eq. 1-4, DSR Eq. 3-5 (one recurrence, other numbers).
    """

    decay: Scalar = 0.5
    gain: Scalar | Literal["1-decay"] = 1.0
    threshold: Scalar = 1.0
    fire_fraction: float = 1.0
    reset: float | Literal["subtract"] = 0.0
    detach_reset: bool = False
    emit: Emit = 1.0

    def __post_init__(self) -> None:
        Neuron.__post_init__(self)
        kind = type(self).__name__
        for name in ("decay", "threshold"):
            if not is_number(getattr(self, name)):
                raise TypeError(f"{kind}: {name} is a number, not {getattr(self, name)!r}")
        if not 0 <= initial(self.decay) <= 1:
            raise ValueError(f"{kind}: decay must be in [0, 1], not {initial(self.decay)}")
        if not initial(self.threshold) > 0:
            raise ValueError(f"{kind}: threshold must be above 0, not {initial(self.threshold)}")
        if not (is_number(self.gain) or self.gain == "1-decay"):
            raise ValueError(f'{kind}: gain is a number or "1-decay", not {self.gain!r}')
        if not (self.reset == "subtract" or isinstance(self.reset, int | float)):
            raise ValueError(f'{kind}: reset is a number or "subtract", not {self.reset!r}')
        if not isinstance(self.detach_reset, bool):
            raise TypeError(f"{kind}: detach_reset is True or False, not {self.detach_reset!r}")
        if not (is_number(self.fire_fraction) and initial(self.fire_fraction) > 0):
            raise ValueError(f"{kind}: fire_fraction must be above 0, not {self.fire_fraction!r}")
        emit = self.emit
        if isinstance(emit, list):  # what JSON makes of a pair
            object.__setattr__(self, "emit", tuple(emit))
        pair = isinstance(emit, tuple | list) and len(emit) == 2 and emit[0] == "threshold"
        if not pair and not isinstance(emit, int | float):
            raise ValueError(f'{kind}: emit is a number or ("threshold", k), not {emit!r}')
        if (emit[1] if isinstance(emit, tuple | list) else emit) == 0:
            raise ValueError(f"{kind}: emit must not be 0, or no spike is ever seen")

    def step(self, ops: Any, x: Any, state: State, p: Any) -> tuple[Any, State]:
        gain = 1.0 - p.decay if self.gain == "1-decay" else p.gain
        u = p.decay * state["v"] + gain * x
        s = ops.spike(u - p.fire_fraction * p.threshold)
        r = ops.stop_gradient(s) if self.detach_reset else s
        if self.reset == "subtract":
            v = u - p.threshold * r
        elif self.reset == 0.0:
            v = u * (1.0 - r)
        else:
            v = u * (1.0 - r) + p.reset * r
        emit = self.emit[1] * p.threshold if isinstance(self.emit, tuple) else p.emit
        return emit * s, {"v": v}

    @classmethod
    def from_tau(cls, tau: float, decay_input: bool = True, **numbers: Any) -> LIF:
        """Return the LIF of time constant tau in steps: decay 1 - 1/tau, input / tau or not."""
        if not tau > 1:
            raise ValueError(f"LIF.from_tau: tau must be above 1 step, not {tau}")
        decay = 1.0 - 1.0 / tau
        return cls(decay=decay, gain=1.0 / tau if decay_input else 1.0, **numbers)

    @classmethod
    def from_spikingjelly(
        cls,
        tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = False,
        surrogate: Surrogate = Rectangular(),
    ) -> LIF:
        """Return what SpikingJelly's LIFNode of these arguments computes (fires at >=).

        With v_reset other than 0 its leak goes towards v_reset, which this form has not: refused.
        """
        if v_reset not in (0.0, None):
            raise ValueError(f"LIF.from_spikingjelly: v_reset is 0.0 or None here, not {v_reset}")
        return cls.from_tau(
            tau,
            decay_input,
            threshold=v_threshold,
            reset="subtract" if v_reset is None else v_reset,
            detach_reset=detach_reset,
            surrogate=surrogate,
        )

    @classmethod
    def from_snntorch(
        cls,
        beta: float,
        threshold: float = 1.0,
        reset_mechanism: Literal["subtract", "zero"] = "subtract",
        reset_delay: bool = True,
        surrogate: Surrogate = Rectangular(),
    ) -> LIF:
        """Return what snnTorch's Leaky of these arguments computes (fires at >).

        Its default resets one step late (reset_delay=True), which this neuron cannot say: refused.
        Without that delay its reset passes a gradient. A potential that a "subtract" leaves above
        the threshold it lowers once more before the next comparison; this neuron does not.
        """
        if reset_delay:
            raise ValueError(
                "LIF.from_snntorch: reset_delay=True resets one step after the spike, which LIF "
                "does not do; build the snnTorch neuron with reset_delay=False"
            )
        return cls(
            decay=beta,
            threshold=threshold,
            reset="subtract" if reset_mechanism == "subtract" else 0.0,
            fire=">",
            surrogate=surrogate,
        )


def IF(**numbers: Any) -> LIF:
    """Return the integrate-and-fire neuron: a LIF whose decay is 1."""
    if "decay" in numbers:
        raise TypeError("IF: the decay of an integrate-and-fire neuron is 1; use LIF")
    return LIF(decay=1.0, **numbers)
