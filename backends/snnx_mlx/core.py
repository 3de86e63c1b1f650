"""The pure core: a program run on MLX arrays; gradients are MLX's through the rules of its ops."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from snnx.array_layer import ArrayLayer
from snnx.batch import check_state
from snnx.mode import NORMS, Run, draw_purpose, needed_steps, op_attributes
from snnx.passes import further_outputs, lean_form
from snnx.program import Parameter, Program, Step
from snnx.recompute import ranges
from snnx_mlx import draws
from snnx_mlx.arrays import custom_op
from snnx_mlx.emitting import emitted
from snnx_mlx.namespace import xp
from snnx_mlx.ops import RULES
from snnx_mlx.ranks import Share
from snnx_mlx.recompute import again

Arrays = Mapping[str, mx.array]


@dataclass(slots=True)
class Result:
    """What `run` returns; state "t" is the absolute time as a uint32 array."""

    y: mx.array
    state: dict[str, Any]
    statistics: dict[str, mx.array]
    edges: dict[str, mx.array] = field(default_factory=dict)
    observed: dict[str, mx.array] = field(default_factory=dict)


def learned_value(parameter: Parameter, raw: mx.array) -> mx.array:
    """Return the value of a parameter from its raw array."""
    transform = None if parameter.learned is None else parameter.learned.transform
    if transform == "log":
        return mx.exp(raw)
    if transform == "logit":
        return 0.5 * (1.0 + mx.tanh(0.5 * raw))
    return raw


def run(
    program: Program,
    parameters: Arrays,
    statistics: Arrays,
    x: mx.array,
    state: Mapping[str, Any] | None,
    dials: Arrays,
    index: mx.array,
    how: Run,
    *,
    impose: Arrays | None = None,
    at: str | None = None,
    values: mx.array | None = None,
    precision: str = "fp32",
    lean: bool = False,
    kernels: str = "auto",
    taps: Collection[str] = (),
    share: Share | None = None,
    recompute: int | None = None,
    trains: bool = True,
    hand_over: bool = True,
) -> Result:
    """Run the program on x [T or 1, N, *F]; pure, so that it may stand inside grad and compile.

    `state` maps a spiking layer's path to its tuple of arrays, and "t" to the absolute time; None
    is rest. `dials` are 0-d arrays: float32, and uint32 for seed, step and epoch. `index` [N],
    uint32, are the samples' positions in their data set. Under precision "bf16" convolutions,
    linear maps and the activations after them are bfloat16; all else is float32. `taps` are edges
    to return. `lean` chooses the form that keeps least for the backward pass: norm, residual and
    neuron as one step that is computed again, and spikes as bits; `kernels` is what runs neurons
    (`snnx_mlx.kernels.implementation`). Norms of a `share` are those of the
    whole batch. `recompute` is that of `snnx.recompute`. Without `trains` no gradient is taken.
    Without `hand_over` the result has no states, and kernels write none.
    """
    if lean:
        program = lean_form(program, how, taps, at, trains)
    env: dict[str, Any] = {program.source: x}
    env |= {p.path: learned_value(p, parameters[p.path]) for p in program.parameters}
    env |= {f"dial.{name}": dials[name] for name in program.dials}
    env |= dict(statistics)
    if at is not None and values is not None:
        env[at] = values
    check_state({s.path: len(s.states) for s in program.steps if s.states}, state)
    before = dict(state or {})
    start = before.get("t", 0)
    start = start.astype(mx.uint32) if isinstance(start, mx.array) else _word(start)
    times = start + mx.arange(how.steps, dtype=mx.uint32)
    result = Result(x, {"t": start + _word(how.steps)}, dict(statistics))

    def advance(steps: Sequence[Step], env: dict[str, Any], result: Result) -> None:
        for step in steps:
            inputs = {name: env[ref] for name, ref in step.inputs.items() if name != "analog"}
            for (name, _), array in zip(step.states, before.get(step.path, ()), strict=False):
                inputs[f"state.{name}"] = array
            attributes = op_attributes(step, how, inputs["x" if "x" in inputs else "a"].shape[0])
            more = further_outputs(step)
            if "neuron" in attributes or "packed" in attributes or more:
                attributes["implementation"] = kernels
            if "neuron" in attributes:
                attributes |= {"hand_over": hand_over, "trains": trains}
            if step.op in NORMS and share is not None:
                attributes["share"] = share
            purpose = draw_purpose(step, how)
            if purpose is not None:
                _draw(step, inputs, attributes, env, dials, purpose, index, times)
            if attributes.get("fire") == "imposed" and impose is not None:
                inputs["spike"] = impose[step.path]
            if precision == "bf16" and step.op in ("conv2d", "linear"):
                low = {k: v.astype(mx.bfloat16) for k, v in inputs.items() if k != "x_bits"}
                inputs = {**inputs, **low}
            elif precision == "bf16" and step.op == "rate_block":  # it rounds its weights itself
                low = {n: inputs[n].astype(mx.bfloat16) for n in ("x", "skip") if n in inputs}
                inputs |= low
            if step.op == "dropout" and purpose is None:
                outputs = {"y": inputs["x"]}
            elif step.op == "array_layer":
                outputs = {"y": _array_layer(attributes["layer"], inputs)}
            else:
                outputs = RULES[step.op](inputs, attributes)
            if more:
                outputs = emitted(outputs, inputs, attributes)
            env[step.output] = outputs["y"]
            env.update({edge: outputs[name] for name, edge in more.items()})
            _keep(step, outputs, result, hand_over)

    steps = needed_steps(program, at)
    cuts = ranges(steps, recompute)
    for begin, end in cuts[:-1]:
        lasting = {program.result, *taps}
        again(steps[begin:end], steps[end:], lasting, env, result, advance, hand_over)
    advance(steps[cuts[-1][0] :], env, result)
    result.edges = {name: env[name] for name in taps}
    y = env[program.result].astype(mx.float32)
    result.y = mx.broadcast_to(y, (how.steps, *y.shape[1:])) if y.shape[0] < how.steps else y
    return result


def _word(value: int) -> mx.array:
    return mx.array(int(value) % 2**32, mx.uint32)


def _draw(
    step: Step,
    inputs: dict[str, Any],
    attributes: Mapping[str, Any],
    env: Mapping[str, Any],
    dials: Arrays,
    purpose: str,
    index: mx.array,
    times: mx.array,
) -> None:
    """Add a step's random input; every sample draws by its position, so copies share draws."""
    x = inputs["x"]
    copies = x.shape[1] // index.shape[0]
    count = dials["epoch"] if purpose.startswith("eval ") else dials["step"]
    if step.op == "dropout" and not attributes["per_step"]:
        times = mx.zeros(1, mx.uint32)
    size = math.prod(x.shape[2:])
    if step.op not in ("dropout", "poisson"):
        analog = attributes["neuron"].analog
        share = env[step.inputs["analog"]] if "analog" in step.inputs else mx.array(float(analog))
        place = (count, index, times, share, copies, tuple(x.shape[2:]))
        inputs["mask"] = draws.Drawn(dials["seed"], purpose, step.path, *place)
        return
    u = draws.uniform(dials["seed"], purpose, step.path, count, index, times, size)
    u = u.reshape(times.shape[0], index.shape[0], *x.shape[2:])
    u = mx.tile(u, (1, copies, *[1] * (x.ndim - 2))) if copies > 1 else u
    if step.op == "poisson":
        inputs["noise"] = u
    else:
        inputs["mask"] = (u >= attributes["rate"]).astype(x.dtype)


