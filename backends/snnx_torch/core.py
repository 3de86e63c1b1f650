"""The pure core: a program run on tensors. Autograd differentiates it.

What is static (rules, attributes, plans, keys of random bits) is prepared once per `Run`; `play`
then touches tensors only, so that one graph holds the whole program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnx.batch import check_state
from snnx.mode import NORMS, Run, draw_purpose, needed_steps, op_attributes
from snnx.passes import fuse_norm_neuron, mark_packed
from snnx.program import Parameter, Program, Step
from snnx.random import key_hash
from snnx.recompute import ranges
from snnx_torch import draws
from snnx_torch.array_layer import array_layer
from snnx_torch.kernels.neuron import known
from snnx_torch.kernels.pair import known as known_pair
from snnx_torch.ops import RULES, Rule
from snnx_torch.ranks import Share
from snnx_torch.recompute import again
from snnx_torch.sequence import planned

PRODUCT = ("x", "weight", "bias")
# the inputs that are 16 bits where activations are; a block rounds its weights itself
UNIT = {"norm_neuron": known_pair}  # under what name a step's kernels are known
LOWERED = {"conv2d": PRODUCT, "linear": PRODUCT, "rate_block": ("x", "skip")}
Tensors = Mapping[str, Tensor]
State = Mapping[str, Any]


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

    `lowers`: inputs that are 16 bits where `low` is; `frees`: edges that nothing later reads.
    """

    op: str
    rule: Rule | None
    path: str
    output: str
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


