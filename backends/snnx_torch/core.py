"""The pure core: a program run on tensors. Autograd differentiates it.

What is static (rules, attributes, plans, keys of random bits) is prepared once per `Run`
(`snnx_torch.prepare`); `play` then touches tensors only, so that one graph holds the whole program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnx.batch import check_state
from snnx.mode import NORMS
from snnx_torch import draws
from snnx_torch.array_layer import array_layer
from snnx_torch.emitting import emitted
from snnx_torch.prepare import Draw, Play, Prepared
from snnx_torch.ranks import Share
from snnx_torch.recompute import again

Tensors = Mapping[str, Tensor]
State = Mapping[str, Any]


@dataclass(slots=True)
class Result:
    """What a run returns; `edges` and `observed` hold what was asked for."""

    y: Tensor
    state: dict[str, Any]
    statistics: dict[str, Tensor]
    edges: dict[str, Tensor]
    observed: dict[str, Tensor]


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
            for name, edge in item.more:
                env[edge] = outputs.get(name)  # None where no gradient is taken
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
        found = item.rule(inputs, attributes)
        return emitted(found, inputs, attributes) if item.more else found
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
