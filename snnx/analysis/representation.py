"""Representation error of DSR layers: how far the rates are from the mapping that trains them.

With w[t] = decay^(T-t), S = sum w, input x, output y, and b = threshold (IF) or threshold/dt (LIF):

    r    = sum_t w[t] y[t] / S,     Ibar = sum_t w[t] x[t] / S
    e_r  = r - clamp(Ibar / tau, 0, b)                                    the whole error
    e_q  = e_r of the same neuron fed the constant current Ibar           quantisation
    e_d  = e_r - e_q                                                      deviation, of uneven input

Source: DSR Sec. 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.analysis.rates import first_batches
from snnx.backend import Session
from snnx.data.arrays import Split
from snnx.ops import OPS
from snnx.ops._xp import step_weights
from snnx.program import Program, Step
from snnx.scalars import Dial, Learned
from snnx.spiking import DSR

if TYPE_CHECKING:
    from snnx.data.lazy import Source

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RepresentationError:
    """Errors of one layer in units of the clamp's upper bound b: mean |e| over samples, neurons.

    `bias` is the mean of e_r with its sign.
    """

    path: str
    bound: float
    total: float
    quantisation: float
    deviation: float
    bias: float


def representation_errors(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split = "test",
    *,
    batch_size: int = 64,
    dials: Mapping[str, float | int] | None = None,
    steps: int | None = None,
    samples: int | None = None,
) -> tuple[RepresentationError, ...]:
    """Return the errors of every DSR layer over the first samples of a split.

    Raises: ValueError for a network without DSR layers, or for padded sequences.
    """
    layers = [s for s in program.steps if s.op == "rate_neuron"]
    if not layers:
        raise ValueError("representation_errors: the network has no DSR layer")
    parameters = session.export().parameters
    sums: dict[str, Floats] = {}
    bounds: dict[str, float] = {}
    count = 0
    taps = sorted({*(s.output for s in layers), *(s.inputs["x"] for s in layers)})
    for batch in first_batches(dataset, split, batch_size, samples):
        if "length" in batch:
            raise ValueError("representation_errors: the mapping is of whole sequences, not padded")
        out = session.forward(batch, dials or {}, taps=taps, steps=steps)
        total, n = out.y.shape[:2]
        for step in layers:
            x, y = (np.asarray(out.taps[e], np.float64) for e in (step.inputs["x"], step.output))
            threshold = _threshold(step, parameters, dials or {})
            x = np.broadcast_to(x, (total, *x.shape[1:]))
            found = error_parts(step.attributes, threshold, x, y)
            bounds[step.path] = _bound(step.attributes, threshold)
            figures = [np.abs(e).mean() for e in found] + [found[0].mean()]
            scaled = np.array(figures) * n / bounds[step.path]
            sums[step.path] = sums.get(step.path, np.zeros(4)) + scaled
        count += n
    return tuple(
        RepresentationError(s.path, bounds[s.path], *(sums[s.path] / count).tolist())
        for s in layers
    )


def error_parts(
    attributes: Mapping[str, Any], threshold: float, x: Floats, y: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return e_r, e_q, e_d [N, *F] of a layer with the attributes of op "rate_neuron".

    x, y [T, N, *F] are its input and output in float64.
    """
    weights = step_weights(np, x, None, attributes["neuron"].decay)
    mean = (weights * x).sum(0)
    clamp = np.clip(mean / attributes["tau"], 0.0, _bound(attributes, threshold))
    error = (weights * y).sum(0) - clamp
    quantisation = constant_rate(attributes, threshold, mean, len(x)) - clamp
    return error, quantisation, error - quantisation


def constant_rate(
    attributes: Mapping[str, Any], threshold: float, current: Floats, steps: int
) -> Floats:
    """Return the weighted mean output of the layer's neuron under a constant current."""
    neuron = attributes["neuron"]
    inputs: dict[str, Any] = {"x": np.asarray(current, np.float64)[None]}
    if "p.threshold" in neuron.trace().inputs:
        inputs["p.threshold"] = np.asarray(threshold, np.float64)
    y = OPS["neuron"].forward(np, inputs, {"neuron": neuron, "steps": steps})["y"]
    return (step_weights(np, y, None, neuron.decay) * y).sum(0)


def mean_quantisation_error(layer: DSR, threshold: float, steps: int, grid: int = 10001) -> float:
    """Return the mean |e_q| / b over constant currents evenly spread over [0, b tau]."""
    attributes = {"neuron": layer.neuron, "kind": layer.kind, "dt": layer.dt, "tau": layer.tau}
    bound = _bound(attributes, threshold)
    current = np.linspace(0.0, bound * layer.tau, grid)[None]
    error = constant_rate(attributes, threshold, current, steps) - current / layer.tau
    return float(np.abs(error).mean() / bound)


def _bound(attributes: Mapping[str, Any], threshold: float) -> float:
    return threshold if attributes["kind"] == "if" else threshold / attributes["dt"]


def _threshold(
    step: Step, parameters: Mapping[str, NDArray[Any]], dials: Mapping[str, float | int]
) -> float:
    number = step.attributes["neuron"].threshold
    if isinstance(number, Dial):
        return float(dials.get(number.name, number.init))
    if not isinstance(number, Learned):
        return float(number)
    return number.value(float(parameters[step.inputs["p.threshold"]]))
