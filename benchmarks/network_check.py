"""Whether a net is the right one: its spikes, loss and gradients beside the float64 reference.

Two float runs of a deep spiking net part at the first spike that rounding decides. So a contender
runs freely, and the NumPy reference runs in float64 at the contender's own spikes: each of these
must be what the reference's potential says, save where it lies within MARGIN of the threshold, and
loss and gradients must be those of the reference at these spikes, to the tolerance that
`snnx.ops.levels` has for networks of that precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from network_common import Case, Figures

from snnx.backend import Snapshot
from snnx.mode import EVAL, train_mode
from snnx.ops.levels import NETWORK_GRADIENT
from snnx.training.progress import open_session

# how near to a threshold of 1 a potential may be decided by rounding alone: products in float32,
# with 10 bits, and stored with 7 bits at every step
MARGIN = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}
UNDECIDED = {"fp32": 1e-5, "tf32": 3e-3, "bf16": 1e-2}  # the share of spikes that may be so
TRIES = 4  # batches: two runs of one contender may part at a spike that rounding decides
SMALLEST = 1e-2  # gradients below this part of the largest of the net are held against that
RATES = (0.10, 0.25)  # the mean rate of a net that is timed


@dataclass
class Answer:
    """What a contender says: spikes by path, the loss or logits, and gradients by path."""

    spikes: Mapping[str, np.ndarray]
    loss: float | None
    gradients: Mapping[str, np.ndarray]
    logits: np.ndarray | None = None


def oracle_of(plan: Any, weights: Mapping[str, np.ndarray] | None = None) -> Any:
    """Return the reference's session of a plan, in float64."""
    fixed = {"precision": "fp64", "device": None, "compile": False, "graph": None}
    free = {"lean": False, "kernels": "auto", "backend": "numpy"}
    plan = replace(plan, **fixed, **free)
    made: Any = open_session(plan, plan.program())[1]
    for path, value in (weights or {}).items():
        made.net.parameters[path] = np.asarray(value, np.float64)
    return made


def verdict(oracle: Any, answer: Answer, batch: Any, precision: str) -> Figures:
    """Return how far an answer is from the reference, and under "refused" what is wrong."""
    program = oracle.net.program
    mode = EVAL if answer.logits is not None else train_mode(program)
    potentials = [f"{path}.potential" for path in answer.spikes]
    seen = oracle.forward(batch, {}, mode, potentials, impose=answer.spikes)
    allowed, margin = NETWORK_GRADIENT[precision], MARGIN[precision]
    undecided = wrong = count = 0
    farthest = 0.0
    for path, spikes in answer.spikes.items():
        potential = seen.taps[f"{path}.potential"]
        apart = (potential >= 0.0) != (spikes != 0.0)
        far = np.abs(np.where(apart, potential, 0.0))
        wrong += int(np.sum(~(far <= margin)))
        undecided, count = undecided + int(apart.sum()), count + spikes.size
        farthest = max(farthest, float(far.max()))
    share = undecided / max(count, 1)
    errors: dict[str, float] = {}
    if answer.logits is not None:
        errors["logits"] = _off(answer.logits, seen.y, 0.0)
    if answer.loss is not None:
        loss, wanted = oracle.grads(batch, {}, mode, impose=answer.spikes)
        largest = max(float(np.abs(g).max()) for g in wanted.values())
        errors["loss"] = abs(answer.loss - loss) / abs(loss)
        if answer.gradients:
            smallest = SMALLEST * largest
            errors |= {k: _off(answer.gradients[k], g, smallest) for k, g in wanted.items()}
    worst = max(errors, key=lambda k: errors[k] if np.isfinite(errors[k]) else np.inf)
    row: Figures = {
        "error": errors[worst],
        "error_of": worst,
        "allowed": allowed,
        "spikes": count,
        "decided_otherwise": share,
        "farthest": farthest,
    }
    if wrong:
        row["refused"] = f"{wrong} spikes are not those of the reference"
    elif share > UNDECIDED[precision]:
        row["refused"] = f"{share:.1e} of the spikes are decided otherwise than by the reference"
    elif not errors[worst] <= allowed:
        row["refused"] = f"{worst} is off by {errors[worst]:.1e}, above {allowed:.0e}"
    return row


def _off(found: np.ndarray, wanted: np.ndarray, least: float) -> float:
    """Return the largest difference over the largest wanted value, or over `least` if larger."""
    difference = np.abs(np.asarray(found, np.float64) - wanted)
    return float(np.max(difference) / max(float(np.abs(wanted).max()), least, 1e-30))


def held(
    oracle: Any, give: Callable[[Any], Answer], batches: Callable[[int], Any], precision: str
) -> Figures:
    """Return {"check": ...} of the first batch on which a contender agrees, or with "refused"."""
    found: Figures = {}
    for seed in range(TRIES):
        batch = batches(seed)
        found = {**verdict(oracle, give(batch), batch, precision), "batches": seed + 1}
        if "refused" not in found:
            return {"check": found}
    return {"check": found, "refused": found["refused"]}


def session_answer(session: Any, batch: Any, steps: int) -> Answer:
    """Return what a session says in the step that is timed, after `steps` of them.

    The learning rate is 0, so every step is the same, and the last gradient is the difference of
    two velocities of SGD: v[k] - momentum v[k-1]. So it is the recorded step that is judged.
    """
    spikes = spikes_of(session, batch)
    momentum = session.optim.default.momentum
    dials, before, figures = {"lr": 0.0, "seed": 1, "epoch": 0}, {}, {}
    for k in range(steps):
        if k == steps - 1:
            before = session.export().moments
        figures = session.read(session.step([batch], {**dials, "step": k}))
    after = session.export().moments
    gradients = {
        k.removesuffix(".velocity"): np.asarray(v, np.float64) - momentum * before[k]
        for k, v in after.items()
    }
    return Answer(spikes, figures["loss"], gradients)


def spikes_of(session: Any, batch: Any, mode: Any = None) -> dict[str, np.ndarray]:
    """Return a session's spikes, 0 or 1, by the path of the layer: what its kernels put out."""
    program = session.net.program
    steps = program.spiking
    seen = session.forward(batch, {}, mode or train_mode(program), [s.output for s in steps])
    return {s.path: (seen.taps[s.output] != 0.0).astype(np.float64) for s in steps}


def settle(session: Any, batch: Any) -> dict[str, np.ndarray]:
    """Give a session the running statistics of a batch, as after training; return them.

    At the initial ones (mean 0, variance 1) a deep net hardly fires in evaluation.
    """
    program, before = session.net.program, session.export()
    seen = session.forward(batch, {}, train_mode(program))
    share = {
        ref: step.attributes["momentum"]
        for step in program.steps
        if step.op == "batch_norm"
        for ref in step.inputs.values()
    }
    found = {
        ref: (new - (1.0 - share[ref]) * before.statistics[ref]) / share[ref]
        for ref, new in seen.statistics.items()
    }
    session.load(Snapshot(before.parameters, found))
    return found


def rate_of(spikes: Mapping[str, np.ndarray]) -> float:
    """Return the mean rate over all neurons of a net."""
    count = sum(s.size for s in spikes.values())
    return float(sum(np.sum(s, dtype=np.float64) for s in spikes.values()) / count)


def outside(rate: float, case: Case) -> str:
    """Return why a net with this mean rate is not timed, or nothing."""
    low, high = case.get("rates", RATES)
    return "" if low <= rate <= high else f"its mean rate is {rate:.3f}, not {low} to {high}"
