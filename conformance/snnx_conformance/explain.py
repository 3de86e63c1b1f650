"""Why two backends differ: the first spike that flips, and how far it was from threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from snnx.backend import Backend
from snnx.mode import EVAL
from snnx_conformance.free import first_flip
from snnx_conformance.reference import COUNTERS, nets, program_of, session_of
from snnx_conformance.zoo import ZooNet

SEEDS = 4


def observed(backend: Backend, net: ZooNet, seed: int) -> dict[str, np.ndarray]:
    """Return all spikes and potentials of a free run in evaluation mode."""
    program = program_of(net.name)
    taps = tuple(f"{s.path}.{kind}" for s in program.spiking for kind in ("spike", "potential"))
    session = session_of(backend, net, seed=seed)
    return dict(session.forward(net.batch(program, seed), COUNTERS, EVAL, taps).taps)


def explain(a: Backend, b: Backend, net: ZooNet, seed: int) -> str | None:
    """Return one sentence on the first spike that differs, or None where all are equal."""
    ours, theirs = observed(a, net, seed), observed(b, net, seed)
    flip = first_flip(ours, theirs)
    if flip is None:
        return None
    path, at, distance = flip
    spikes = f"{path}.spike"
    values = [float(run[f"{path}.potential"][at]) for run in (ours, theirs)]
    bits = [int(run[spikes][at]) for run in (ours, theirs)]
    step = program_of(net.name).step(path)
    total = sum(int(np.sum(v != theirs[k])) for k, v in ours.items() if k.endswith(".spike"))
    return (
        f"{net.name} seed {seed}: the first spike that differs is in step {path} ({step.layer}), "
        f"time {at[0]}, sample {at[1]}, neuron {list(at[2:])}: {a.name} {bits[0]}, {b.name} "
        f"{bits[1]}; potential minus threshold {values[0]:.3g} and {values[1]:.3g}, "
        f"{distance:.2g} of the layer's largest; {total} spikes differ after it"
    )


def lines(backends: Sequence[Backend]) -> Iterator[str]:
    """Yield what is found for every pair of backends and every network."""
    for a, b in combinations(backends, 2):
        yield f"{a.name} and {b.name}, each on its own, {SEEDS} seeds a network:"
        equal = []
        for net in nets().values():
            found = [explain(a, b, net, seed) for seed in range(SEEDS)]
            yield from (f"  {text}" for text in found if text is not None)
            if not any(found):
                equal.append(net.name)
        yield f"  all spikes equal: {', '.join(equal) or 'in no network'}"