@dataclass(slots=True)
class Result:
    """What a run returns; `edges` and `observed` hold what was asked for."""

    y: Tensor
    state: dict[str, Any]
    statistics: dict[str, Tensor]
    edges: dict[str, Tensor]
    observed: dict[str, Tensor]


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
) -> Prepared:
    """Return the program under `how`, for any number of steps; `taps` are edges to return.

    `lean` chooses the form that keeps least for the backward pass: norm, residual and neuron as one
    step that is computed again, and spikes as bits. `kernels` is what runs neurons;
    `recompute` is that of `snnx.recompute`.
    """
    if lean:
        program = fuse_norm_neuron(program, keep={*taps, *(() if at is None else (at,))})
        fires = {s.path: op_attributes(s, how, how.steps)["fire"] for s in program.spiking}
        program = mark_packed(program, {path for path, fire in fires.items() if fire != "spike"})
    stats = {s.path for s in program.statistics}
    steps = needed_steps(program, at)
    last = {ref: i for i, step in enumerate(steps) for ref in step.inputs.values()}
    lasting = {program.result, *taps}
    plays = []
    for i, step in enumerate(steps):
        inputs = tuple((n, ref) for n, ref in step.inputs.items() if n != "analog")
        attributes = op_attributes(step, how, how.steps)
        if "neuron" in attributes:
            attributes |= {"plan": planned(attributes), "implementation": kernels}
            attributes["unit"] = UNIT.get(step.op, known)(attributes["plan"], tuple(step.inputs))
        draw = _draw_of(step, how)
        skipped = step.op == "dropout" and draw is None
        plays.append(
            Play(
                step.op,
                None if skipped or step.op == "array_layer" else RULES[step.op],
                step.path,
                step.output,
                inputs,
                tuple(name for name, _ in step.states),
                attributes,
                draw,
                step.inputs.get("analog"),
                tuple((n, ref) for n, ref in inputs if ref in stats),
                step.path in how.imposed,
                LOWERED.get(step.op, ()) if low is not None else (),
                tuple(e for e in program.edges if last.get(e) == i and e not in lasting),
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


def learned_value(raw: Tensor, transform: str | None) -> Tensor:
    """Return the value of a learned number from its raw tensor."""
    if transform == "log":
        return raw.exp()
    return raw.sigmoid() if transform == "logit" else raw


def play(
    prepared: Prepared,
    parameters: Tensors,
    statistics: Tensors,
    x: Tensor,
    state: State | None,
    dials: Tensors,
    index: Tensor,
    steps: int,
    *,
    impose: Tensors | None = None,
    values: Tensor | None = None,
    share: Share | None = None,
) -> Result:
    """Run a prepared program on x [T or 1, N, *F] for T = `steps`; pure: nothing is changed.

    `state` maps a spiking layer's path to its tuple of tensors, and "t" to the absolute time; None
    is rest. `dials` are 0-d tensors by name, "seed", "step" and "epoch" among them. `index` [N] are
    the samples' positions in their data set, for random draws. Norms of a `share` are those of the
    whole batch.
    """
    env: dict[str, Any] = {prepared.source: x}
    for path, transform in prepared.learned:
        env[path] = learned_value(parameters[path], transform)
    for name in prepared.dials:
        env[f"dial.{name}"] = dials[name]
    env.update(statistics)
    if prepared.at is not None and values is not None:
        env[prepared.at] = values
    if state is not None:
        check_state({i.path: len(i.states) for i in prepared.plays if i.states}, state)
    before: dict[str, Any] = {} if state is None else dict(state)
    start = before.get("t")
    times = torch.arange(steps, device=x.device)
    end = torch.full((), steps, dtype=torch.int64, device=x.device)
    if start is not None:
        start = torch.as_tensor(start, device=x.device)
        times, end = times + start, end + start
    result = Result(x, {"t": end}, dict(statistics), {}, {})

    def advance(items: Sequence[Play], env: dict[str, Any], result: Result) -> None:
        for item in items:
            inputs = {name: env[ref] for name, ref in item.inputs}
            for name, array in zip(item.states, before.get(item.path, ()), strict=False):
                inputs[f"state.{name}"] = array
            if item.draw is not None:
                _draw(item, item.draw, inputs, env, dials, index, times)
            if item.imposed and impose is not None:
                inputs["spike"] = impose[item.path]
            outputs = _outputs(item, inputs, steps, prepared.low, share)
            y = outputs["y"]
            env[item.output] = y if prepared.low is None else y.to(prepared.low)
            _keep(item, outputs, result)
            del inputs, outputs, y
            for edge in item.frees:
                del env[edge]

    *early, (begin, end) = prepared.ranges
    for first, stop in early:
        again(prepared.plays[first:stop], env, result, advance)
    advance(prepared.plays[begin:end], env, result)
    result.edges = {name: env[name] for name in prepared.taps}
    y = env[prepared.result]
    result.y = y.expand(steps, *y.shape[1:]) if y.shape[0] < steps else y
    return result


def _outputs(
    item: Play,
    inputs: dict[str, Any],
    steps: int,
    low: torch.dtype | None,
    share: Share | None,
) -> dict[str, Tensor]:
    attributes = item.attributes
    if "plan" in attributes:
        attributes = {**attributes, "steps": steps}
    elif item.op in NORMS:
        attributes = {**attributes, "repeat": steps if inputs["x"].shape[0] < steps else 1}
    if item.op in NORMS:
        attributes = {**attributes, "share": share}
    if item.rule is not None:
        if low is not None:
            inputs = {n: v.to(low) if n in item.lowers else v for n, v in inputs.items()}
        return item.rule(inputs, attributes)
    if item.op == "array_layer":
        return array_layer(attributes["layer"], inputs)
    return {"y": inputs["x"]}


def _draw(
    item: Play,
    draw: Draw,
    inputs: dict[str, Any],
    env: Mapping[str, Any],
    dials: Tensors,
    index: Tensor,
    times: Tensor,
) -> None:
    """Add a step's random input; every sample draws by its position, so copies share draws."""
    x = inputs["x"]
    features = x.shape[2:]
    if draw.kind == "analog":
        constant = torch.full((), draw.share, device=x.device)
        share = constant if item.analog is None else env[item.analog]
        inputs["mask"] = draws.Drawn(
            dials["seed"],
            draw.key,
            dials[draw.counter],
            index,
            times,
            share.to(torch.float32),
            x.shape[1] // index.shape[0],
            tuple(features),
        )
        return
    if not draw.per_step:
        times = torch.zeros(1, dtype=torch.int64, device=x.device)
    u = draws.uniform(dials["seed"], draw.key, dials[draw.counter], index, times, features.numel())
    u = u.reshape(times.shape[0], index.shape[0], *features)
    copies = x.shape[1] // index.shape[0]
    if copies > 1:
        u = u.repeat(1, copies, *[1] * len(features))
    if draw.kind == "encode":
        inputs["noise"] = u.to(x.dtype) if x.dtype == torch.float64 else u
    else:
        share = torch.full((), draw.share, dtype=torch.float32, device=u.device)
        inputs["mask"] = (u >= share).to(x.dtype)


def _keep(item: Play, outputs: Mapping[str, Tensor], result: Result) -> None:
    if item.states:
        result.state[item.path] = tuple(outputs[f"state.{name}"] for name in item.states)
    for name, ref in item.statistics:
        result.statistics[ref] = outputs[name]
    for name in ("spike", "potential"):
        if name in outputs:
            result.observed[f"{item.path}.{name}"] = outputs[name]
