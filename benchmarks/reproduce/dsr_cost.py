"""DSR's three backwards: what a training step of torch keeps and how long it takes, against T.

python benchmarks/reproduce/dsr_cost.py
"""

from __future__ import annotations

import statistics
import time
from itertools import product
from typing import Any

import torch
from common import (
    Record,
    Values,
    command,
    picture,
    provenance,
    reflow,
    table,
    verdict,
    verdicts,
)
from dsr import BACKWARDS, COLOURS, network, optimiser
from dsr import SETTINGS as TRAINED

import snnx
from snnx.analysis.style import horizontal_grid, label_ends
from snnx.backend import load_backend
from snnx.data import Batches, Dataset, load
from snnx.methods import DSRMethod
from snnx.models import MODELS
from snnx.program import flatten

CLAIM = "dsr_cost"
SETTINGS = {
    "T": [5, 10, 15, 20],
    "kinds": ["if", "lif"],
    "small_batch": 64,
    "preact_batch": 4,
    "preact_width": 0.125,
    "timed_steps": 9,
}
NETWORKS = {"small": "the small network", "preact": "PreAct-ResNet-18"}


def one_session(s: Values, name: str, kind: Any, backward: Any, steps: int) -> Any:
    """Return a torch session that trains a network with a backward."""
    method = DSRMethod(kind=kind, backward=backward).for_steps(steps)
    model = network(TRAINED["channels"])
    if name == "preact":
        size = {"input": (28, 28, 1), "width": s["preact_width"]}
        model = MODELS["preact_resnet18"](neuron=method.layer(), **size)
    program = method.program(flatten(method.rewrite(model)))
    net = snnx.build(program, "torch", seed=0, device="cpu")
    objective = method.objective(snnx.SDT())
    return load_backend("torch").session(net, objective, optimiser(TRAINED), steps=steps)


def kept_bytes(session: Any, batch: Any) -> int:
    """Return the bytes that autograd keeps in one training step: every storage once, no weights."""
    own = {p.untyped_storage().data_ptr() for p in session.parameters.values()}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        session.read(session.step([batch], {}))
    return sum(sizes.values())


def measured(s: Values, data: Dataset, name: str, kind: str, steps: int) -> Values:
    """Return kept bytes of every backward, and for IF the median CPU time of a step."""
    batch: Any = next(Batches(data, "train", s[f"{name}_batch"], shuffle=False).epoch(0))
    sessions = {b: one_session(s, name, kind, b, steps) for b in BACKWARDS}
    found: Values = {b: {"kept": kept_bytes(session, batch)} for b, session in sessions.items()}
    times: dict[str, list[float]] = {b: [] for b in BACKWARDS}
    for _ in range(s["timed_steps"] if kind == "if" else 0):
        for b, session in sessions.items():  # in turn: what disturbs one disturbs all
            began = time.process_time()
            session.read(session.step([batch], {}))
            times[b].append(time.process_time() - began)
    for b, each in times.items():
        if each:
            found[b]["milliseconds"] = round(1e3 * statistics.median(each), 2)
    return {**found, "kept_share": found["means"]["kept"] / found["released"]["kept"]}


def take(record: Record, options: Values) -> None:
    """Measure every network, kind of neuron and T."""
    s, data = record.settings, load("fashion-mnist")
    record.note_data(data)
    cells: list[tuple[str, str, int]] = list(product(NETWORKS, s["kinds"], s["T"]))
    for cell in cells:
        key = "{} {} T={}".format(*cell)
        record.run(key, lambda a=cell: measured(s, data, *a))


def cost(record: Record, name: str, kind: str, backward: str, what: str) -> list[float]:
    """Return a figure of a step at every T."""
    times = record.settings["T"]
    return [record.runs[f"{name} {kind} T={t}"][backward][what] for t in times]


def growth(record: Record, name: str, kind: str, backward: str, what: str = "kept") -> float:
    """Return a figure at the longest T over that at the shortest."""
    found = cost(record, name, kind, backward, what)
    return found[-1] / found[0]


