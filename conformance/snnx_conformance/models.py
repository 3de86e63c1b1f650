"""Level "models": networks of ordinary numbers, compared only where that means something.

teacher   every step of a network alone, fed the reference's input: spikes equal but for those
          within the margin of threshold, gradients at the same spikes
imposed   the whole network with the reference's spikes imposed: every edge and all gradients
smooth    the whole network in smooth mode: loss, statistics and all gradients
counts    the parameters: how many, which paths and shapes, the same initial bits; of the networks
          of `snnx_conformance.zoo`, the others run every architecture of `snnx.models` too
free      see `snnx_conformance.free`
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from snnx.backend import Backend
from snnx.mode import Mode
from snnx.ops import OPS
from snnx.ops._cases import generator
from snnx.ops.levels import EXCLUDED_SHARE, NETWORK
from snnx.program import Program, Step
from snnx_conformance import free
from snnx_conformance.architectures import QUICK, architectures
from snnx_conformance.case import Case, Outcome, lacking, reproduce
from snnx_conformance.compare import Comparison
from snnx_conformance.ops import number_scales, round_to
from snnx_conformance.reference import (
    COUNTERS,
    SMOOTH,
    Observed,
    observe,
    oracle,
    played_inputs,
    program_of,
    session_of,
)
from snnx_conformance.zoo import ZooNet, zoo
from snnx_numpy import core

DTYPE = "float32"


def _comparison(backend: Backend, name: str) -> Comparison:
    case = Case("models", name, backend.name, lambda: Outcome("failed"))
    return Comparison(f"{backend.name} models {name}", reproduce(case))


def teacher(backend: Backend, net: ZooNet, name: str) -> Outcome:
    """Compare every step of the network, fed the inputs that the reference saw."""
    found, seen = _comparison(backend, name), observe(net.name)
    excluded = fired = 0
    for played in seen.result.tape:
        if played.step.op == "dropout" and "mask" not in played.inputs:
            continue
        if played.step.op == "array_layer":  # no op of the spec; the other kinds see its edge
            continue
        near = _step(found, backend, seen, played)
        excluded += int(near.sum())
        fired += near.size
    share = excluded / max(fired, 1)
    found.require(
        share < EXCLUDED_SHARE,
        f"{excluded} of {fired} spikes lie within the margin of threshold, allowed is a share of "
        f"{EXCLUDED_SHARE}",
    )
    return found.outcome()


def _step(found: Comparison, backend: Backend, seen: Observed, played: core.Played) -> np.ndarray:
    """Compare one step; return where [T, N, *F] its spikes were too near to threshold."""
    step, op = played.step, OPS[played.step.op]
    inputs, attributes = played_inputs(played)
    inputs = {n: round_to(a, DTYPE) for n, a in inputs.items()}
    wanted = op.forward(np, inputs, attributes)
    tolerance = op.tolerance[DTYPE]
    near, keep = np.zeros((0,), bool), None
    if "potential" in wanted:
        size = np.abs(wanted["potential"])
        near = size < tolerance.forward * np.max(size)
        late = np.any(near, axis=0)  # a flip acts on all later steps of its neuron
        if "feedback" in inputs:
            late = np.broadcast_to(np.any(late, axis=-1, keepdims=True), late.shape)
        keep = dict.fromkeys(wanted, ~late)
    got = backend.run(op, inputs, attributes, DTYPE)
    found.check(f"step {step.path} {op.name} output", wanted, got, tolerance.forward, keep)
    if op.differentiable:
        _gradients(found, backend, seen, played, inputs, attributes, wanted)
    return near


def _gradients(
    found: Comparison,
    backend: Backend,
    seen: Observed,
    played: core.Played,
    inputs: dict[str, Any],
    attributes: dict[str, Any],
    wanted: Mapping[str, np.ndarray],
) -> None:
    """Compare the gradients of one step at the spikes of the reference."""
    step, op = played.step, OPS[played.step.op]
    if "neuron" in attributes:
        attributes = {**attributes, "fire": "imposed", "observe": False}
        inputs = {k: v for k, v in inputs.items() if k != "mask"}
        inputs["spike"] = round_to(seen.spikes[step.path], DTYPE)
        wanted = op.forward(np, inputs, attributes)
    rng = generator(zlib.crc32(step.path.encode()))
    given = {n: round_to(rng.standard_normal(np.shape(y)), DTYPE) for n, y in wanted.items()}
    wanted_g = op.vjp(np, inputs, attributes, wanted, given)
    got_g = backend.vjp(op, inputs, attributes, DTYPE, given)
    kind = f"step {step.path} {op.name} gradient"
    scales = number_scales(wanted_g)
    found.check(kind, wanted_g, got_g, op.tolerance[DTYPE].gradient, None, scales)


def _compare_network(
    found: Comparison,
    backend: Backend,
    net: ZooNet,
    mode: Mode,
    impose: Mapping[str, np.ndarray] | None,
) -> None:
    """Compare edges, output, state, statistics, loss and all gradients of two sessions."""
    seen = observe(net.name)
    edges = tuple(e for e in seen.program.edges if e != seen.program.source)
    ours, theirs = oracle(net), session_of(backend, net)
    batch, dials = seen.batch, COUNTERS
    wanted = ours.forward(batch, dials, mode, edges, impose=impose)
    got = theirs.forward(batch, dials, mode, edges, impose=impose)
    found.check("edge", wanted.taps, got.taps, NETWORK.forward)
    found.check("output", {"y": wanted.y}, {"y": got.y}, NETWORK.forward)
    found.check("statistic", wanted.statistics, got.statistics, NETWORK.forward)
    loss, gradients = ours.grads(batch, dials, mode, impose=impose)
    got_loss, got_gradients = theirs.grads(batch, dials, mode, impose=impose)
    mean = {"mean": np.asarray(loss)}
    found.check("loss", mean, {"mean": np.asarray(got_loss)}, NETWORK.forward)
    scales = removed_scales(seen.program, gradients)
    found.check("gradient", gradients, got_gradients, NETWORK.gradient, None, scales)


def removed_scales(program: Program, gradients: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the scale of the gradients of biases that batch norms take away.

    A number added to a channel is gone once its mean is subtracted, so the gradient of a bias
    whose value only batch norms read, if need be behind a residual sum, is 0. What float32 finds
    is the rounding of a sum whose terms cancel, and these are of the size of those that make up
    the weight gradient of the same layer: a scale of 0 would compare noise with nothing.
    """
    readers: dict[str, list[Step]] = {}
    for step in program.steps:
        for name in step.inputs.values():
            readers.setdefault(name, []).append(step)

    def removed(edge: str) -> bool:
        if edge == program.result:
            return False
        return all(
            s.op == "batch_norm" or (s.op == "add" and removed(s.output)) for s in readers[edge]
        )

    return {
        s.inputs["bias"]: float(np.max(np.abs(gradients[s.inputs["weight"]])))
        for s in program.steps
        if {"weight", "bias"} <= s.inputs.keys() and removed(s.output)
    }


