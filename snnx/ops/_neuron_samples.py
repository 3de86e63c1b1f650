"""Samples of the op "neuron": every field, surrogate, share, mode and state; see _neuron_cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from snnx.neurons import IF, LIF
from snnx.ops._cases import Random, generator
from snnx.ops._neuron_cases import (
    HALF,
    RESETS,
    SINGLE,
    SURROGATES,
    Adaptive,
    exact_sample,
    random_sample,
)
from snnx.ops._op import Sample
from snnx.ops._rate_samples import rate_samples
from snnx.ops._recurrent_samples import recurrent_samples
from snnx.scalars import Learned
from snnx.surrogate import ArcTan, Dspike, Rectangular, Sigmoid, Tanh, Triangular

__all__ = ["neuron_samples", "rate_samples", "recurrent_samples"]


SIGNS: tuple[tuple[str, Literal[">=", ">"]], ...] = (("ge", ">="), ("gt", ">"))


def neuron_samples() -> Iterator[Sample]:
    """Yield the samples of op "neuron"."""
    rng = generator(301)
    yield from _random(rng)
    yield from _learned(rng)
    yield from _exact(rng)
    yield from _ties()


def _names(reset: Any, detach: bool) -> str:
    kind = {0.0: "hard", -0.25: "value", "subtract": "soft"}[reset]
    return f"{kind}-{'detached' if detach else 'attached'}"


def _random(rng: Random) -> Iterator[Sample]:
    for reset in RESETS:
        for detach in (False, True):
            for sign, fire in SIGNS:
                neuron = LIF(reset=reset, detach_reset=detach, fire=fire)
                yield random_sample(rng, f"lif-{_names(reset, detach)}-{sign}", neuron)
            neuron = LIF(reset=reset, detach_reset=detach, surrogate=Sigmoid(0.5))
            name = f"lif-{_names(reset, detach)}-smooth"
            yield random_sample(rng, name, neuron, fire="smooth", dtypes=HALF)
    for kind, surrogate in SURROGATES.items():
        yield random_sample(rng, f"{kind}-spike", LIF(surrogate=surrogate))
        soft = LIF(decay=0.7, reset="subtract", surrogate=surrogate)
        yield random_sample(rng, f"{kind}-smooth", soft, fire="smooth")
        yield random_sample(rng, f"{kind}-mixed", soft, fire="mixed")
    fields = {
        "gain-decay": LIF(decay=0.8, gain="1-decay", threshold=0.2),
        "gain": LIF(gain=0.7),
        "fraction": LIF(decay=1.0, reset="subtract", fire_fraction=0.5),
        "emit": LIF(emit=0.5),
        "emit-threshold": LIF(threshold=0.6, emit=("threshold", 4.0)),
        "if-hard": IF(),
        "if-soft": IF(reset="subtract", detach_reset=True),
        "adaptive": Adaptive(surrogate=ArcTan(2.0)),
    }
    for name, neuron in fields.items():
        yield random_sample(rng, name, neuron)
        yield random_sample(rng, f"{name}-imposed", neuron, fire="imposed")
    yield random_sample(rng, "adaptive-smooth", Adaptive(surrogate=Tanh(0.5)), fire="smooth")
    yield random_sample(rng, "adaptive-states", Adaptive(), states=True)
    lif = LIF(surrogate=Triangular(1.0))
    yield random_sample(rng, "states", lif, states=True)
    yield random_sample(rng, "states-smooth", lif, states=True, fire="smooth", dtypes=HALF)
    yield random_sample(rng, "static", lif, (1, 3, 4), steps=6)
    yield random_sample(rng, "static-smooth", lif, (1, 2, 5), steps=4, fire="smooth")
    yield random_sample(rng, "static-mixed", lif, (1, 2, 5), steps=4, fire="mixed")
    yield random_sample(rng, "one-step", lif, (1, 2, 7))
    yield random_sample(rng, "one-of-all", lif, (1, 1, 1), states=True)
    yield random_sample(rng, "one-sample", lif, (6, 1, 3))
    yield random_sample(rng, "image", lif, (7, 3, 5, 3, 1))
    yield random_sample(rng, "long", LIF(reset="subtract", surrogate=Sigmoid()), (33, 1, 3))
    yield random_sample(rng, "wide", lif, (2, 3, 63))


def _learned(rng: Random) -> Iterator[Sample]:
    for share in ("layer", "channel", "neuron"):
        decay = Learned(0.6, share, "decay", "logit")
        threshold = Learned(0.8, share, "threshold", low=0.01)
        width = Learned(1.2, share, transform="log")
        shape = (4, 3, 2, 3)
        cases = {
            "decay": LIF(decay=decay),
            "decay-gain": LIF(decay=decay, gain="1-decay", threshold=0.3),
            "threshold": LIF(threshold=threshold),
            "threshold-soft": LIF(threshold=threshold, reset="subtract", detach_reset=True),
            "threshold-emit": LIF(threshold=threshold, emit=("threshold", 2.0), fire_fraction=0.5),
            "width": LIF(surrogate=Rectangular(width)),
            "width-sigmoid": LIF(surrogate=Sigmoid(width)),
            "all": LIF(
                decay=decay,
                threshold=threshold,
                reset="subtract",
                emit=("threshold", 1.0),
                surrogate=Triangular(width),
            ),
        }
        for name, neuron in cases.items():
            yield random_sample(rng, f"learned-{name}-{share}", neuron, shape, states=True)
        for fire in ("smooth", "mixed"):
            name = f"learned-all-{share}-{fire}"
            yield random_sample(rng, name, cases["all"], shape, fire=fire, states=True)
    log = Learned(1.0, transform="log")
    for kind, surrogate in {
        "tanh": Tanh(log),
        "arctan": ArcTan(log),
        "dspike": Dspike(log, radius=0.75),
        "dspike-small": Dspike(Learned(2e-4, transform="log"), radius=0.75),
    }.items():
        yield random_sample(rng, f"learned-width-{kind}", LIF(surrogate=surrogate))
    gain = Learned(0.7, group="gain")
    yield random_sample(rng, "learned-gain", LIF(gain=gain, surrogate=Sigmoid()))
    yield random_sample(rng, "learned-static", LIF(gain=gain), (1, 2, 3), steps=4)


def _exact(rng: Random) -> Iterator[Sample]:
    for reset in RESETS:
        for detach in (False, True):
            name = _names(reset, detach)
            lif = LIF(reset=reset, detach_reset=detach, surrogate=Rectangular(2.0))
            yield exact_sample(rng, f"exact-lif-{name}", lif, states=True)
            near = IF(reset=reset, detach_reset=detach, surrogate=Triangular(2.0))
            yield exact_sample(rng, f"exact-if-triangular-{name}", near)
    soft = IF(reset="subtract", detach_reset=True)
    low = IF(detach_reset=True)
    yield exact_sample(rng, "exact-low-if", low, (2, 2, 3), dtypes=HALF)
    yield exact_sample(rng, "exact-low-if-soft", soft, (2, 2, 3), dtypes=HALF)
    yield exact_sample(rng, "exact-low-if-gt", IF(fire=">"), (2, 3, 3), dtypes=HALF)
    yield exact_sample(rng, "exact-if-long", low, (32, 2, 3))
    yield exact_sample(rng, "exact-if-long-soft", soft, (32, 2, 3))
    yield exact_sample(rng, "exact-lif-long", LIF(detach_reset=True), (8, 2, 3))
    yield exact_sample(rng, "exact-static", LIF(), (1, 2, 5), steps=4)
    yield exact_sample(rng, "exact-mixed", LIF(reset="subtract"), fire="mixed")
    yield exact_sample(rng, "exact-smooth", LIF(detach_reset=True), (2, 2, 3), fire="smooth")
    yield exact_sample(rng, "exact-imposed", LIF(surrogate=Triangular(2.0)), fire="imposed")
    yield exact_sample(rng, "exact-one-step", LIF(gain="1-decay"), (1, 1, 7), dtypes=HALF)
    yield exact_sample(rng, "exact-dspike", LIF(surrogate=Dspike(2.0**-12, radius=1.0)))
    yield exact_sample(rng, "exact-adaptive", Adaptive(decay=0.5), states=True)
    for share in ("layer", "channel", "neuron"):
        decay = Learned(0.5, share, "decay")
        threshold = Learned(1.0, share, "threshold", low=0.01)
        width = Learned(2.0, share, transform="log")
        neuron = LIF(
            decay=decay,
            threshold=threshold,
            detach_reset=True,
            emit=("threshold", 2.0),
            surrogate=Rectangular(width),
        )
        yield exact_sample(rng, f"exact-learned-{share}", neuron, (3, 2, 2, 3))
        soft = LIF(threshold=threshold, reset="subtract", fire_fraction=0.5)
        yield exact_sample(rng, f"exact-learned-soft-{share}", soft, (3, 2, 2, 3))


def _ties() -> Iterator[Sample]:
    """Yield potentials exactly at threshold and exactly on the edges of the windows."""
    column = np.array([0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0])
    x = np.stack([column, 0.5 - 0.25 * column, column])[:, None, :]  # u = 1 and its edges recur
    g = {"y": np.array([1.0, -0.5, 2.0])[:, None, None] + 0.25 * column}
    g["state.v"] = np.full((1, 7), 0.5)
    for sign, fire in SIGNS:
        for reset in RESETS:
            for edge, surrogate in (
                ("closed", Rectangular(1.0)),
                ("open", Rectangular(1.0, closed=False)),
                ("triangular", Triangular(0.5)),
                ("dspike", Dspike(2.0**-12, radius=0.5)),
            ):
                neuron = LIF(fire=fire, reset=reset, surrogate=surrogate)
                name = f"tie-{sign}-{_names(reset, False)}-{edge}"
                yield Sample(name, {"x": x}, {"neuron": neuron}, "tie", SINGLE, g)
        half = LIF(fire=fire, fire_fraction=0.5, reset="subtract", decay=1.0)
        yield Sample(f"tie-{sign}-fraction", {"x": x}, {"neuron": half}, "tie", SINGLE, g)
        neuron = LIF(fire=fire, surrogate=Rectangular(1.0))
        smooth = {"neuron": neuron, "fire": "smooth"}
        yield Sample(f"tie-{sign}-smooth", {"x": x[:1]}, smooth, "tie", SINGLE, _first(g))


def _first(g: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"y": g["y"][:1], "state.v": g["state.v"]}