def summary(record: Record) -> list[list[str]]:
    """Return claims, ours and verdicts."""
    s, rows = record.settings, []
    cells = list(product(NETWORKS, s["kinds"]))
    released = max(growth(record, n, k, "released") for n, k in cells)
    for backward, what in (("means", "exact"), ("cheap", "cheap")):
        worst = max(growth(record, n, k, backward) for n, k in cells)
        rows.append(
            [
                f"Kept bytes of the {what} backward, T = {s['T'][-1]} over T = {s['T'][0]}",
                "(this library's) within 10 %",
                f"at most {worst:.4f} (released rule: {released:.2f})",
                verdict(worst < 1.1),
            ]
        )
    return rows


def cost_table(record: Record, name: str, kind: str, what: str, scale: float, digits: int) -> str:
    """Return a figure of every backward at every T."""
    rows = []
    for b in BACKWARDS:
        found = [f"{scale * v:.{digits}f}" for v in cost(record, name, kind, b, what)]
        rows.append([b, *found, f"{growth(record, name, kind, b, what):.3f}"])
    times = record.settings["T"]
    head = [f"{kind.upper()} layers", *(f"T = {t}" for t in times)]
    return table([*head, f"{times[-1]} over {times[0]}"], rows)


def page(record: Record) -> str:
    """Return the page."""
    s = record.settings
    channels = ", ".join(map(str, TRAINED["channels"]))
    kept = {(n, k): cost_table(record, n, k, "kept", 1e-6, 3) for n in NETWORKS for k in s["kinds"]}
    timed = {n: cost_table(record, n, "if", "milliseconds", 1.0, 1) for n in NETWORKS}
    return reflow(
        f"""# DSR: what a step keeps and costs

The released rule differentiates every step of what lies between two DSR layers, so that torch
keeps each step's inputs. The exact backward (`method.backward=means`) keeps means over time and a
covariance per product instead, and `cheap` the means alone: what they keep must not grow with T.

{verdicts(summary(record))}

## Bytes kept between forward and backward

Megabytes that autograd keeps in one training step, the loss included and the weights aside, every
storage once. The small network of [the accuracies](dsr.md) ({channels} channels) with
{s["small_batch"]} images, IF and LIF:

{kept["small", "if"]}

{kept["small", "lif"]}

The paper's PreAct-ResNet-18 at width {s["preact_width"]} with {s["preact_batch"]} images of 28 x
28; every norm of it is merged with what it normalises, residual sums included:

{kept["preact", "if"]}

{kept["preact", "lif"]}

The few bytes by which T = {s["T"][-1]} differs from T = {s["T"][0]} are the weights of the steps,
T numbers a layer. A test holds the ratio below 1.1, with frames as input too, also for all tensors
that live when the backward begins, less the batch and the output.

![Kept bytes and time against T](dsr_cost.svg)

## Time of a step

Milliseconds of CPU time of a whole training step of IF layers (forward, backward, update; one
thread; median of {s["timed_steps"]}, the three in turn): first the small network, then
PreAct-ResNet-18.

{timed["small"]}

{timed["preact"]}

The forward of T steps is the same for all three. `means` adds the covariance to it, a
weight-gradient product of T steps for every convolution; its backward, as that of `cheap`, is that
of one step.

## What was reduced

Small batches, and for PreAct-ResNet-18 an eighth of the width: kept bytes are proportional to the
batch, but for the weights' covariances, so the ratios are those of a full batch or nearer to 1.
Only torch is measured: MLX is lazy and frees an array with its last use, so there is nothing to
hook. There each layer's output is made to wait for its means and covariances, so that the steps
they come from can go.

{provenance(record)}
"""
    )


def draw(record: Record) -> None:
    """Draw kept bytes and time of PreAct-ResNet-18 against T."""
    times = record.settings["T"]
    with picture(CLAIM) as figure:
        axes = figure.subplots(1, 2)
        for ax, what, scale, title in (
            (axes[0], "kept", 1e-6, "kept by a step, MB"),
            (axes[1], "milliseconds", 1.0, "CPU time of a step, ms"),
        ):
            ends = []
            for b, colour in COLOURS.items():
                found = [scale * v for v in cost(record, "preact", "if", b, what)]
                ax.plot(times, found, "o-", color=colour)
                ends.append((found[-1], b, colour))
            ax.set_ylim(bottom=0.0)
            ax.set_xticks(times)
            ax.set_title(title)
            ax.set_xlabel("T")
            horizontal_grid(ax)
            label_ends(ax, ends)


if __name__ == "__main__":
    command(CLAIM, SETTINGS, take, page, draw)
