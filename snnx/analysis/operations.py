"""Operation and parameter counts of a program, from its shapes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from snnx.program import Program, Shape, Step


@dataclass(frozen=True, slots=True)
class StepOperations:
    """What one step of a program costs for one sample at one time step.

    `macs` are the multiply-accumulates of its products; None where an `ArrayLayer` does not tell
    (`ArrayLayer.macs`). `binary` says that every such product is with 0 or one fixed number in
    "spike" mode, so that it is an addition made only where a spike came.
    """

    path: str
    layer: str
    op: str
    shape: Shape
    parameters: int
    macs: int | None
    binary: bool


def operations(program: Program) -> tuple[StepOperations, ...]:
    """Return the counts of every step, in the order of the program.

        conv2d       H' W' O k k I / groups
        linear       O I
        recurrent    F F                       (the feedback V y[t-1])

    A parameter is counted at the first step that uses it. Elementwise steps (norm, neuron, pool,
    sum) count no MACs: a norm folds into the product before it, the others only add.
    """
    counted: set[str] = set()
    return tuple(_count(program, step, counted) for step in program.steps)


def product_kind(program: Program, step: Step) -> str | None:
    """Return "conv2d", "linear" or "recurrent" for a step that multiplies by weights, else None."""
    if step.op == "rate_block":
        rank = len(program.parameter(step.inputs["weight"]).shape)
        return "conv2d" if rank == 4 else "linear"
    return step.op if step.op in ("conv2d", "linear", "recurrent") else None


def total_macs(counts: tuple[StepOperations, ...]) -> int | None:
    """Return the MACs of all steps, or None where those of some step are not known."""
    known = [c.macs for c in counts if c.macs is not None]
    return sum(known) if len(known) == len(counts) else None


def _count(program: Program, step: Step, counted: set[str]) -> StepOperations:
    own = {p.path: p for p in program.parameters if p.path in step.inputs.values()}
    size = sum(p.size for path, p in own.items() if path not in counted)
    counted.update(own)
    macs: int | None = 0
    kind = product_kind(program, step)
    if kind in ("conv2d", "linear"):  # a DSR block may hold the product of its other branch too
        names = [step.inputs[n] for n in ("weight", "skip_weight") if n in step.inputs]
        macs = sum(math.prod(step.shape) * math.prod(own[n].shape[1:]) for n in names)
    elif kind == "recurrent":
        macs = own[step.inputs["feedback"]].size
    elif step.op == "array_layer":
        macs = step.attributes["layer"].macs(program.edges[step.inputs["x"]].shape)
    edge = program.edges.get(step.inputs.get("x", ""))
    binary = kind in ("conv2d", "linear") and edge is not None and edge.binary
    if step.op == "recurrent":
        binary = program.edges[step.output].binary
    layer = step.layer or step.op
    return StepOperations(step.path, layer, step.op, step.shape, size, macs, binary)
