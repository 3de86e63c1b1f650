"""What a training step costs on this machine: time, memory and samples per second, by form.

A form is how the step is run: `lean` or not, compiled or not. Before a form is timed, a few samples
are compared with the float64 reference: the spikes it decides by itself, each by the reference's
potential at the spikes before it, and loss and gradients with the reference's spikes imposed on
both (`snnx.ops.levels`); a form that disagrees has no time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from snnx.backend import Backend, Batch, Session, load_backend
from snnx.batch import dial_values
from snnx.building import initial_parameters
from snnx.data import Batches
from snnx.mode import train_mode
from snnx.ops.levels import FIRST_FLIP, NETWORK_GRADIENT
from snnx.program import Step
from snnx.training.plan import Plan

CHECKED = 2  # samples whose gradients are compared
WARM = 5  # steps before one is timed: a backend may record the fourth
# How far from its threshold, relative to the layer's largest potential, rounding may decide a spike
MARGIN = {"fp64": FIRST_FLIP, "fp32": FIRST_FLIP, "tf32": 1e-2, "bf16": 5e-2}
SMALLEST = 1e-2
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Form:
    """How a step is run; None leaves the choice to the backend."""

    lean: bool | None = None
    compile: bool | None = None

    @property
    def name(self) -> str:
        """What a table calls it."""
        words = {True: "lean", False: "keep", None: ""}[self.lean]
        more = {True: "compiled", False: "uncompiled", None: ""}[self.compile]
        return " ".join(word for word in (words, more) if word) or "default"


FORMS = tuple(Form(lean, compiled) for compiled in (False, True) for lean in (False, True))


@dataclass(frozen=True, slots=True)
class Cost:
    """The figures of one form; seconds None where its numbers are not those of the reference.

    `misfired` spikes are not the reference's; `runs` is how the session says that a step runs.
    """

    backend: str
    form: str
    error: float
    allowed: float
    misfired: int = 0
    first_step: float | None = None
    step: float | None = None
    spread: float | None = None
    loop: float | None = None
    samples_per_second: float | None = None
    peak_bytes: int | None = None
    graphs: int = 0
    runs: str = ""

    def values(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def bench(
    plan: Plan, dataset: Any, form: Form, repeats: int = 20, clock: Clock = time.perf_counter
) -> Cost:
    """Return what a step of the plan costs in one form.

    first_step holds the compilation; step is the median of `repeats` steps on one batch, spread the
    distance of its quartiles; loop the median per step with the batches of an epoch read as a run
    reads them. Seconds.
    """
    plan = replace(plan, lean=form.lean, compile=form.compile)
    backend = load_backend(plan.backend)
    batches = Batches(dataset, "train", plan.batch_size, plan.seed, drop_last=True)
    batch = next(iter(batches.epoch(0)))
    checked = few(batch, CHECKED, len(dataset.features))
    error, misfired = disagreement(plan, backend, checked), misfiring(plan, backend, checked)
    allowed = NETWORK_GRADIENT[plan.precision]
    row = Cost(backend.name, form.name, error, allowed, misfired)
    if misfired or not error <= allowed:
        return row
    session = _session(plan, backend)
    backend.peak_bytes(reset=True)
    began = clock()
    _take(session, batch, 0)
    first = clock() - began
    for i in range(1, WARM):
        _take(session, batch, i)
    times = [_timed(session, [batch], WARM + i, clock) for i in range(repeats)]
    loop = _timed(session, _endless(batches), WARM + repeats, clock, repeats)
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    step = statistics.median(times)
    return replace(
        row,
        first_step=first,
        step=step,
        spread=quartiles[2] - quartiles[0],
        loop=loop,
        samples_per_second=len(batch["index"]) / step,
        peak_bytes=backend.peak_bytes(),
        graphs=session.compilations(),
        runs=session.step_form(),
    )


def few(batch: Batch, samples: int, axes: int) -> Batch:
    """Return the first samples of a batch, each of `axes` axes, with or without time."""
    found: Any = {k: v[:samples] for k, v in batch.items() if k != "x"}  # type: ignore[index]
    x = batch["x"]
    found["x"] = x[:, :samples] if x.ndim == axes + 2 else x[:samples]
    return found


def disagreement(plan: Plan, backend: Backend, batch: Batch) -> float:
    """Return the largest error of loss and gradients at the reference's spikes, relative.

    A gradient's error is that over its largest value, or over SMALLEST of the largest of the net: a
    bias in front of a norm has a gradient of rounding alone.
    """
    program, mode = plan.program(), train_mode(plan.program())
    oracle, dials = _oracle(plan), _dials(plan)
    paths = [step.path for step in program.spiking]
    seen = oracle.forward(batch, dials, mode, [f"{path}.spike" for path in paths])
    impose = {path: seen.taps[f"{path}.spike"] for path in paths}
    wanted_loss, wanted = oracle.grads(batch, dials, mode, impose=impose)
    loss, found = _session(plan, backend).grads(batch, dials, mode, impose=impose)
    errors = [abs(loss - wanted_loss) / max(abs(wanted_loss), 1e-30)]
    most = {path: float(np.abs(g).max()) for path, g in wanted.items()}
    least = SMALLEST * max(most.values(), default=0.0)
    for path, g in wanted.items():
        if most[path] > 0.0:
            errors.append(float(np.abs(found[path] - g).max()) / max(most[path], least))
    return float(np.max(errors))


def misfiring(plan: Plan, backend: Backend, batch: Batch) -> int:
    """Return how many spikes of a free run are not what the reference's potentials say.

    The reference gets the run's own spikes in every layer, so that one decision changes no other;
    a potential within MARGIN of its threshold may fall on either side.
    """
    program, dials = plan.program(), _dials(plan)
    mode = replace(train_mode(program), fire="spike")
    taps = {step.path: _spikes_at(step) for step in program.spiking}
    seen = _session(plan, backend).forward(batch, dials, mode, list(taps.values())).taps
    spikes = {path: (seen[tap] != 0.0) * 1.0 for path, tap in taps.items()}
    names = {path: f"{path}.potential" for path in taps}
    wanted = _oracle(plan).forward(batch, dials, mode, list(names.values()), impose=spikes).taps
    wrong = 0
    for path, name in names.items():
        far = np.abs(wanted[name])
        apart = (wanted[name] >= 0.0) != (spikes[path] != 0.0)
        wrong += int(np.sum(apart & ~(far <= MARGIN[plan.precision] * far.max())))
    return wrong


def _spikes_at(step: Step) -> str:
    """Return the tap of a step's spikes: its output, by the kernels of a run, where it has them."""
    own = step.op == "rate_neuron" or step.attributes["neuron"].trace().emits_spike
    return step.output if own else f"{step.path}.spike"


