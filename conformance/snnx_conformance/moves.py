"""Moves: a run that changes its backend through a checkpoint, for every ordered pair.

move     after three updates the weights, statistics and moments arrive bit for bit; with the old
         backend's spikes imposed the first loss and all gradients are the old backend's; so is the
         next update in smooth mode
exact    a hundred rounded updates, half on either backend, equal the unbroken run bit for bit
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from snnx import checkpoint
from snnx.backend import Backend, Session, Snapshot
from snnx.mode import train_mode
from snnx.ops.levels import NETWORK, TRAINING
from snnx.optim import Adam, Optim
from snnx.program import flatten
from snnx_conformance.case import Case, Outcome, lacking, reproduce
from snnx_conformance.compare import Comparison
from snnx_conformance.reference import SMOOTH, program_of, session_of
from snnx_conformance.training import ROUNDED, ROUNDED_STEPS, prove, rounded_session
from snnx_conformance.zoo import ZooNet, zoo

BEFORE = 3  # updates before the move
OPTIM = Optim(Adam(0.002, eps=1e-3))


def through_file(model: Any, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot after it was written to a checkpoint and read back."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "checkpoint"
        checkpoint.write(place, checkpoint.Checkpoint(model, snapshot))
        return checkpoint.read(place).snapshot


def _comparison(old: Backend, new: Backend, name: str) -> Comparison:
    case = Case("models", name, new.name, lambda: Outcome("failed"))
    return Comparison(f"{old.name} to {new.name} {name}", reproduce(case))


def _step(session: Session, net: ZooNet, step: int) -> None:
    batch = net.batch(program_of(net.name), step)
    session.read(session.step([batch], {"seed": 3, "step": step}, SMOOTH))


def _check_snapshot(
    found: Comparison, kind: str, wanted: Snapshot, got: Snapshot, allowed: float | None
) -> None:
    found.check(f"{kind} parameter", wanted.parameters, got.parameters, allowed)
    found.check(f"{kind} statistic", wanted.statistics, got.statistics, allowed)
    found.check(f"{kind} moment", wanted.moments, got.moments, allowed)
    found.require(
        wanted.count == got.count, f"{kind} count of updates is {got.count}, not {wanted.count}"
    )


def move(old: Backend, new: Backend, net: ZooNet, name: str) -> Outcome:
    """Compare what both backends do from the old one's checkpoint on."""
    found = _comparison(old, new, name)
    first = session_of(old, net, OPTIM)
    for step in range(BEFORE):
        _step(first, net, step)
    snapshot = first.export()
    second = session_of(new, net, OPTIM, seed=1)
    second.load(through_file(net.model, snapshot))
    _check_snapshot(found, "moved", snapshot, second.export(), None)
    program = program_of(net.name)
    batch, dials, mode = (
        net.batch(program, BEFORE),
        {"seed": 3, "step": BEFORE},
        train_mode(program),
    )
    taps = tuple(f"{s.path}.spike" for s in program.spiking)
    spikes = first.forward(batch, dials, mode, taps).taps
    imposed = {tap.removesuffix(".spike"): spikes[tap] for tap in taps}
    loss, gradients = first.grads(batch, dials, mode, impose=imposed)
    got_loss, got_gradients = second.grads(batch, dials, mode, impose=imposed)
    mean = {"mean": np.asarray(loss)}
    found.check("first loss", mean, {"mean": np.asarray(got_loss)}, NETWORK.forward)
    found.check("first gradient", gradients, got_gradients, NETWORK.gradient)
    for session in (first, second):
        _step(session, net, BEFORE)
    _check_snapshot(found, "next", first.export(), second.export(), TRAINING)
    return found.outcome()


def exact_move(old: Backend, new: Backend, index: int, name: str) -> Outcome:
    """Compare a rounded run of which each backend takes half, bit for bit."""
    found, proof = _comparison(old, new, name), prove(index)
    net = ROUNDED[index][0]
    half = ROUNDED_STEPS // 2
    first = rounded_session(old, index, proof.program)
    second = rounded_session(new, index, proof.program)
    for step in range(ROUNDED_STEPS):
        if step == half:
            second.load(through_file(net.model, first.export()))
        session = first if step < half else second
        pending = session.step([net.batch(proof.program, step)], {"step": step})
        if (step + 1) % half == 0:
            session.read(pending)
    found.check("final parameter", proof.weights[-1], second.export().parameters, None)
    return found.outcome()


def cases(backends: Sequence[Backend], quick: bool = False) -> Iterator[Case]:
    """Yield every ordered pair of the backends, one with itself included."""
    for old in backends:
        for new in backends:
            for net in zoo()[: 1 if quick else None]:
                name = f"move-{net.name}-from-{old.name}"
                compute = partial(move, old, new, net, name)
                lacks = lacking(program_of(net.name), old, new)
                yield Case("models", name, new.name, compute, lacks)
            name = f"move-exact-from-{old.name}"
            lacks = lacking(flatten(ROUNDED[0][0].model), old, new)
            yield Case("models", name, new.name, partial(exact_move, old, new, 0, name), lacks)
