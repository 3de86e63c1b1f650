"""Fuse a batch norm, the addition after it and the neuron that reads it into one step.

Fused is a neuron whose input is made by a batch_norm, or by an add of which at least one side is
made by a batch_norm, where nothing else reads what lies between. Where both sides are, the second
becomes the residual's own norm. The op is `snnx.ops.norm_neuron`; parameters and statistics stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from snnx.ops.norm_neuron import NORM_INPUTS
from snnx.program import Program, Step

FIELDS = ("eps", "momentum", "scale")


def fuse_norm_neuron(program: Program, keep: Collection[str] = ()) -> Program:
    """Return the program with every such group as one step; edges named in `keep` remain."""
    made = {step.output: step for step in program.steps}
    readers: dict[str, int] = {}
    for step in program.steps:
        for name in step.inputs.values():
            readers[name] = readers.get(name, 0) + 1
    lasting = {program.result, *keep}

    def maker(edge: str, op: str) -> Step | None:
        """Return the step that made an edge which only one step reads and nobody else wants."""
        step = made.get(edge)
        if step is None or step.op != op or readers[edge] > 1 or edge in lasting:
            return None
        return step

    found: dict[str, Step] = {}
    gone: set[str] = set()
    for step in program.steps:
        if step.op != "neuron":
            continue
        group = _group(step, maker)
        if group is not None:
            found[step.path], inside = group
            gone |= inside
    if not found:
        return program
    steps = tuple(found.get(s.path, s) for s in program.steps if s.output not in gone)
    edges = {name: edge for name, edge in program.edges.items() if name not in gone}
    return replace(program, steps=steps, edges=edges)


def _group(step: Step, maker: Callable[[str, str], Step | None]) -> tuple[Step, set[str]] | None:
    """Return the fused step of a neuron and the edges that it swallows, or None."""
    first, gone = maker(step.inputs["x"], "batch_norm"), {step.inputs["x"]}
    inputs, attributes = dict(step.inputs), dict(step.attributes)
    if first is None:
        total = maker(step.inputs["x"], "add")
        if total is None:
            return None
        sides = [total.inputs["a"], total.inputs["b"]]
        norms = [maker(edge, "batch_norm") for edge in sides]
        if norms[0] is None:  # a sum is the same either way round
            sides.reverse()
            norms.reverse()
        first, second = norms
        if first is None:
            return None
        gone.add(sides[0])
        inputs["residual"] = sides[1]
        if second is not None:
            gone.add(sides[1])
            _absorb(second, "residual_", inputs, attributes)
            inputs["residual"] = second.inputs["x"]
    _absorb(first, "", inputs, attributes)
    inputs["x"] = first.inputs["x"]
    return replace(step, op="norm_neuron", inputs=inputs, attributes=attributes), gone


def _absorb(norm: Step, branch: str, inputs: dict[str, str], attributes: dict[str, Any]) -> None:
    """Take a norm's arrays and attributes over under a branch's names."""
    inputs |= {f"{branch}{name}": norm.inputs[name] for name in NORM_INPUTS}
    attributes |= {f"{branch}{name}": norm.attributes[name] for name in FIELDS}
