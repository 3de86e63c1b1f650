"""Merge a product and its norm between two DSR layers into one step that needs no step of time.

Merged is every conv2d or linear whose only reader is a batch norm, all of whose readers are DSR
layers, so that its gradient is the same at every step; and whose input comes from the network's
input or from DSR layers of one decay through steps that act on each time step alike, so that only
the weighted sum of its gradient over time is asked for. A mean over time then stands for what every
step would have kept. Source: DSR Sec. 4; the op is `snnx.ops.rate_block`.
"""

from __future__ import annotations

from dataclasses import replace

from snnx.program import Program, Step

ALIKE = ("avg_pool2d", "global_avg_pool2d", "flatten", "add")  # linear, and the same at every step


def merge_rate_blocks(program: Program, covariance: bool = True) -> Program:
    """Return the program with every such pair as one step "rate_block"; parameters stay.

    covariance False drops the term of the weights' gradient in which input and norm vary together
    over time: another algorithm, which is cheaper.
    """
    readers: dict[str, list[Step]] = {}
    for step in program.steps:
        for name in step.inputs.values():
            readers.setdefault(name, []).append(step)
    made = {step.output: step for step in program.steps}
    edges, steps, merged = dict(program.edges), list[Step](), set[str]()
    for step in program.steps:
        if step.path in merged:
            continue
        norm = _norm_after(step, readers, program.result)
        decays = _decays(step.inputs["x"], made, program.source) if norm is not None else None
        if norm is None or decays is None or len(decays) > 1:
            steps.append(step)
            continue
        merged.add(norm.path)
        del edges[step.output]
        attributes = {**norm.attributes, **step.attributes, "covariance": covariance}
        attributes["decay"] = next(iter(decays), 1.0)
        own = {f"norm_{name}": norm.inputs[name] for name in ("weight", "bias")}
        own |= {name: norm.inputs[name] for name in ("running_mean", "running_var")}
        inputs = {**step.inputs, **own}
        steps.append(replace(norm, op="rate_block", inputs=inputs, attributes=attributes))
    return replace(program, steps=tuple(steps), edges=edges)


def _norm_after(step: Step, readers: dict[str, list[Step]], result: str) -> Step | None:
    after = readers.get(step.output, [])
    if step.op not in ("conv2d", "linear") or len(after) != 1 or after[0].op != "batch_norm":
        return None
    norm = after[0]
    above = readers.get(norm.output, [])
    rates = bool(above) and all(reader.op == "rate_neuron" for reader in above)
    return norm if rates and result not in (step.output, norm.output) else None


def _decays(edge: str, made: dict[str, Step], source: str) -> set[float] | None:
    """Return the decays of the DSR layers that an edge comes from, None where others are met."""
    if edge == source:
        return set()
    step = made[edge]
    if step.op == "rate_neuron":
        return {float(step.attributes["neuron"].decay)}
    if step.op not in ALIKE:
        return None
    found: set[float] = set()
    for name in ("x", "a", "b"):
        if name in step.inputs:
            inner = _decays(step.inputs[name], made, source)
            if inner is None:
                return None
            found |= inner
    return found
