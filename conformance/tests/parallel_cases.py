"""What several processes compute together, and one process alone: the same functions for both."""

from collections.abc import Callable
from typing import Any

import numpy as np

import snnx
from snnx.backend import Backend
from snnx.building import initial_parameters
from snnx.data import Batches, Dataset
from snnx.mode import Mode, train_mode
from snnx.optim import Optim, RoundedSGD
from snnx.passes import merge_rate_blocks
from snnx.program import Program, flatten
from snnx.random import uniform
from snnx.training.evaluate import evaluate
from snnx.world import World
from snnx_conformance import reference
from snnx_conformance.exact import OBJECTIVE
from snnx_conformance.reference import COUNTERS, SMOOTH, observe, program_of
from snnx_conformance.training import ROUNDED, ROUNDED_STEPS
from snnx_conformance.zoo import zoo

Found = dict[str, np.ndarray]
NETS = ("conv", "residual", "dsr", "asgl")  # LIF and IF; thresholds; masks and widths


def session_of(
    backend: Backend,
    world: World,
    program: Program,
    parameters: Any,
    objective: Any,
    optim: Any = None,
    lean: bool = False,
    **options: Any,
) -> Any:
    """Return a session of the processes of a world."""
    net = backend.build(program, parameters, device="cpu", lean=lean)
    optim = optim or Optim(snnx.SGD())
    return backend.session(net, objective, optim, group=world.group, **options)


def share_of(world: World, batch: Any, static: bool, n: int | None = None) -> Any:
    """Return this process' share of the first n samples of a batch, as one process takes all."""
    own, share = world.share(len(batch["index"]) if n is None else n)
    found = {k: v[own] for k, v in batch.items() if k != "x"}
    found["x"] = batch["x"][own] if static else batch["x"][:, own]
    return {**found, "share": share} if world.size > 1 else found


def _net(name: str) -> Any:
    return next(net for net in zoo() if net.name == name)


def _zoo_session(backend: Backend, world: World, name: str, **options: Any) -> Any:
    net, program = _net(name), program_of(name)
    given = (program, net.parameters(program), net.objective)
    return session_of(backend, world, *given, steps=net.steps, **options)


def gradients(backend: Backend, world: World, name: str, n: int, smooth: bool) -> Found:
    """Loss and all gradients of n samples, with imposed spikes or in smooth mode."""
    net, seen = _net(name), observe(name)
    session = _zoo_session(backend, world, name)
    batch = share_of(world, seen.batch, net.static, n)
    own, _ = world.share(n)
    spikes = None if smooth else {k: v[:, own] for k, v in seen.spikes.items()}
    mode = SMOOTH if smooth else seen.mode
    loss, found = session.grads(batch, COUNTERS, mode, impose=spikes)
    return {"loss": np.asarray(loss), **found}


def wanted_gradients(name: str, n: int, smooth: bool) -> Found:
    """What `gradients` shall be, by the float64 reference in one process."""
    seen, alone = observe(name), World()
    batch = share_of(alone, seen.batch, _net(name).static, n)
    spikes = None if smooth else {k: v[:, :n] for k, v in seen.spikes.items()}
    mode = SMOOTH if smooth else seen.mode
    loss, found = reference.oracle(_net(name)).grads(batch, COUNTERS, mode, impose=spikes)
    return {"loss": np.asarray(loss), **found}


def block(backend: Backend, world: World) -> Found:
    """Gradients of DSR's joint convolution and norm."""
    layer = snnx.DSR.leaky(0.1, 0.4)
    model = snnx.Chain(
        *(snnx.Input(4, 4, 2), snnx.Conv2d(4, 3), snnx.BatchNorm(), layer),
        *(snnx.Conv2d(5, 3, stride=2), snnx.BatchNorm(), layer, snnx.Flatten()),
        *(snnx.Linear(3), snnx.BatchNorm(), layer),
    )
    program = merge_rate_blocks(flatten(model))
    assert "rate_block" in {step.op for step in program.steps}
    session = session_of(
        backend, world, program, initial_parameters(program, 2), snnx.SDT(decay=0.9), steps=4
    )
    x = uniform(6, "test", "block", 0, [0], [0], 3 * 32).reshape(3, 4, 4, 2)
    batch = {"x": 2 * x, "y": np.arange(3), "index": np.arange(3)}
    own, _ = world.share(3)
    spikes = {}
    for step in program.spiking:
        u = uniform(6, "test", step.path, 0, [0], [0], 4 * 3 * int(np.prod(step.shape)))
        spikes[step.path] = (u.reshape(4, 3, *step.shape) < 0.4).astype(np.float32)[:, own]
    given = share_of(world, batch, True)
    loss, found = session.grads(given, {}, train_mode(program), impose=spikes)
    return {"loss": np.asarray(loss), **found}


