"""Runs of the zoo by the float64 reference, and sessions of a backend on the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from snnx.backend import Backend, Batch, Session, load_backend
from snnx.batch import check_dials, dial_values
from snnx.building import initial_statistics
from snnx.mode import Mode, Run, train_mode
from snnx.ops import OPS
from snnx.optim import SGD, Optim
from snnx.program import Program, flatten
from snnx_conformance.architectures import architectures
from snnx_conformance.zoo import ZooNet, drifting, zoo
from snnx_numpy import core
from snnx_numpy.net import Net

SMOOTH = Mode("smooth", "batch", True, "train")
COUNTERS = {"seed": 5, "step": 2, "epoch": 1}


@cache
def nets() -> dict[str, ZooNet]:
    """Return the zoo and the drifting networks by name."""
    return {net.name: net for net in (*zoo(), *drifting())}


@cache
def _known() -> dict[str, ZooNet]:
    return {net.name: net for net in (*zoo(), *drifting(), *architectures())}


@cache
def program_of(name: str) -> Program:
    """Return the program of a network of the zoo or of an architecture."""
    return flatten(_known()[name].model)


def session_of(
    backend: Backend,
    net: ZooNet,
    optim: Optim | None = None,
    *,
    seed: int = 0,
    precision: str = "fp32",
) -> Session:
    """Return a session of the network with its initial weights."""
    program = program_of(net.name)
    built = backend.build(program, net.parameters(program, seed), precision=precision)
    return backend.session(built, net.objective, optim or Optim(SGD()), steps=net.steps)


def oracle(net: ZooNet, optim: Optim | None = None, *, seed: int = 0) -> Session:
    """Return the float64 session of the network."""
    return session_of(load_backend("numpy"), net, optim, seed=seed, precision="fp64")


@dataclass(frozen=True, slots=True)
class Observed:
    """A float64 run in training mode with all spikes and potentials seen."""

    net: ZooNet
    program: Program
    batch: Batch
    mode: Mode
    result: core.Result
    spikes: dict[str, np.ndarray]


@cache
def observe(name: str) -> Observed:
    """Return the reference's run of a network in training mode, at its initial weights."""
    net, program = _known()[name], program_of(name)
    batch, mode = net.batch(program), train_mode(program)
    host = Net(program, net.parameters(program), np.dtype("float64"))
    statistics = {k: v.astype(np.float64) for k, v in initial_statistics(program).items()}
    x = np.asarray(batch["x"], np.float64)
    x = x[None] if net.static else x
    seen = frozenset(s.path for s in program.spiking)
    run = Run(mode, net.steps, observed=seen)
    dials = check_dials(dial_values(program, Optim(SGD())), COUNTERS)
    result = core.run(program, host.parameters, statistics, x, None, dials, batch["index"], run)
    spikes = {path: result.observed[f"{path}.spike"] for path in seen}
    return Observed(net, program, batch, mode, result, spikes)


def played_inputs(played: core.Played) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs and attributes with which a backend runs one recorded step alone."""
    if played.step.op not in OPS:
        raise ValueError(f"{played.step.path}: {played.step.op} is no op of the spec")
    return dict(played.inputs), dict(played.attributes)
