"""The current-based LIF neuron: two exponential synaptic filters and a refractory kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from snnx.neurons import Neuron, State
from snnx.scalars import Scalar, initial, is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class CLIF(Neuron):
    """Current-based LIF neuron with a double-exponential synapse.

        c[t] = gain x[t]
        m[t] = membrane_decay m[t-1] + c[t]
        w[t] = synapse_decay w[t-1] + c[t]
        e[t] = membrane_decay e[t-1] + threshold s[t-1]
        u[t] = m[t] - w[t] - e[t]
        s[t] = 1 where u[t] - threshold >= 0, else 0                     (> 0 where fire is ">")
        y[t] = s[t]

    An input moves m and w alike, so u answers one step later: every such layer delays by one step.
    Nothing resets m and w; e alone holds a neuron back after a spike. The state e that is handed
    on is e[t+1], which needs no s[t-1] beside it. `detach_reset` passes no gradient through s
    in e. `from_tau` sets the gain that makes the kernel's peak 1.

    Shapes: x, y [T, N, *F]; m, w, e [N, *F]. Units: m, w, e and threshold in the units of x.
    Raises: ValueError, TypeError for numbers out of range.
    Source: ASGL A.3, which leaves e and the gain open; both from Guetig, Science 2016.
    """

    states: ClassVar[tuple[str, ...]] = ("m", "w", "e")
    membrane_decay: Scalar
    synapse_decay: Scalar
    gain: Scalar
    threshold: Scalar = 1.0
    detach_reset: bool = False

    def __post_init__(self) -> None:
        Neuron.__post_init__(self)
        for name in ("membrane_decay", "synapse_decay", "gain", "threshold"):
            if not is_number(getattr(self, name)):
                raise TypeError(f"CLIF: {name} is a number, not {getattr(self, name)!r}")
        for name in ("membrane_decay", "synapse_decay"):
            value = initial(getattr(self, name))
            if not 0 <= value <= 1:
                raise ValueError(f"CLIF: {name} must be in [0, 1], not {value}")
        for name in ("gain", "threshold"):
            if not initial(getattr(self, name)) > 0:
                raise ValueError(
                    f"CLIF: {name} must be above 0, not {initial(getattr(self, name))}"
                )

    def step(self, ops: Any, x: Any, state: State, p: Any) -> tuple[Any, State]:
        c = p.gain * x
        m = p.membrane_decay * state["m"] + c
        w = p.synapse_decay * state["w"] + c
        s = ops.spike(m - w - state["e"] - p.threshold)
        r = ops.stop_gradient(s) if self.detach_reset else s
        return s, {"m": m, "w": w, "e": p.membrane_decay * state["e"] + p.threshold * r}

    @classmethod
    def from_tau(
        cls, tau_m: float = 30.0, tau_s: float = 7.5, dt: float = 3.0, **numbers: Any
    ) -> CLIF:
        """Return the C-LIF of these time constants, all in one unit of time.

            membrane_decay = exp(-dt / tau_m),  synapse_decay = exp(-dt / tau_s)
            gain = eta^(eta / (eta - 1)) / (eta - 1),  eta = tau_m / tau_s

        The gain makes the peak of gain (exp(-t / tau_m) - exp(-t / tau_s)) equal 1 in continuous
        time. The defaults are those of the MedlyDB baseline, in ms.
        """
        if not tau_m > tau_s > 0 or not dt > 0 or not math.isfinite(tau_m + dt):
            raise ValueError(
                "CLIF.from_tau: expects finite tau_m > tau_s > 0 and dt > 0, gets "
                f"tau_m {tau_m}, tau_s {tau_s}, dt {dt}"
            )
        eta = tau_m / tau_s
        return cls(
            membrane_decay=math.exp(-dt / tau_m),
            synapse_decay=math.exp(-dt / tau_s),
            gain=eta ** (eta / (eta - 1)) / (eta - 1),
            **numbers,
        )