def updates(backend: Backend, world: World, name: str, **form: Any) -> Found:
    """Three updates in smooth mode, the second in two micro-batches: all that is kept."""
    net, program, losses = _net(name), program_of(name), []
    optim = Optim(snnx.Adam(0.002, eps=1e-3), clip_norm=1.0)
    session = _zoo_session(backend, world, name, optim=optim, **form)
    for step in range(3):
        batch = net.batch(program, step)
        cuts = [slice(0, 3), slice(3, 4)] if step == 1 else [slice(0, 3 + step % 2)]
        parts = [
            share_of(
                world,
                {k: v[:, cut] if k == "x" and not net.static else v[cut] for k, v in batch.items()},
                net.static,
            )
            for cut in cuts
        ]
        figures = session.read(session.step(parts, {"step": step, "seed": 3}, SMOOTH))
        losses.append([figures["loss"], figures["gradient_norm"]])
        assert figures["samples"] == sum(cut.stop - cut.start for cut in cuts)
    kept = session.export()
    return {
        "losses": np.array(losses),
        **{f"parameter {k}": v for k, v in kept.parameters.items()},
        **{f"moment {k}": v for k, v in kept.moments.items()},
        **{f"statistic {k}": v for k, v in kept.statistics.items()},
    }


def again(backend: Backend, world: World) -> Found:
    """Whether updates whose ranges are computed again have the bits of those that kept them."""
    same = {}
    for name, form in (("residual", {}), ("residual", {"lean": True}), ("conv", {"chunk": 2})):
        kept = updates(backend, world, name, **form)
        found = updates(backend, world, name, recompute=3, **form)
        assert kept.keys() == found.keys()
        equal = [np.array_equal(kept[k], v, equal_nan=True) for k, v in found.items()]
        same[f"{name} {' '.join(form)}"] = np.array(equal)
    return same


def rounded(backend: Backend, world: World, index: int) -> Found:
    """Certified updates on a grid: weights, bit for bit the same in any number of processes."""
    net, rule = ROUNDED[index]
    program = flatten(net.model)
    session = session_of(
        backend, world, program, net.parameters(program), OBJECTIVE, Optim(rule), steps=net.steps
    )
    for step in range(ROUNDED_STEPS):
        batch = share_of(world, net.batch(program, step), net.static)
        session.read(session.step([batch], {"step": step}))
    return dict(session.export().parameters)


def masks(backend: Backend, world: World) -> Found:
    """ASGL's mixed spikes on dyadic numbers: masks and gradients bit for bit."""
    surrogate = snnx.Rectangular(snnx.Learned(2.0, "channel", low=0.5))
    neuron = snnx.LIF(decay=0.5, analog=snnx.Dial("analog", 0.5), surrogate=surrogate)
    model = snnx.Chain(snnx.Input(6), snnx.Linear(8), neuron, snnx.Linear(4))
    program = flatten(model)
    parameters = {k: np.round(8 * v) / 4 for k, v in initial_parameters(program, 3).items()}
    session = session_of(backend, world, program, parameters, OBJECTIVE, steps=2)
    u = uniform(6, "test", "masks", 0, [0], [0], 2 * 4 * 6).reshape(2, 4, 6)
    batch = {"x": (u < 0.5).astype(np.float32), "y": np.arange(4), "index": 3 + np.arange(4)}
    mode = Mode("mixed", "batch", True, "train")
    given = share_of(world, batch, False)
    _, found = session.grads(given, {"seed": 1, "step": 5}, mode)
    seen = session.forward(given, {"seed": 1, "step": 5}, mode, ["2.spike"]).taps["2.spike"]
    whole = np.zeros((2, 4, 8))
    own, share = world.share(4)
    whole[:, own] = seen if share[0] else 0
    return {"spikes": world.gather(whole).sum(0), **found}


def thresholds(backend: Backend, world: World) -> Found:
    """DSR's learned thresholds on dyadic numbers: gradients and two updates bit for bit."""
    layer = snnx.DSR.integrate_and_fire(threshold=0.125)
    program = flatten(snnx.Chain(snnx.Input(6), snnx.Linear(8), layer, snnx.Linear(4)))
    parameters = {k: np.round(8 * v) / 4 for k, v in initial_parameters(program, 3).items()}
    optim = Optim(RoundedSGD(0.5, 2.0**-4))
    session = session_of(backend, world, program, parameters, OBJECTIVE, optim, steps=4)
    u = uniform(6, "test", "thresholds", 0, [0], [0], 4 * 4 * 6).reshape(4, 4, 6)
    x, y = (u < 0.5).astype(np.float32), np.arange(4)
    given = share_of(world, {"x": x, "y": y, "index": y}, False)
    _, found = session.grads(given, {}, train_mode(program))
    for step in range(2):
        session.read(session.step([given], {"step": step}))
    return {**found, **{f"new {k}": v for k, v in session.export().parameters.items()}}


