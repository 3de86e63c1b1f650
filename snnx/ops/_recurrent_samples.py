"""Samples of the op "recurrent"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from snnx.neurons import IF, LIF, Neuron
from snnx.ops._cases import Random, bits, dyadic, generator
from snnx.ops._neuron_cases import MARGIN, SINGLE, Adaptive, settle, start
from snnx.ops._op import Sample
from snnx.scalars import Learned
from snnx.surrogate import ArcTan, Rectangular, Sigmoid, Tanh, Triangular


def _recurrent(
    rng: Random,
    name: str,
    neuron: Neuron,
    shape: tuple[int, int, int],
    *,
    decay: Any = 0.0,
    fire: str = "spike",
    steps: int | None = None,
    states: bool = False,
    exact: bool = False,
) -> Sample:
    from snnx.ops import recurrent as op

    inputs, attributes = start(rng, neuron, shape, fire, steps, exact)
    features = shape[-1]
    square = (features, features)
    inputs["feedback"] = (
        dyadic(rng, square, 0.5, 0.5) if exact else rng.standard_normal(square) / features**0.5
    )
    if isinstance(decay, float):
        attributes["synapse_decay"] = decay
    else:
        size = {"layer": (), "channel": (features,), "neuron": (features,)}[decay]
        inputs["synapse_decay"] = np.full(size, 0.5) if exact else rng.uniform(0.3, 0.7, size)
    if states:
        for state in ("c", "y", *neuron.states):
            drawn = bits(rng, shape[1:]) if state == "y" else dyadic(rng, shape[1:], 0.5)
            noise = 0.0 if exact or state == "y" else 0.3 * rng.standard_normal(shape[1:])
            inputs[f"state.{state}"] = drawn + noise
    if not exact:
        settle(op.forward, rng, inputs, attributes, mixed=True)
        return Sample(name, inputs, attributes, "random", SINGLE, margin=MARGIN)
    g = {"y": dyadic(rng, (steps or shape[0], *shape[1:]))}
    g |= {f"state.{s}": dyadic(rng, shape[1:]) for s in ("c", "y", *neuron.states)}
    return Sample(name, inputs, attributes, "exact", SINGLE, g)


def recurrent_samples() -> Iterator[Sample]:
    """Yield the samples of op "recurrent"."""
    rng = generator(302)
    learned = LIF(
        decay=Learned(0.6, "channel", "decay", "logit"),
        threshold=Learned(0.8, "layer", "threshold", low=0.01),
        surrogate=Sigmoid(Learned(0.7, "neuron", transform="log")),
    )
    for decay in (0.0, 0.6, "layer", "channel"):
        tag = f"decay-{decay}"
        yield _recurrent(rng, f"{tag}-hard", LIF(), (5, 3, 4), decay=decay)
        soft = LIF(reset="subtract", detach_reset=True, surrogate=Triangular(1.5))
        yield _recurrent(rng, f"{tag}-soft", soft, (4, 2, 5), decay=decay, states=True)
        yield _recurrent(rng, f"{tag}-learned", learned, (4, 3, 3), decay=decay, states=True)
        smooth = LIF(surrogate=Tanh(0.5))
        yield _recurrent(rng, f"{tag}-smooth", smooth, (4, 2, 3), decay=decay, fire="smooth")
    mixed = LIF(surrogate=Rectangular(Learned(1.0, transform="log")))
    yield _recurrent(rng, "mixed", mixed, (4, 2, 3), decay=0.5, fire="mixed")
    yield _recurrent(rng, "imposed", LIF(), (4, 2, 3), decay=0.5, fire="imposed")
    yield _recurrent(rng, "static", LIF(), (1, 2, 3), steps=5, decay=0.5)
    yield _recurrent(rng, "one-step", LIF(), (1, 1, 7), states=True)
    yield _recurrent(rng, "scaled", LIF(emit=0.5), (7, 1, 3), decay=0.5)
    adaptive = Adaptive(surrogate=ArcTan())
    yield _recurrent(rng, "adaptive", adaptive, (5, 2, 3), decay=0.5, states=True)
    for name, neuron in (("hard", IF(detach_reset=True)), ("soft", IF(reset="subtract"))):
        yield _recurrent(rng, f"exact-{name}", neuron, (3, 2, 4), states=True, exact=True)
        tag = f"exact-{name}-decay"
        yield _recurrent(rng, tag, neuron, (2, 2, 4), states=True, exact=True, decay="layer")
    yield _recurrent(rng, "exact-lif", LIF(detach_reset=True), (3, 2, 3), decay=0.5, exact=True)
    yield _recurrent(rng, "exact-static", LIF(), (1, 2, 3), steps=2, exact=True)
