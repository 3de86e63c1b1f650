"""The pure core: a program run on NumPy arrays, and its backward pass by the spec's own vjps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnx import random
from snnx.batch import check_state
from snnx.mode import Run, draw_purpose, needed_steps, op_attributes
from snnx.ops import OPS
from snnx.program import Parameter, Program, Step

Arrays = Mapping[str, np.ndarray]


@dataclass(slots=True)
class Played:
    """One step as it ran: what its backward needs."""

    step: Step
    inputs: dict[str, np.ndarray]
    attributes: dict[str, Any]
    outputs: dict[str, np.ndarray]


@dataclass(slots=True)
class Result:
    """What `run` returns; `tape` holds the steps as they ran."""

    y: np.ndarray
    state: dict[str, Any]
    statistics: dict[str, np.ndarray]
    edges: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    tape: list[Played] = field(default_factory=list)


def learned_value(parameter: Parameter, raw: np.ndarray) -> np.ndarray:
    """Return the value of a parameter from its raw array."""
    transform = None if parameter.learned is None else parameter.learned.transform
    if transform == "log":
        return np.exp(raw)
    if transform == "logit":
        return 0.5 * (1.0 + np.tanh(0.5 * raw))
    return raw


def learned_gradient(parameter: Parameter, value: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the gradient of the raw array from that of the value."""
    transform = None if parameter.learned is None else parameter.learned.transform
    if transform == "log":
        return g * value
    if transform == "logit":
        return g * value * (1.0 - value)
    return g


def run(
    program: Program,
    parameters: Arrays,
    statistics: Arrays,
    x: np.ndarray,
    state: Mapping[str, Any] | None,
    dials: Mapping[str, Any],
    index: np.ndarray,
    how: Run,
    *,
    impose: Arrays | None = None,
    at: str | None = None,
    values: np.ndarray | None = None,
) -> Result:
    """Run the program on x [T or 1, N, *F]; pure: nothing is changed, nothing is kept.

    `state` maps a spiking layer's path to its tuple of arrays, and "t" to the absolute time; None
    is rest. `index` [N] are the samples' positions in their data set, for random draws.
    """
    dtype = x.dtype
    env: dict[str, Any] = {program.source: x}
    env |= {p.path: learned_value(p, parameters[p.path]) for p in program.parameters}
    env |= {f"dial.{name}": np.asarray(dials[name], dtype) for name in program.dials}
    env |= dict(statistics)
    if at is not None and values is not None:
        env[at] = values
    check_state({s.path: len(s.states) for s in program.steps if s.states}, state)
    before = dict(state or {})
    start = int(before.get("t", 0))
    times = (start + np.arange(how.steps)) % 2**32
    result = Result(x, {"t": start + how.steps}, dict(statistics), {}, {})
    for step in needed_steps(program, at):
        inputs = {name: env[ref] for name, ref in step.inputs.items() if name != "analog"}
        for (name, _), array in zip(step.states, before.get(step.path, ()), strict=False):
            inputs[f"state.{name}"] = array
        attributes = op_attributes(step, how, inputs["x" if "x" in inputs else "a"].shape[0])
        purpose = draw_purpose(step, how)
        if purpose is not None:
            _draw(step, inputs, attributes, env, dials, purpose, index, times)
        if attributes.get("fire") == "imposed" and impose is not None:
            inputs["spike"] = impose[step.path].astype(dtype)
        if step.op == "dropout" and purpose is None:
            outputs = {"y": inputs["x"]}
        elif step.op == "array_layer":
            rest = {k: v for k, v in inputs.items() if k != "x"}
            outputs = {"y": attributes["layer"].forward(np, inputs["x"], rest)}
        else:
            outputs = OPS[step.op].forward(np, inputs, attributes)
        env[step.output] = outputs["y"]
        _keep(step, outputs, result)
        result.tape.append(Played(step, inputs, attributes, outputs))
    result.edges = {name: env[name] for name in program.edges if name in env}
    y = env[program.result]
    result.y = np.broadcast_to(y, (how.steps, *y.shape[1:])) if y.shape[0] < how.steps else y
    return result


def _draw(
    step: Step,
    inputs: dict[str, Any],
    attributes: dict[str, Any],
    env: Mapping[str, Any],
    dials: Mapping[str, Any],
    purpose: str,
    index: np.ndarray,
    times: np.ndarray,
) -> None:
    """Add a step's random input; every sample draws by its position, so copies share draws."""
    x = inputs["x"]
    copies = x.shape[1] // len(index)
    count = dials["epoch"] if purpose.startswith("eval ") else dials["step"]
    if step.op == "dropout" and not attributes["per_step"]:
        times = np.zeros(1, np.int64)
    size = int(np.prod(x.shape[2:]))
    seed = int(dials["seed"])
    u = random.uniform(seed, purpose, step.path, int(count), index, times, size)
    u = np.tile(u.reshape(len(times), len(index), *x.shape[2:]), (1, copies, *[1] * (x.ndim - 2)))
    if step.op == "poisson":
        inputs["noise"] = u.astype(x.dtype)
    elif step.op == "dropout":
        inputs["mask"] = (u >= np.float32(attributes["rate"])).astype(x.dtype)
    else:
        analog = attributes["neuron"].analog
        share = env[step.inputs["analog"]] if "analog" in step.inputs else analog
        inputs["mask"] = u < np.float32(share)


def _keep(step: Step, outputs: Mapping[str, np.ndarray], result: Result) -> None:
    if step.states:
        result.state[step.path] = tuple(outputs[f"state.{name}"] for name, _ in step.states)
    for name, ref in step.inputs.items():
        if ref in result.statistics:
            result.statistics[ref] = outputs[name]
    for name in ("spike", "potential"):
        if name in outputs:
            result.observed[f"{step.path}.{name}"] = outputs[name]


def pull(program: Program, result: Result, g_y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradients of parameters (raw) and edges, from that of the output [T, N, *K]."""
    final = result.edges[program.result]
    g = np.sum(g_y, axis=0, keepdims=True) if final.shape[0] < g_y.shape[0] else g_y
    adjoint: dict[str, np.ndarray] = {program.result: g}
    for played in reversed(result.tape):
        step = played.step
        g = adjoint.get(step.output)
        if g is None:
            continue
        for name, term in _vjp(played, g).items():
            ref = step.inputs.get(name)
            if ref is not None:
                adjoint[ref] = adjoint[ref] + term if ref in adjoint else term
    for p in program.parameters:
        raw = adjoint.get(p.path)
        if raw is not None and p.learned is not None:
            used = next(q for q in result.tape if p.path in q.step.inputs.values())
            name = next(n for n, ref in used.step.inputs.items() if ref == p.path)
            adjoint[p.path] = learned_gradient(p, used.inputs[name], raw)
    return adjoint


def _vjp(played: Played, g: np.ndarray) -> dict[str, np.ndarray]:
    step, inputs = played.step, played.inputs
    if step.op == "dropout" and "mask" not in inputs:
        return {"x": g}
    if step.op == "array_layer":
        layer = played.attributes["layer"]
        if not layer.has_vjp:
            raise NotImplementedError(
                f"layer {step.path} {step.layer}: the numpy backend has no automatic "
                "differentiation; give the layer a vjp, or train it on torch or mlx"
            )
        rest = {k: v for k, v in inputs.items() if k != "x"}
        g_x, g_rest = layer.vjp(np, inputs["x"], rest, played.outputs["y"], g)
        return {"x": g_x, **g_rest}
    op = OPS[step.op]
    return op.vjp(np, inputs, played.attributes, played.outputs, {"y": g})
