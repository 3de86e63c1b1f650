"""What the samples of the ops that fire are made of.

Random samples are settled: a neuron whose potential comes nearer than `MARGIN` to its threshold or
to an edge of its surrogate's window gets other inputs, so that rounding can flip nothing.
Exact samples and ties lie on a dyadic grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnx.neurons import Neuron
from snnx.ops._cases import Random, bits, dyadic
from snnx.ops._op import Sample
from snnx.scalars import Dial, Learned, initial
from snnx.surrogate import (
    ArcTan,
    Dspike,
    Rectangular,
    Sigmoid,
    Surrogate,
    Tanh,
    Triangular,
)

MARGIN = 1e-4
SHAPE = (5, 3, 4)
SINGLE = ("float32",)
HALF = ("float32", "bfloat16", "float16")
RESETS: tuple[Any, ...] = (0.0, -0.25, "subtract")

SURROGATES: dict[str, Surrogate] = {
    "rectangular-closed": Rectangular(0.8),
    "rectangular-open": Rectangular(1.2, closed=False),
    "triangular": Triangular(1.5),
    "triangular-peak": Triangular.peak(0.3, 0.5),
    "sigmoid": Sigmoid(0.4),
    "tanh": Tanh(0.5),
    "arctan": ArcTan(2.0),
    "dspike": Dspike(3.0),
    "dspike-small": Dspike(1e-4, radius=1.0),
    "dspike-large": Dspike(30.0, radius=1.0),
    "dspike-dial": Dspike(Dial("temperature", 2.0), radius=1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive(Neuron):
    """A user's own neuron: the threshold rises by `strength` with every spike and relaxes.

    u = decay v + x;  s = spike(u - threshold - strength a);  v = u - threshold s;  a = rho a + s
    """

    states: ClassVar[tuple[str, ...]] = ("v", "a")
    decay: Any = 0.75
    rho: Any = 0.5
    strength: Any = 0.25
    threshold: Any = 1.0

    def step(self, ops: Any, x: Any, state: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        """Return the spike and both states."""
        u = p.decay * state["v"] + x
        s = ops.spike(u - p.threshold - p.strength * state["a"])
        return s, {"v": u - p.threshold * s, "a": p.rho * state["a"] + s}


def shares(neuron: Neuron, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, scalar in neuron.scalars().items():
        if isinstance(scalar, Learned):
            by_share = {"layer": (), "channel": shape[-1:], "neuron": shape}
            found[f"p.{name}"] = by_share[scalar.share]
        elif isinstance(scalar, Dial):
            found[f"p.{name}"] = ()
    return found


def draw_numbers(
    rng: Random, neuron: Neuron, shape: tuple[int, ...], exact: bool
) -> dict[str, Any]:
    """Return values of the learned numbers and dials near their start; halves of it where exact."""
    found: dict[str, Any] = {}
    for name, size in shares(neuron, shape).items():
        start = initial(neuron.scalars()[name.removeprefix("p.")])
        if exact:
            found[name] = start * np.where(rng.integers(0, 2, size) > 0, 1.0, 0.5)
            if not size:
                found[name] = np.array(start)
        else:
            found[name] = np.asarray(start * (1.0 + 0.2 * rng.uniform(-1.0, 1.0, size)))
    return found


def edges(neuron: Neuron, inputs: Mapping[str, Any]) -> list[Any]:
    """Return the distances |x| from threshold at which the surrogate's slope jumps."""
    if isinstance(neuron.surrogate, Rectangular):
        width = inputs.get("p.surrogate.width", initial(neuron.surrogate.width))
        return [0.5 * np.asarray(width)]
    if isinstance(neuron.surrogate, Dspike):
        return [neuron.surrogate.radius]
    return []


def settle(
    op: Any, rng: Random, inputs: dict[str, Any], attributes: Mapping[str, Any], mixed: bool
) -> None:
    """Redraw inputs, in place, until no potential lies within MARGIN of a discontinuity.

    `mixed`: the features of a sample act on each other, so the whole sample is drawn anew.
    """
    neuron = attributes["neuron"]
    for _ in range(1000):
        seen = op(np, inputs, {**attributes, "observe": True})["potential"]
        near = np.abs(seen) < MARGIN
        for edge in edges(neuron, inputs):
            near |= np.abs(np.abs(seen) - edge) < MARGIN
        bad = np.any(near, axis=0)
        if mixed:
            bad |= np.any(bad, axis=-1, keepdims=True)
        if not bad.any():
            return
        x = inputs["x"]
        inputs["x"] = np.where(bad[None], currents(rng, x.shape), x)
    raise ValueError("no inputs away from the threshold were found; give a larger shape or margin")


def currents(rng: Random, shape: tuple[int, ...]) -> np.ndarray:
    return 0.3 + rng.standard_normal(shape)


def random_sample(
    rng: Random,
    name: str,
    neuron: Neuron,
    shape: tuple[int, ...] = SHAPE,
    *,
    fire: str = "spike",
    steps: int | None = None,
    states: bool = False,
    dtypes: tuple[str, ...] = SINGLE,
) -> Sample:
    """Return a sample of ordinary values with a margin to every discontinuity."""
    from snnx.ops import neuron as op

    inputs, attributes = start(rng, neuron, shape, fire, steps, exact=False)
    if states:
        for state in neuron.states:
            inputs[f"state.{state}"] = 0.5 * rng.standard_normal(shape[1:])
    settle(op.forward, rng, inputs, attributes, mixed=False)
    return Sample(name, inputs, attributes, "random", dtypes, margin=MARGIN)


def start(
    rng: Random,
    neuron: Neuron,
    shape: tuple[int, ...],
    fire: str,
    steps: int | None,
    exact: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs: dict[str, Any] = draw_numbers(rng, neuron, shape[2:], exact)
    inputs["x"] = dyadic(rng, shape, 0.5, 1.5) if exact else currents(rng, shape)
    attributes: dict[str, Any] = {"neuron": neuron}
    if fire != "spike":
        attributes["fire"] = fire
    length = steps or shape[0]
    if steps is not None:
        attributes["steps"] = steps
    if fire == "mixed":
        inputs["mask"] = bits(rng, (length, *shape[1:]), 0.4) > 0
    if fire == "imposed":
        inputs["spike"] = bits(rng, (length, *shape[1:]))
    return inputs, attributes


def exact_sample(
    rng: Random,
    name: str,
    neuron: Neuron,
    shape: tuple[int, ...] = (3, 2, 4),
    *,
    fire: str = "spike",
    steps: int | None = None,
    states: bool = False,
    dtypes: tuple[str, ...] = SINGLE,
) -> Sample:
    """Return a dyadic sample with dyadic cotangents of the output and every final state."""
    inputs, attributes = start(rng, neuron, shape, fire, steps, exact=True)
    if states:
        for state in neuron.states:
            inputs[f"state.{state}"] = dyadic(rng, shape[1:], 0.5)
    g = {"y": dyadic(rng, (steps or shape[0], *shape[1:]))}
    g |= {f"state.{state}": dyadic(rng, shape[1:]) for state in neuron.states}
    return Sample(name, inputs, attributes, "exact", dtypes, g)
