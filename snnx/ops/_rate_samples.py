"""Samples of the op "rate_neuron", DSR's spiking layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.neurons import IF
from snnx.ops._cases import Random, dyadic, generator
from snnx.ops._neuron_cases import MARGIN, SINGLE, currents, draw_numbers, settle
from snnx.ops._op import Sample
from snnx.spiking import DSR


def rate_samples() -> Iterator[Sample]:
    """Yield the samples of op "rate_neuron": both kinds, given thresholds, static inputs."""
    rng = generator(303)
    dt = 0.05
    kinds: dict[str, tuple[DSR, float]] = {
        "if": (DSR.integrate_and_fire(1.0), 1.0),
        "if-constant": (DSR(IF(reset="subtract", emit=("threshold", 1.0))), 1.0),
        "if-kappa": (DSR(DSR.integrate_and_fire(0.8).neuron, kappa=0.001), 1.0),
        "lif": (DSR.leaky(0.03), dt),
        "lif-tau": (DSR.leaky(0.2, dt=0.1, tau=2.0, fire_fraction=0.5), 0.1),
    }
    for name, (layer, unit) in kinds.items():
        attributes: dict[str, Any] = {
            "neuron": layer.neuron,
            "kind": layer.kind,
            "dt": layer.dt,
            "tau": layer.tau,
            "kappa": layer.kappa if layer.kappa is not None else unit,
        }
        for shape, steps in (((5, 3, 4), None), ((8, 2, 3, 1, 2), None), ((1, 2, 5), 4)):
            tag = "static" if steps else f"{math.prod(shape)}"
            yield _rate(rng, f"{name}-{tag}", shape, steps, attributes)
    x = dyadic(rng, (4, 2, 5), 0.5, 1.5)
    layer = DSR.integrate_and_fire(1.0)
    attributes = {"neuron": layer.neuron, "kind": "if", "dt": 1.0, "tau": 1.0, "kappa": 1.0}
    inputs = {"x": x, "p.threshold": np.array(1.0)}
    g = {"y": dyadic(rng, (4, 2, 5)), "state.v": np.zeros((2, 5))}
    yield Sample("if-exact", inputs, attributes, "exact", SINGLE, g)
    edge = np.array([-0.5, 0.0, 0.5, 1.0, 1.5])[None, None] + np.zeros((2, 1, 1))
    g = {"y": np.stack([np.full((1, 5), 1.0), np.full((1, 5), 0.5)]), "state.v": np.zeros((1, 5))}
    inputs = {"x": edge, "p.threshold": np.array(1.0)}
    yield Sample("if-edges", inputs, attributes, "tie", SINGLE, g)


def _rate(
    rng: Random, name: str, shape: tuple[int, ...], steps: int | None, attributes: dict[str, Any]
) -> Sample:
    from snnx.ops import neuron as op

    unit = attributes["neuron"]
    inputs: dict[str, Any] = draw_numbers(rng, unit, shape[2:], exact=False)
    inputs["x"] = currents(rng, shape) + rng.uniform(-0.5, 1.0, shape[1:])
    run = {"neuron": unit} if steps is None else {"neuron": unit, "steps": steps}
    settle(op.forward, rng, inputs, run, mixed=False)
    return Sample(name, inputs, {**attributes, **run}, "random", SINGLE, margin=MARGIN)
