"""Free runs: whole spiking networks on their own, compared by their flip curves.

At every layer the share of spikes that differ from float64, meaned over 16 seeds, is at most ten
times that of float32 against float64 on the NumPy backend, plus 1e-5. The first flip of a run lies
within rounding of threshold. Where no spike flipped at the last layer, a comparison says nothing;
the case "free-compared" fails unless some network's both curves are above 0 there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import numpy as np

from snnx.backend import Backend, Session, load_backend
from snnx.mode import EVAL
from snnx.ops.levels import FIRST_FLIP, FLIP_FACTOR, FLIP_FLOOR
from snnx_conformance.case import Case, Outcome, lacking, reproduce
from snnx_conformance.compare import Comparison
from snnx_conformance.reference import nets, oracle, program_of, session_of
from snnx_conformance.zoo import ZooNet, drifting

SEEDS = 16

Spikes = dict[str, np.ndarray]


def _spikes(session: Session, net: ZooNet, seed: int, potentials: bool = False) -> Spikes:
    program = program_of(net.name)
    kinds = ("spike", "potential") if potentials else ("spike",)
    taps = tuple(f"{s.path}.{kind}" for s in program.spiking for kind in kinds)
    return dict(session.forward(net.batch(program, seed), {}, EVAL, taps).taps)


@cache
def _reference(name: str, seed: int) -> Spikes:
    net = nets()[name]
    return _spikes(oracle(net, seed=seed), net, seed, potentials=True)


@cache
def _curve(name: str) -> dict[str, float]:
    """Return the flip share of NumPy's float32 at every layer."""
    net, backend = nets()[name], load_backend("numpy")
    shares = [
        _shares(_reference(name, seed), _spikes(session_of(backend, net, seed=seed), net, seed))
        for seed in range(SEEDS)
    ]
    return _mean(shares)


def _shares(wanted: Spikes, got: Spikes) -> dict[str, float]:
    return {
        k.removesuffix(".spike"): float(np.mean(v != got[k]))
        for k, v in wanted.items()
        if k.endswith(".spike")
    }


def _mean(shares: list[dict[str, float]]) -> dict[str, float]:
    return {k: sum(s[k] for s in shares) / len(shares) for k in shares[0]}


def first_flip(wanted: Spikes, got: Spikes) -> tuple[str, tuple[int, ...], float] | None:
    """Return layer, [t, n, *f] and relative distance to threshold of the first flip, or None.

    First by time, then by layer: before it both runs saw equal spikes.
    """
    best: tuple[int, str] | None = None
    for k, v in wanted.items():
        if k.endswith(".spike"):
            times = np.flatnonzero(np.any((v != got[k]).reshape(v.shape[0], -1), axis=1))
            if times.size and (best is None or int(times[0]) < best[0]):
                best = (int(times[0]), k.removesuffix(".spike"))
    if best is None:
        return None
    t, path = best
    seen = wanted[f"{path}.potential"]
    flipped = wanted[f"{path}.spike"][t] != got[f"{path}.spike"][t]
    distance = np.where(flipped, np.abs(seen[t]), 0.0)
    at = np.unravel_index(int(np.argmax(distance)), distance.shape)
    scale = float(np.max(np.abs(seen)))
    return path, (t, *(int(i) for i in at)), float(distance[at]) / scale


def _run(backend: Backend, net: ZooNet, found: Comparison) -> dict[str, float]:
    shares = []
    for seed in range(SEEDS):
        wanted = _reference(net.name, seed)
        got = _spikes(session_of(backend, net, seed=seed), net, seed)
        sizes = {k: (wanted[k].shape, got[k].shape) for k in got}
        found.require(all(a == b for a, b in sizes.values()), f"shapes of spikes: {sizes}")
        if found.problems:
            break
        binary = all(np.all((v == 0) | (v == 1)) for v in got.values())
        found.require(binary, "a spike is neither 0 nor 1")
        shares.append(_shares(wanted, got))
        flip = first_flip(wanted, got)
        if flip is not None:
            path, at, distance = flip
            found.require(
                distance <= FIRST_FLIP,
                f"seed {seed}: the first flip, layer {path} at {list(at)}, was {distance:.2g} of "
                f"the largest potential away from threshold, allowed {FIRST_FLIP:.2g}",
            )
        found.compared += sum(v.size for v in got.values())
        found.total += sum(v.size for v in got.values())
    return _mean(shares) if shares else {}


def free(backend: Backend, net: ZooNet, name: str) -> Outcome:
    """Compare the flip curve of one network."""
    case = Case("models", name, backend.name, lambda: Outcome("failed"))
    found = Comparison(f"{backend.name} models {name}", reproduce(case))
    ours = _run(backend, net, found)
    for path, allowed in _curve(net.name).items():
        limit = FLIP_FACTOR * allowed + FLIP_FLOOR
        share = ours.get(path, 1.0)
        found.require(
            share <= limit,
            f"layer {path}: {share:.3g} of the spikes flip, allowed {limit:.3g} "
            f"(float32 of numpy: {allowed:.3g})",
        )
    return found.outcome()


def compared(backend: Backend, name: str) -> Outcome:
    """Fail unless some network flips at its last layer, on this backend and on NumPy."""
    found = Comparison(f"{backend.name} models {name}")
    curves = {}
    for net in drifting():
        last = program_of(net.name).spiking[-1].path
        ours = _run(backend, net, Comparison("")).get(last, 0.0)
        curves[net.name] = (ours, _curve(net.name)[last])
    said = any(a > 0 and b > 0 for a, b in curves.values())
    found.require(said, f"no spike flipped at any last layer, nothing was compared: {curves}")
    return found.outcome()


def cases(backend: Backend) -> Iterator[Case]:
    """Yield the free runs of a backend."""
    for net in drifting():
        name = f"free-{net.name}"
        lacks = lacking(program_of(net.name), backend)
        yield Case("models", name, backend.name, partial(free, backend, net, name), lacks)
    name = "free-compared"
    lacks = tuple(op for net in drifting() for op in lacking(program_of(net.name), backend))
    yield Case("models", name, backend.name, partial(compared, backend, name), lacks)