def imposed(backend: Backend, net: ZooNet, name: str) -> Outcome:
    """Compare the whole network in training mode with the reference's spikes imposed."""
    found, seen = _comparison(backend, name), observe(net.name)
    _compare_network(found, backend, net, seen.mode, seen.spikes)
    return found.outcome()


def smooth(backend: Backend, net: ZooNet, name: str) -> Outcome:
    """Compare the whole network in smooth mode."""
    found = _comparison(backend, name)
    _compare_network(found, backend, net, SMOOTH, None)
    return found.outcome()


def counts(backend: Backend, net: ZooNet, name: str) -> Outcome:
    """Compare the parameters of a built network: paths, shapes, initial bits, and their count."""
    found = _comparison(backend, name)
    snapshot = session_of(backend, net).export()
    program = observe(net.name).program
    found.check("parameter", net.parameters(program), snapshot.parameters, None)
    total = sum(a.size for a in snapshot.parameters.values())
    found.require(total == net.count, f"{total} parameters, counted by hand {net.count}")
    return found.outcome()


_KINDS = {"teacher": teacher, "imposed": imposed, "smooth": smooth, "counts": counts}


def cases(backend: Backend, quick: bool = False) -> Iterator[Case]:
    """Yield the cases of a backend; `quick`: two architectures, no free runs."""
    small = (net for net in architectures() if not quick or net.name in QUICK)
    for net in (*zoo(), *small):
        for kind, compute in _KINDS.items():
            if kind == "counts" and net.count is None:
                continue
            name = f"{kind}-{net.name}"
            run = partial(compute, backend, net, name)
            lacks = lacking(program_of(net.name), backend)
            yield Case("models", name, backend.name, run, lacks)
    if not quick:
        yield from free.cases(backend)