def _dials(plan: Plan) -> dict[str, Any]:
    values = dial_values(plan.program(), plan.optim)
    return {**values, "seed": plan.seed, "step": 0, "epoch": 0}


def _oracle(plan: Plan) -> Session:
    fixed: dict[str, Any] = {"precision": "fp64", "device": None, "compile": False, "graph": None}
    return _session(replace(plan, **fixed, lean=False, kernels="auto"), load_backend("numpy"))


def _session(plan: Plan, backend: Backend) -> Session:
    program = plan.program()
    values = initial_parameters(program, plan.seed)
    net = backend.build(program, values, **plan.build_options())
    more = {"steps": plan.steps, "compile": plan.compile, "graph": plan.graph}
    more["deterministic"] = plan.deterministic
    return backend.session(net, plan.objective, plan.optim, **more)


def _endless(batches: Batches) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from batches.epoch(epoch)
        epoch += 1


def _take(session: Session, batch: Batch, step: int) -> Mapping[str, float]:
    return session.read(session.step([batch], {"step": step}))


def _timed(session: Session, batches: Any, step: int, clock: Clock, repeats: int = 1) -> float:
    """Return the seconds of a step, mean over `repeats`; only the last one is waited for."""
    source = iter(batches)
    began = clock()
    pending = None
    for i in range(repeats):
        pending = session.step([next(source)], {"step": step + i})
    session.read(pending)
    return (clock() - began) / repeats
