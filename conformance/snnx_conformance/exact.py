"""Level "exact": whole networks whose every sum is certified, equal bit for bit everywhere.

The output, every spike, every state and every weight gradient are those of float64; so is the
output in two chunks of time, and that of one sample streamed step by step. A network over its
budget is refused with an error, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from snnx.backend import Backend, Batch, Forward, load_backend
from snnx.building import initial_statistics
from snnx.mode import EVAL, Run
from snnx.objective import RateMSE
from snnx.optim import SGD, Optim
from snnx.program import Program, flatten
from snnx_conformance.case import Case, Outcome, lacking, reproduce
from snnx_conformance.certificate import Budget, certify_loss, certify_network
from snnx_conformance.compare import Comparison
from snnx_conformance.exact_nets import ExactNet, exact_nets
from snnx_numpy import core

OBJECTIVE = RateMSE(high=2.0)
QUICK = 12  # every third network of the table


@dataclass(frozen=True, slots=True)
class Proof:
    """A certified run of the float64 reference: what every backend must find."""

    program: Program
    parameters: dict[str, np.ndarray]
    batch: Batch
    forward: Forward
    loss: float | None
    gradients: dict[str, np.ndarray]
    budget: Budget


def taps(program: Program) -> tuple[str, ...]:
    """Return the taps of every spike."""
    return tuple(f"{s.path}.spike" for s in program.spiking)


def states(forward: Forward) -> dict[str, np.ndarray]:
    """Return the final states by path and place."""
    found = {}
    for path, arrays in forward.state.items():
        if path != "t":
            found |= {f"{path}.{i}": np.asarray(a) for i, a in enumerate(arrays)}
    return found


def certify(
    program: Program, parameters: dict[str, np.ndarray], batch: Batch, steps: int
) -> tuple[Budget, bool]:
    """Return the budget of a forward and backward pass, and whether the loss's value is exact too.

    Raises: Refused, where float32 cannot be exact.
    """
    x = np.asarray(batch["x"], np.float64)
    x = x[None] if x.ndim == len(program.input_shape) + 1 else x
    run = Run(EVAL, steps)
    dials = {"seed": 0, "step": 0, "epoch": 0}
    statistics = initial_statistics(program)
    result = core.run(program, parameters, statistics, x, None, dials, batch["index"], run)
    budget = Budget()
    inputs = {"logits": result.y, "target": np.asarray(batch["y"])}
    g_y, value = certify_loss(OBJECTIVE, inputs, budget)
    certify_network(budget, program, result, _static(program, result, g_y))
    budget.check()
    return budget, value.bits <= 24


def _static(program: Program, result: core.Result, g_y: np.ndarray) -> np.ndarray:
    final = result.edges[program.result]
    return np.sum(g_y, axis=0, keepdims=True) if final.shape[0] < g_y.shape[0] else g_y


@cache
def prove(net: ExactNet) -> Proof:
    """Return the certified reference of a network."""
    program = flatten(net.model)
    parameters, batch = net.parameters(program), net.batch(program)
    budget, value = certify(program, parameters, batch, net.steps)
    session = _session(load_backend("numpy"), program, parameters, net.steps, "fp64")
    forward = session.forward(batch, {}, EVAL, taps(program))
    loss, gradients = session.grads(batch, {}, EVAL)
    return Proof(program, parameters, batch, forward, loss if value else None, gradients, budget)


def _session(
    backend: Backend, program: Program, parameters: Any, steps: int, precision: str = "fp32"
) -> Any:
    net = backend.build(program, parameters, precision=precision)
    return backend.session(net, OBJECTIVE, Optim(SGD()), steps=steps)


def run_case(backend: Backend, net: ExactNet, name: str) -> Outcome:
    """Compare one network with its proof, bit for bit."""
    proof = prove(net)
    program, batch = proof.program, proof.batch
    case = Case("exact", name, backend.name, lambda: Outcome("failed"))
    found = Comparison(f"{backend.name} exact {name}", reproduce(case))
    for path, spikes in proof.forward.taps.items():
        rate = float(np.mean(spikes))
        found.require(0.01 < rate < 0.99, f"{path} of the reference has rate {rate}: says nothing")
    for path, g in proof.gradients.items():
        found.require(bool(np.any(g)), f"the reference's gradient of {path} is 0: says nothing")
    session = _session(backend, program, proof.parameters, net.steps)
    got = session.forward(batch, {}, EVAL, taps(program))
    found.check("tap", proof.forward.taps, got.taps, None)
    found.check("state", states(proof.forward), states(got), None)
    found.check("output", {"y": proof.forward.y}, {"y": got.y}, None)
    loss, gradients = session.grads(batch, {}, EVAL)
    found.check("gradient", proof.gradients, gradients, None)
    if proof.loss is not None:
        found.check("loss", {"mean": np.asarray(proof.loss)}, {"mean": np.asarray(loss)}, None)
    _chunks(found, session, net, proof)
    _stream(found, session, net, proof)
    return found.outcome()


def _chunks(found: Comparison, session: Any, net: ExactNet, proof: Proof) -> None:
    """Compare a run in two chunks of time, the state handed over, with the run in one piece."""
    half = net.steps // 2
    x = proof.batch["x"]
    first: Batch = {**proof.batch, "x": x if net.static else x[:half]}
    second: Batch = {**proof.batch, "x": x if net.static else x[half:]}
    one = session.forward(first, {}, EVAL, (), steps=half)
    two = session.forward(second, {}, EVAL, (), state=one.state, steps=net.steps - half)
    joined = np.concatenate([one.y, two.y])
    found.check("output of two chunks", {"y": proof.forward.y}, {"y": joined}, None)
    found.check("state after two chunks", states(proof.forward), states(two), None)


def _stream(found: Comparison, session: Any, net: ExactNet, proof: Proof) -> None:
    """Compare one sample fed step by step, the state handed over, with its row of the batch."""
    batch, state, seen = proof.batch, None, []
    for t in range(net.steps):
        x = batch["x"][:1] if net.static else batch["x"][t : t + 1, :1]
        one: Batch = {"x": x, "y": batch["y"][:1], "index": batch["index"][:1]}
        found_t = session.forward(one, {}, EVAL, (), state=state, steps=1)
        state = found_t.state
        seen.append(found_t.y)
    wanted = {"y": proof.forward.y[:, :1]}
    found.check("output of a stream", wanted, {"y": np.concatenate(seen)}, None)


def cases(backend: Backend, quick: bool = False) -> Iterator[Case]:
    """Yield one case per network; `quick` takes some of them."""
    for i, net in enumerate(exact_nets()):
        if quick and i % 3:
            continue
        compute = partial(run_case, backend, net, net.name)
        lacks = lacking(flatten(net.model), backend)
        yield Case("exact", net.name, backend.name, compute, lacks)
