"""rate_neuron: DSR's spiking layer. Forward the neuron, backward the mapping of its rates.

Forward is `snnx.ops.neuron` (reset "subtract", emits threshold s or threshold/dt s). Backward is
the released rule (`snnx.ops.rate_mapping.released_backward`), no recurrence over time:

    w[t] = decay^(T-t), S = sum w, Ibar = sum_t w[t] x[t] / S, G = (T/S) sum_t w[t] g_y[t]
    g_x[t] = M_in G / (T tau),   g_threshold = kappa sum(M_th G)

The states have no gradient: the representation is of the whole sequence. Source: DSR Sec. 4, Prop.
1-2, with masks and factors of the released code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.ops import neuron
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops.rate_mapping import released_backward

forward = neuron.forward


def vjp(
    xp: Any, inputs: Arrays, attributes: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of x and of the threshold where it is learned."""
    unit = attributes["neuron"]
    x = inputs["x"]
    steps = attributes.get("steps", x.shape[0])
    static = x.shape[0] < steps
    if static:
        x = xp.broadcast_to(x, (steps, *x.shape[1:]))
    threshold = inputs.get("p.threshold", unit.threshold)
    rule = {name: attributes[name] for name in ("kind", "dt", "tau", "kappa")}
    rule["decay"] = unit.decay
    g_x, g_threshold = released_backward(xp, x, threshold, rule, cotangents["y"])
    found = {"x": xp.sum(g_x, axis=0, keepdims=True) if static else g_x}
    if "p.threshold" in inputs:
        found["p.threshold"] = g_threshold
    return found


def samples() -> Iterator[Sample]:
    """Return IF and LIF layers with learned thresholds."""
    from snnx.ops._neuron_samples import rate_samples

    yield from rate_samples()


RATE_NEURON = Op(
    name="rate_neuron",
    signature="x[T N *F], state.*[N *F]?, p.*[]?, spike[T N *F]? -> y[T N *F], state.*[N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=neuron.TOLERANCE,
    differentiable=("x", "p.*"),
    source="DSR Sec. 4, Prop. 1-2; masks and factors of the released code",
    smooth=False,
)
