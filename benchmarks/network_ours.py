"""Our own nets in `networks.py`: checked as they are timed, then timed."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from network_check import (
    Answer,
    held,
    oracle_of,
    outside,
    rate_of,
    session_answer,
    settle,
    spikes_of,
)
from network_common import (
    FEW,
    TIMED,
    WARM,
    Case,
    Figures,
    batch,
    freed,
    parts,
    small,
    timed,
    weights,
)

import snnx
from snnx.backend import Snapshot
from snnx.mode import EVAL
from snnx.training.plan import Plan


def plan_of(case: Case, backend: str = "torch") -> Plan:
    """Return a case as a run's plan, lean as on a GPU."""
    form: dict[str, Any] = {key: case.get(key) for key in ("compile", "graph")}
    form |= {"kernels": case.get("kernels", "auto"), "precision": case["precision"]}
    return Plan(
        objective=snnx.SDT(),
        steps=case["T"],
        batch_size=case["batch"],
        epochs=2,
        backend=backend,
        lean=True,
        **parts(case),
        **form,
    )


def session_of(case: Case, backend: str = "torch", group: Any = None) -> Any:
    """Return a session of a case with the weights that every contender has."""
    from snnx.training.progress import open_session
    from snnx.world import ALONE, World

    plan = plan_of(case, backend)
    program = plan.program()
    session: Any = open_session(plan, program, World(0, 1, group) if group else ALONE)[1]
    begun = session.export()
    session.load(Snapshot(weights(case, program), begun.statistics))
    return as_others(session)


def as_others(session: Any) -> Any:
    """Return a session of torch that lets cuDNN search exactly where the plain nets do."""
    import torch

    if hasattr(session, "searches"):
        session.searches = torch.backends.cudnn.benchmark
    return session


def checked(case: Case, backend: str = "torch", group: Any = None) -> Figures:
    """Return {"check"}, and "refused" where a narrow net of the same form is not the reference."""
    near = small(case)
    oracle = oracle_of(plan_of(near, backend), weights(near, plan_of(near).program()))
    session = session_of(near, backend, group)
    give = partial(session_answer, session, steps=WARM)
    found = held(oracle, give, lambda seed: batch(near, seed=seed), case["precision"])
    del session, give
    return found


def at_rate(session: Any, case: Case) -> Figures:
    """Return {"rate"} of the net that is timed, and "refused" where it is not a net's usual one."""
    rate = rate_of(spikes_of(session, batch(case, min(FEW, case["batch"]))))
    wrong = outside(rate, case)
    return {"rate": rate, **({"refused": wrong} if wrong else {})}


def stepped(session: Any, given: Any) -> Figures:
    """Return the figures of a session's steps, at a learning rate that keeps the weights."""
    import torch

    cuda = torch.cuda.is_available()
    dials = {"lr": 0.0, "seed": 1, "epoch": 0}
    freed()
    standing = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    session.read(session.step([given], {**dials, "step": 0}))
    first = time.perf_counter() - began
    for k in range(1, WARM):
        session.read(session.step([given], {**dials, "step": k}))
    found = timed(replay_of(session, given))
    began = time.perf_counter()
    tokens = [session.step([given], {**dials, "step": WARM + k}) for k in range(TIMED)]
    figures = session.read(tokens[-1])
    wall = 1e3 * (time.perf_counter() - began) / TIMED
    peak = {"peak_mib": (torch.cuda.max_memory_allocated() - standing) / 2**20} if cuda else {}
    form = session.step_form()
    more = {"first_s": first, "step_ms": wall, "form": form, "loss": figures["loss"]}
    return {**found, **more, **peak, "neurons": sorted(set(session.implementations().values()))}


def replay_of(session: Any, given: Any) -> Any:
    """Return the recorded step as a call, or the step where none is recorded."""
    replays = [s.replay for s in session.taker._slots.values() if s.replay is not None]
    dials = {"lr": 0.0, "seed": 1, "epoch": 0, "step": WARM}
    return replays[-1] if replays else lambda: session.step([given], dials)


def ours(case: Case) -> Figures:
    """Return the figures of our own step; a first step is taken before anything is compiled."""
    if case.get("first"):
        session = session_of(case)
        found = {**stepped(session, batch(case)), **at_rate(session, case)}
        check = checked(case)
        return {**check, **({} if "refused" in check else found)}
    check = checked(case)
    if "refused" in check:
        return check
    session = session_of(case)
    rate = at_rate(session, case)
    return {**check, **rate, **({} if "refused" in rate else stepped(session, batch(case)))}


def run(case: Case) -> Figures:
    """Return the time per step of a run's own loop over the loader, and of the device alone."""
    from snnx.data import Dataset
    from snnx.training import loop

    check = checked(case)
    if "refused" in check:
        return check
    count = 2 * case["batch"] if "width" in case else 60 * case["batch"]
    given, test = batch(case, count), batch(case, 8)
    data = Dataset(given["x"], given["y"], test["x"], test["y"], "noise")
    training = loop.start(replace(plan_of(case), epochs=4), data)
    rate = at_rate(as_others(training.session), case)
    if "refused" in rate:
        return {**check, **rate}
    spans = []
    for epoch in range(3):
        training.epoch, training.batch = epoch, 0
        began = time.perf_counter()
        loop._epoch(training, loop.Nobody())
        spans.append(1e3 * (time.perf_counter() - began) / (count // case["batch"]))
    found = stepped(training.session, batch(case))
    more = {"step_ms": spans[-1], "to_device": spans[-1] / found["device_ms"]}
    return {**check, **rate, **found, **more}


def mlx(case: Case) -> Figures:
    """Return the wall time of MLX's step, each one waited for."""
    import statistics

    check = checked(case, "mlx")
    if "refused" in check:
        return check
    session = session_of(case, "mlx")
    rate = at_rate(session, case)
    if "refused" in rate:
        return {**check, **rate}
    given, spans = batch(case), []
    for k in range(WARM + TIMED):
        began = time.perf_counter()
        session.read(session.step([given], {"step": k, "lr": 0.0}))
        spans.append(time.perf_counter() - began)
    found = {"first_s": spans[0], "step_ms": 1e3 * statistics.median(spans[WARM:])}
    forms = sorted(set(session.implementations().values()))
    return {**check, **rate, **found, "form": session.step_form(), "neurons": forms}


def inference(case: Case) -> Figures:
    """Return the time of our forward pass, its logits those of the reference."""
    import torch

    near = small(case)
    oracle = oracle_of(plan_of(near), weights(near, plan_of(near).program()))
    session = session_of(near)
    oracle.load(Snapshot(session.export().parameters, settle(session, batch(near))))

    def give(given: Any) -> Answer:
        taps = {s.output: s.path for s in session.net.program.spiking}
        seen = session.forward(given, {}, EVAL, list(taps))
        spikes = {path: (seen.taps[edge] != 0.0) * 1.0 for edge, path in taps.items()}
        return Answer(spikes, None, {}, seen.y)

    check = held(oracle, give, lambda seed: batch(near, seed=seed), case["precision"])
    if "refused" in check:
        return check
    session, few = session_of(case), batch(case, min(FEW, case["batch"]))
    settle(session, few)
    rate = rate_of(spikes_of(session, few, EVAL))
    wrong = outside(rate, case)
    if wrong:
        return {**check, "rate": rate, "refused": wrong}
    net = session.net.eval()
    x = torch.tensor(batch(case)["x"]).to(net.device)
    with torch.no_grad():
        for _ in range(3):
            net(x, steps=case["T"], hand_over=False)
        return {**check, "rate": rate, **timed(partial(net, x, steps=case["T"], hand_over=False))}
