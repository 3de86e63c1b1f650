"""A program made ready to be played: what is static under one `Run`, found once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from snnx.mode import Run, draw_purpose, needed_steps, op_attributes
from snnx.passes import further_outputs, lean_form
from snnx.program import Parameter, Program, Step
from snnx.random import key_hash
from snnx.recompute import ranges
from snnx_torch.kernels.neuron import known
from snnx_torch.kernels.pair import known as known_pair
from snnx_torch.ops import RULES, Rule
from snnx_torch.scan import planned

if TYPE_CHECKING:
    from snnx_torch.capture import Side

SIDED = ("conv2d", "linear", "recurrent")  # whose weights have gradients that nothing waits for
UNRULED = ("array_layer",)  # what the executor runs without a rule
UNIT = {"norm_neuron": known_pair}  # under what name a step's kernels are known
# the inputs that are 16 bits where activations are; weights are rounded where they are used
LOWERED = {"conv2d": ("x",), "linear": ("x",), "rate_block": ("x", "skip")}


@dataclass(frozen=True, slots=True)
class Draw:
    """For what a step draws, and under which key; `share` is a rate that is no dial."""

    kind: str
    key: int
    counter: str
    per_step: bool
    share: float


@dataclass(frozen=True, slots=True)
class Play:
    """One step of the program, ready to run.

    `more`: further outputs by their names and the edges that they are. `lowers`: inputs that are
    16 bits where `low` is; `frees`: edges that nothing later reads.
    """

    op: str
    rule: Rule | None
    path: str
    output: str
    more: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str], ...]
    states: tuple[str, ...]
    attributes: dict[str, Any]
    draw: Draw | None
    analog: str | None
    statistics: tuple[tuple[str, str], ...]
    imposed: bool
    lowers: tuple[str, ...]
    frees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program under one `Run`. `low` is the dtype of stored activations where it is 16 bits."""

    plays: tuple[Play, ...]
    learned: tuple[tuple[str, str | None], ...]
    dials: tuple[str, ...]
    source: str
    result: str
    at: str | None
    low: torch.dtype | None
    taps: tuple[str, ...]
    ranges: tuple[tuple[int, int], ...]


def prepare(
    program: Program,
    how: Run,
    *,
    at: str | None = None,
    low: torch.dtype | None = None,
    taps: Collection[str] = (),
    lean: bool = False,
    kernels: str = "auto",
    recompute: int | None = None,
    side: Side | None = None,
    hand_over: bool = True,
) -> Prepared:
    """Return the program under `how`, for any number of steps; `taps` are edges to return.

    `lean` chooses the form that keeps least for the backward pass: norm, residual and neuron as one
    step that is computed again, and spikes as bits. `kernels` is what runs neurons;
    `recompute` is that of `snnx.recompute`; `side` takes the gradients of weights. Without
    `hand_over` no state is taken or returned, for a sequence that is run whole.
    """
    if lean:
        program = lean_form(program, how, taps, at)
    stats = {s.path for s in program.statistics}
    steps = needed_steps(program, at)
    last = {ref: i for i, step in enumerate(steps) for ref in step.inputs.values()}
    lasting = {program.result, *taps}
    edges = [*program.edges, *(e for step in steps for e in further_outputs(step).values())]
    plays = []
    for i, step in enumerate(steps):
        inputs = tuple((n, ref) for n, ref in step.inputs.items() if n != "analog")
        attributes = op_attributes(step, how, how.steps)
        if "neuron" in attributes:
            attributes |= {"plan": planned(attributes), "implementation": kernels}
            attributes["unit"] = UNIT.get(step.op, known)(attributes["plan"], tuple(step.inputs))
            attributes["hand_over"] = hand_over
        more = further_outputs(step)
        if more or "packed" in attributes:
            attributes["implementation"] = kernels
        if step.op in SIDED:
            attributes["side"] = side
        draw = _draw_of(step, how)
        skipped = step.op in UNRULED or (step.op == "dropout" and draw is None)
        rule = None if skipped else RULES[step.op]
        plays.append(
            Play(
                step.op,
                rule,
                step.path,
                step.output,
                tuple(more.items()),
                inputs,
                tuple(name for name, _ in step.states) if hand_over else (),
                attributes,
                draw,
                step.inputs.get("analog"),
                tuple((n, ref) for n, ref in inputs if ref in stats),
                step.path in how.imposed,
                LOWERED.get(step.op, ()) if low is not None else (),
                tuple(e for e in edges if last.get(e) == i and e not in lasting),
            )
        )
    transforms = tuple((p.path, _transform(p)) for p in program.parameters)
    dials = tuple(program.dials)
    ends = (program.source, program.result, at)
    return Prepared(
        tuple(plays), transforms, dials, *ends, low, tuple(taps), ranges(steps, recompute)
    )


def _transform(parameter: Parameter) -> str | None:
    return None if parameter.learned is None else parameter.learned.transform


def _draw_of(step: Step, how: Run) -> Draw | None:
    purpose = draw_purpose(step, how)
    if purpose is None:
        return None
    kind = purpose.removeprefix("eval ")
    share = 0.0
    if kind == "dropout":
        share = float(step.attributes["rate"])
    elif kind == "analog" and "analog" not in step.inputs:
        share = float(step.attributes["neuron"].analog)
    counter = "epoch" if purpose.startswith("eval ") else "step"
    per_step = step.attributes.get("per_step", True)
    return Draw(kind, key_hash(purpose, step.path), counter, per_step, share)