def _array_layer(layer: ArrayLayer, inputs: Arrays) -> mx.array:
    """Run a user's layer; its vjp, where it has one, is the gradient."""
    names = tuple(k for k in inputs if k != "x")

    def forward(x: mx.array, *values: mx.array) -> tuple[mx.array, ...]:
        return (layer.forward(xp, x, dict(zip(names, values, strict=True))),)

    def backward(given: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, *values = given
        named = dict(zip(names, values, strict=True))
        g_x, g = layer.vjp(xp, x, named, outputs[0], cotangents[0])
        if set(g) != set(names):
            raise ValueError(f"{type(layer).__name__}.vjp: gradients {sorted(g)}, not {names}")
        return (g_x, *(g[n] for n in names))

    function = custom_op(forward, backward) if layer.has_vjp else forward
    return function(inputs["x"], *(inputs[n] for n in names))[0]


def _keep(step: Step, outputs: Arrays, result: Result, hand_over: bool) -> None:
    if step.states and hand_over:
        result.state[step.path] = tuple(outputs[f"state.{name}"] for name, _ in step.states)
    for name, ref in step.inputs.items():
        if ref in result.statistics:
            result.statistics[ref] = outputs[name]
    for name in ("spike", "potential"):
        if name in outputs:
            result.observed[f"{step.path}.{name}"] = outputs[name]
