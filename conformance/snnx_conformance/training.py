"""Level "training": optimiser steps against the float64 reference.

steps     ten updates in smooth mode, with SGD and momentum and with Adam, in two micro-batches:
          losses, weights, moments and batch-norm statistics within 1e-4
rounded   a hundred updates rounded to a dyadic grid, certified at every one: weights and spikes
          equal bit for bit
move      see `snnx_conformance.moves`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from snnx.backend import Backend, Batch, Session, Snapshot, load_backend
from snnx.mode import EVAL
from snnx.ops.levels import TRAINING
from snnx.optim import SGD, Adam, Optim, RoundedSGD
from snnx.program import Program, flatten
from snnx_conformance.case import Case, Outcome, lacking, reproduce
from snnx_conformance.certificate import certify_update
from snnx_conformance.compare import Comparison
from snnx_conformance.exact import OBJECTIVE, certify
from snnx_conformance.exact_nets import ExactNet, make
from snnx_conformance.reference import SMOOTH, oracle, program_of, session_of
from snnx_conformance.zoo import ZooNet, zoo

STEPS = 10
ROUNDED_STEPS = 100
COMPARE_EVERY = 10
OPTIMS: dict[str, Optim] = {
    "sgd": Optim(SGD(0.02, momentum=0.9, weight_decay=1e-3), clip_norm=1.0),
    "nesterov": Optim(SGD(0.01, momentum=0.9, nesterov=True)),
    # eps well above the rounding errors of a gradient, whose sign else decides a full step
    "adam": Optim(Adam(0.002, eps=1e-3)),
}
# Networks trained on a grid: the network, the rounding of its weights and the learning rate.
ROUNDED: tuple[tuple[ExactNet, RoundedSGD], ...] = (
    (make("dense", "if", "soft", True, "rect", 4, 0.5, False), RoundedSGD(2.0**-1, 2.0**-3)),
    (make("dense", "lif", "hard", True, "rect", 4, 0.5, False), RoundedSGD(2.0**-1, 2.0**-3)),
    (make("conv-max", "lif", "hard", True, "rect", 2, 0.5, False), RoundedSGD(2.0**-1, 2.0**-4)),
    (make("conv-avg", "if", "hard", True, "rect", 2, 0.5, False), RoundedSGD(1.0, 2.0**-2)),
)


def _comparison(backend: Backend, name: str) -> Comparison:
    case = Case("training", name, backend.name, lambda: Outcome("failed"))
    return Comparison(f"{backend.name} training {name}", reproduce(case))


def halves(batch: Batch, static: bool) -> list[Batch]:
    """Return the batch in two micro-batches."""
    n = len(batch["index"])
    found: list[Batch] = []
    for part in (slice(0, n // 2), slice(n // 2, n)):
        x = batch["x"]
        piece: Batch = {
            "x": x[part] if static else x[:, part],
            "y": batch["y"][part],
            "index": batch["index"][part],
        }
        if "length" in batch:
            piece["length"] = batch["length"][part]
        found.append(piece)
    return found


@dataclass(frozen=True, slots=True)
class Trained:
    """What the reference has after its steps."""

    losses: list[float]
    snapshot: Snapshot


def _train(session: Session, net: ZooNet) -> Trained:
    program, losses = program_of(net.name), []
    for step in range(STEPS):
        batch = net.batch(program, step)
        parts = [batch] if step % 2 else halves(batch, net.static)
        dials = {"seed": 3, "step": step, "epoch": step // 4}
        figures = session.read(session.step(parts, dials, SMOOTH))
        losses.append(figures["loss"])
    return Trained(losses, session.export())


@cache
def _wanted(name: str, optim: str) -> Trained:
    net = next(n for n in zoo() if n.name == name)
    return _train(oracle(net, OPTIMS[optim]), net)


def steps(backend: Backend, net: ZooNet, optim: str, name: str) -> Outcome:
    """Compare ten updates in smooth mode with those of the reference."""
    found = _comparison(backend, name)
    wanted = _wanted(net.name, optim)
    got = _train(session_of(backend, net, OPTIMS[optim]), net)
    ours = {"mean": np.asarray(wanted.losses)}
    found.check("loss", ours, {"mean": np.asarray(got.losses)}, TRAINING)
    before = net.parameters(program_of(net.name))
    moved = {k: v - before[k] for k, v in wanted.snapshot.parameters.items()}
    found.require(any(np.any(m) for m in moved.values()), "no weight of the reference moved")
    found.check("parameter", wanted.snapshot.parameters, got.snapshot.parameters, TRAINING)
    found.check("moment", wanted.snapshot.moments, got.snapshot.moments, TRAINING)
    found.check("statistic", wanted.snapshot.statistics, got.snapshot.statistics, TRAINING)
    found.require(
        got.snapshot.count == STEPS, f"the count of updates is {got.snapshot.count}, not {STEPS}"
    )
    return found.outcome()


@dataclass(frozen=True, slots=True)
class Rounded:
    """A certified training run on a grid: weights every few steps, bits and moves of all."""

    program: Program
    weights: list[dict[str, np.ndarray]]
    losses: list[float]
    bits: float
    moved: list[int]


@cache
def prove(index: int) -> Rounded:
    """Return the reference's run, certified before each of its steps."""
    net, rule = ROUNDED[index]
    program = flatten(net.model)
    session = rounded_session(load_backend("numpy"), index, program, "fp64")
    weights, losses, moved, bits = [], [], [], 0.0
    for step in range(ROUNDED_STEPS):
        batch, before = net.batch(program, step), dict(session.export().parameters)
        budget, _ = certify(program, before, batch, net.steps)
        _, gradients = session.grads(batch, {}, EVAL)
        for path, g in gradients.items():
            certify_update(budget, rule, path, before[path], g, float(rule.lr))  # type: ignore[arg-type]
        budget.check()
        losses.append(session.read(session.step([batch], {"step": step}))["loss"])
        after = session.export().parameters
        moved.append(sum(int(np.sum(after[k] != before[k])) for k in before))
        bits = max(bits, budget.bits)
        if (step + 1) % COMPARE_EVERY == 0:
            weights.append(dict(after))
    return Rounded(program, weights, losses, bits, moved)