def by_process(backend: Backend, world: World) -> Found:
    """Norms that are not synchronised: each process' own statistics, the running ones' mean."""
    net, program = _net("conv"), program_of("conv")
    session = _zoo_session(backend, world, "conv", sync_norm=False)
    batch = share_of(world, net.batch(program), net.static)
    figures = session.read(session.step([batch], COUNTERS, SMOOTH))
    return {"loss": np.asarray(figures["loss"]), **session.export().statistics}


def agreement(backend: Backend, world: World) -> Found:
    """A step that is not finite in one share alone, then one in which rank 0 votes."""
    net, program = _net("conv"), program_of("conv")
    session = _zoo_session(backend, world, "conv")
    before = session.export().parameters
    batch = net.batch(program)
    bad = {**batch, "x": batch["x"].copy()}
    bad["x"][-1] = np.inf  # of the last rank
    refused = 0
    try:
        with np.errstate(all="ignore"):
            session.read(session.step([share_of(world, bad, net.static)], COUNTERS))
    except FloatingPointError:
        refused = 1
    after = session.export()
    same = all(np.array_equal(before[k], v) for k, v in after.parameters.items())
    given = share_of(world, batch, net.static)
    votes = session.read(session.step([given], COUNTERS, vote=world.rank == 0))["votes"]
    return {
        "refused": world.gather(np.array(refused)).min(),
        "same": np.array(same),
        "count": np.array(after.count),
        "votes": np.array(votes),
    }


def evaluation(backend: Backend, world: World) -> Found:
    """Accuracy, loss and rates of 23 samples in batches of 4."""
    net, program = _net("conv"), program_of("conv")
    x = uniform(6, "test", "data", 0, [0], [0], 23 * 64).reshape(23, 8, 8, 1)
    data = Dataset(x, np.arange(23) % 5, x, np.arange(23) % 5, name="made up")
    session = _zoo_session(backend, world, "conv")
    found = evaluate(
        session, program, net.objective, data, batch_size=4, steps=net.steps, world=world
    )
    return {
        "figures": np.array([found.accuracy, found.loss, found.samples]),
        "rates": np.array(list(found.rates.values())),
        "per_class": np.array(found.per_class),
    }


def batches(backend: Backend, world: World) -> Found:
    """The samples of two epochs in the order in which all processes together see them."""
    x = np.arange(23, dtype=np.float32)[:, None]
    data = Dataset(x, np.arange(23) % 5, x, np.arange(23) % 5, name="made up")
    source = Batches(data, "train", 5, seed=3, world=world, micro=2)
    rows = []
    for epoch in range(2):
        for parts in source.steps(epoch):
            for part in parts:
                whole = np.full(5, -1, np.int64)
                count, total = part.get("share", (len(part["index"]),) * 2)
                whole[:count] = part["index"][:count]
                seen = world.gather(whole).ravel()
                row = np.full(5, -1)
                row[:total] = seen[seen >= 0]
                rows.append(row)
    return {"seen": np.array(rows)}


EXACT: dict[str, Callable[[Backend, World], Found]] = {
    **{f"rounded {i}": (lambda b, w, i=i: rounded(b, w, i)) for i in range(len(ROUNDED))},
    "masks": masks,
    "thresholds": thresholds,
    "evaluation": evaluation,
    "batches": batches,
}
CLOSE: dict[str, Callable[[Backend, World], Found]] = {
    **{f"updates {name}": (lambda b, w, name=name: updates(b, w, name)) for name in NETS},
    "block": block,
    "lean residual": lambda b, w: updates(b, w, "residual", lean=True),
    "chunks conv": lambda b, w: updates(b, w, "conv", chunk=2),
}
OTHERS = {"agreement": agreement, "local": by_process, "again": again}
GRADIENTS = {
    f"{'smooth' if smooth else 'imposed'} {name} {n}": (name, n, smooth)
    for name in NETS
    for n in (4, 3)
    for smooth in (False, True)
}


def everything(backend: Backend, world: World) -> Found:
    """Return all that several processes compute, by "case: array"."""
    found: Found = {}
    for name, compute in {**EXACT, **CLOSE, **OTHERS}.items():
        with world.waiting(name):
            found |= {f"{name}: {k}": np.asarray(v) for k, v in compute(backend, world).items()}
    for name, row in GRADIENTS.items():
        with world.waiting(name):
            found |= {f"{name}: {k}": v for k, v in gradients(backend, world, *row).items()}
    return found
