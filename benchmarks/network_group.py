"""One process of NCCL in `networks.py`: the same bits as without a process group, in the same time.

Two sessions of one net, one with a group of this process alone, take the same steps. Beside them a
third, without a group again, shows whether the step repeats itself at all: only then do the bits
of the first two say something of the group. For the bits cuDNN is held to algorithms that sum in a
fixed order; for the times it is not.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from network_common import TIMED, WARM, Case, Figures, batch, freed, timed
from network_ours import at_rate, checked, replay_of, session_of

ALLOWED = 1.05  # of the time without a group
STEPS = WARM + 4  # some of them eager, some recorded
ROUNDS = 5


@contextmanager
def alone() -> Iterator[tuple[Any, str]]:
    """Yield a process group of this process, and by what it exchanges."""
    import torch
    import torch.distributed as dist

    from snnx_torch.ranks import leave

    kind = "nccl" if torch.cuda.is_available() else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(kind, init_method=f"file://{folder}/r", rank=0, world_size=1)
        try:
            yield dist.group.WORLD, kind
        finally:
            leave()  # sessions that the caller still names hold graphs, for which NCCL would wait


@contextmanager
def ordered() -> Iterator[None]:
    """Let cuDNN take only algorithms whose sums have a fixed order, and try none."""
    import torch

    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def trained(session: Any, given: Any) -> list[Mapping[str, np.ndarray]]:
    """Return velocities after each step, and at last the weights and statistics.

    The first velocities are the first gradients, and the weights move from step to step, so equal
    velocities and weights are equal gradients in every step. (The norm of the gradients is not
    compared: its sum is taken in an order that depends on where in memory they lie.)
    """
    found: list[Mapping[str, np.ndarray]] = []
    for k in range(STEPS):
        figures = session.read(session.step([given], {"lr": 0.01, "seed": 1, "step": k}))
        found.append({**session.export().moments, "loss": np.asarray(figures["loss"])})
    last = session.export()
    return [*found, last.parameters, last.statistics]


def differing(
    one: list[Mapping[str, np.ndarray]], other: list[Mapping[str, np.ndarray]]
) -> list[str]:
    """Return the first arrays whose bits differ, each with its step."""
    return [
        f"{name} after step {min(k, STEPS - 1)}"
        for k, (a, b) in enumerate(zip(one, other, strict=True))
        for name in a
        if np.asarray(a[name]).tobytes() != np.asarray(b[name]).tobytes()
    ][:5]


def bits(case: Case, group: Any) -> Figures:
    """Return whether the group changes any bit, and the forms of the two steps."""
    given = batch(case)
    with ordered():
        single, grouped = session_of(case), session_of(case, group=group)
        first, second = trained(single, given), trained(grouped, given)
        repeated = trained(session_of(case), given)
    apart, control = differing(first, second), differing(first, repeated)
    forms = single.step_form(), grouped.step_form()
    kernels = [sorted(set(s.implementations().values())) for s in (single, grouped)]
    found: Figures = {
        "gradients_equal": not apart,
        "differing": apart,
        "repeats_itself": not control,
        "steps": STEPS,
        "form_alone": forms[0],
        "form": forms[1],
        "neurons_alone": kernels[0],
        "neurons": kernels[1],
    }
    if control:
        found["refused"] = f"without a group two runs differ in {control[0]}: nothing is shown"
    elif apart:
        found["refused"] = f"with a group of one {apart[0]} has other bits"
    elif kernels[0] != kernels[1]:
        found["refused"] = "with a group other kernels run the neurons"
    elif "recorded" in forms[0] and forms[0] != forms[1]:
        found["refused"] = f"alone the step is {forms[0]}, with a group it is {forms[1]}"
    return found


def group(case: Case) -> Figures:
    """Return the figures of a step in a process group of one, beside one without."""
    with alone() as (world, kind):
        found: Figures = {"group": kind, **checked(case, group=world)}
        if "refused" in found:
            return found
        found |= bits(case, world)
        if "refused" in found:
            return found
        freed()
        sessions = [session_of(case), session_of(case, group=world)]
        found |= at_rate(sessions[1], case)
        if "refused" in found:
            return found
        given = batch(case)
        for session in sessions:
            for k in range(WARM):
                session.read(session.step([given], {"lr": 0.0, "seed": 1, "step": k}))
        spans: list[list[float]] = [[], []]
        for turn in range(2 * ROUNDS):  # A B, B A, ...
            at = (turn + turn // 2) % 2
            call = replay_of(sessions[at], given)
            spans[at].append(timed(call, max(TIMED // 4, 1))["device_ms"])
        alone_ms, group_ms = map(statistics.median, spans)
        ratio = group_ms / alone_ms
        more = {
            "device_ms": group_ms,
            "alone_ms": alone_ms,
            "ratio": ratio,
            "allowed_ratio": ALLOWED,
        }
        return {**found, **more, "within": ratio <= ALLOWED}