def rounded_session(
    backend: Backend, index: int, program: Program, precision: str = "fp32"
) -> Session:
    """Return a session that trains the network of that row on its grid."""
    net, rule = ROUNDED[index]
    built = backend.build(program, net.parameters(program), precision=precision)
    return backend.session(built, OBJECTIVE, Optim(rule), steps=net.steps)


def rounded(backend: Backend, index: int, name: str) -> Outcome:
    """Compare a hundred rounded updates, bit for bit."""
    found, wanted = _comparison(backend, name), prove(index)
    net, program = ROUNDED[index][0], wanted.program
    late = sum(wanted.moved[ROUNDED_STEPS // 2 :])
    found.require(late > 0, "no weight of the reference moves in the second half: says nothing")
    session = rounded_session(backend, index, program)
    for step in range(ROUNDED_STEPS):
        pending = session.step([net.batch(program, step)], {"step": step})
        if (step + 1) % COMPARE_EVERY == 0:
            session.read(pending)
            kind = f"after {step + 1} updates parameter"
            ours = wanted.weights[step // COMPARE_EVERY]
            found.check(kind, ours, session.export().parameters, None)
            if found.problems:
                break
    return found.outcome()


def cases(backend: Backend, quick: bool = False) -> Iterator[Case]:
    """Yield the cases of a backend; `quick` takes one optimiser and one rounded run."""
    for net in zoo():
        for optim in list(OPTIMS)[-1 if quick else 0 :]:
            name = f"steps-{net.name}-{optim}"
            compute = partial(steps, backend, net, optim, name)
            lacks = lacking(program_of(net.name), backend)
            yield Case("training", name, backend.name, compute, lacks)
    for index, (net, _) in enumerate(ROUNDED[: 1 if quick else None]):
        name = f"rounded-{net.name}"
        lacks = lacking(flatten(net.model), backend)
        run = partial(rounded, backend, index, name)
        yield Case("training", name, backend.name, run, lacks)
