"""Mark the steps that may keep a binary input as bits for their backward pass.

Marked are conv2d and linear steps, and norm_neuron steps by their residual, that read an edge of
values 0 or one scale: a neuron's hard spikes, also through max pooling and flattening. The
attribute "packed" ("residual_packed") tells what the scale is: "unit" 1, "layer" one number,
"channel" one number per channel. A sum of spikes, an average and the outputs of mixed or smooth
mode are not binary and are never marked; nor is a scale per neuron, or one per channel flattened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from snnx.program import Program, Step
from snnx.scalars import Learned
from snnx.trace import Line, Ref, Trace

KEPT = {"conv2d": ("x", "packed"), "linear": ("x", "packed")}
KEPT |= {"norm_neuron": ("residual", "residual_packed")}


def mark_packed(program: Program, analog: Collection[str] = ()) -> Program:
    """Return the program with its binary inputs marked; `analog` are neurons not firing hard."""
    made = {step.output: step for step in program.steps}
    steps = []
    for step in program.steps:
        name, attribute = KEPT.get(step.op, ("", ""))
        scale = _scale(step.inputs[name], program, made, analog) if name in step.inputs else None
        if attribute == "residual_packed" and "residual_weight" in step.inputs:
            scale = None  # what a norm of its own reads is no spike
        if scale is not None:
            step = replace(step, attributes={**step.attributes, attribute: scale})
        steps.append(step)
    return replace(program, steps=tuple(steps))


def _scale(
    edge: str, program: Program, made: Mapping[str, Step], analog: Collection[str]
) -> str | None:
    """Return over what an edge has one scale, or None where it is not binary."""
    step = made.get(edge)
    if step is None or not program.edges[edge].binary or step.path in analog:
        return None
    if "neuron" in step.attributes:
        return _emitted(step.attributes["neuron"])
    if step.op == "poisson":
        return "unit"
    below = _scale(step.inputs["x"], program, made, analog) if "x" in step.inputs else None
    return None if step.op == "flatten" and below == "channel" else below


def _emitted(neuron: object) -> str | None:
    """Return the scale of a neuron's output by the numbers that it is multiplied with."""
    trace: Trace = neuron.trace()  # type: ignore[attr-defined]
    if trace.emits_spike:
        return "unit"
    lines = {line.out: line for line in trace.lines}
    scalars = neuron.scalars()  # type: ignore[attr-defined]
    shares = {"layer"}
    for name in _numbers(dict(trace.outputs)["y"], lines):
        scalar = scalars[name.removeprefix("p.")]
        if isinstance(scalar, Learned):
            shares.add(scalar.share)
    if "neuron" in shares:
        return None
    return "channel" if "channel" in shares else "layer"


def _numbers(ref: Ref, lines: Mapping[str, Line]) -> set[str]:
    """Return the numbers of the neuron on which a value depends."""
    if not isinstance(ref, str):
        return set()
    if ref.startswith("p."):
        return {ref}
    found: set[str] = set()
    for arg in lines[ref].args if ref in lines else ():
        found |= _numbers(arg, lines)
    return found
