"""Mark the steps that may keep a binary input as bits for their backward pass, and who makes them.

Marked are conv2d and linear steps, and norm_neuron steps by their residual, that read an edge of
values 0 or one scale: a neuron's hard spikes, also through max pooling and flattening. The
attribute "packed" ("residual_packed") tells what the scale is: "unit" 1, "layer" one number,
"channel" one number per channel. A sum of spikes, an average and the outputs of mixed or smooth
mode are not binary and are never marked; nor is a scale per neuron, or one per channel flattened.

The bits are part of the edge's value, under a name of their own that all its readers share: input
"x_bits" ("residual_bits") of a reader is "EDGE:bits", further output "bits" of the step that made
the edge, whose attribute "emits" says so. A flattened edge has the bits of what it flattens. A
scale that is not 1 is "x_scale", "EDGE:scale", further output "scale" of the neuron, whose
attribute "emits_scale" is the list that computes it from the neuron's numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from snnx.program import Program, Step
from snnx.scalars import Learned
from snnx.trace import Line, Lines, Ref, Trace

KEPT = {"conv2d": ("x", "packed"), "linear": ("x", "packed")}
KEPT |= {"norm_neuron": ("residual", "residual_packed")}


def mark_packed(
    program: Program, analog: Collection[str] = (), given: Collection[str] = ()
) -> Program:
    """Return the program with its binary inputs marked.

    `analog` are neurons that do not fire hard, `given` edges whose values come from outside.
    """
    made = {step.output: step for step in program.steps if step.output not in given}
    emits: dict[str, dict[str, Any]] = {}
    steps = []
    for step in program.steps:
        name, attribute = KEPT.get(step.op, ("", ""))
        scale = _scale(step.inputs[name], program, made, analog) if name in step.inputs else None
        if attribute == "residual_packed" and "residual_weight" in step.inputs:
            scale = None  # what a norm of its own reads is no spike
        if scale is not None:
            source = made[step.inputs[name]]
            while source.op == "flatten":
                source = made[source.inputs["x"]]
            emits.setdefault(source.output, {})["emits"] = True
            inputs = {**step.inputs, f"{name}_bits": f"{source.output}:bits"}
            if scale != "unit":
                neuron = source
                while "neuron" not in neuron.attributes:
                    neuron = made[neuron.inputs["x"]]
                lines = scale_lines(neuron.attributes["neuron"])
                emits.setdefault(neuron.output, {})["emits_scale"] = lines
                inputs[f"{name}_scale"] = f"{neuron.output}:scale"
            step = replace(step, inputs=inputs, attributes={**step.attributes, attribute: scale})
        steps.append(step)
    told = [
        replace(s, attributes={**s.attributes, **emits[s.output]}) if s.output in emits else s
        for s in steps
    ]
    return replace(program, steps=tuple(told))


def further_outputs(step: Step) -> dict[str, str]:
    """Return the edges that a step makes beside its output, by the names of its outputs."""
    found = {"bits": "emits", "scale": "emits_scale"}
    return {n: f"{step.output}:{n}" for n, key in found.items() if step.attributes.get(key)}


def scale_lines(neuron: Any) -> Lines:
    """Return the list that computes "scale", what a neuron emits where "spike" is 1."""
    trace: Trace = neuron.trace()
    y = dict(trace.outputs)["y"]
    needed, lines = {y}, []
    for line in reversed(trace.lines):
        if line.out in needed:
            needed.update(line.args)
            lines.append(line)
    inputs = tuple(n for n in ("spike", *trace.inputs) if n in needed)
    return Lines(inputs, tuple(reversed(lines)), (("scale", y),))


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
