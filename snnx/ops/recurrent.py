"""recurrent: a neuron whose output is fed back through a decaying synapse.

    c[t] = b c[t-1] + x[t] + V y[t-1],    y[t], state[t] = step(c[t], state[t-1], numbers)

b is `synapse_decay` (an input where learned or dialled, else an attribute); V is `feedback` [F, F].
Backward, with g_c and g_state of step t+1 on entry:

    g_y' = g_y[t] + V^T g_c[t+1];   g_cur, g_state = reverse(g_y', g_state)
    g_c = b g_c[t+1] + g_cur;   g_x[t] = g_c;   g_V += g_c y[t-1]^T;   g_b += sum(g_c c[t-1])

Source: ASGL A.4, discretised as exponential Euler with unit input gain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnx.lower import evaluate, forward_lines, reverse_lines
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample
from snnx.ops.neuron import (
    TOLERANCE,
    full,
    learned_names,
    numbers_of,
    operations,
    rest,
    stacked,
    sum_to,
)
from snnx.trace import Trace


def _run(
    xp: Any, trace: Trace, inputs: Arrays, attributes: Attributes
) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    x, feedback = inputs["x"], inputs["feedback"]
    lines = forward_lines(trace, attributes.get("fire", "spike"), attributes.get("observe", False))
    table, numbers = operations(xp), numbers_of(inputs)
    b = _decay(inputs, attributes)
    zero = xp.zeros_like(x[0, ...])
    state = rest(trace, x, inputs, xp)
    c, y = inputs.get("state.c", zero), inputs.get("state.y", zero)
    results, before = [], []
    for t in range(attributes.get("steps", x.shape[0])):
        before.append({**state, "state.c": c, "state.y": y})
        drive = x[t if x.shape[0] > 1 else 0, ...]
        c = b * c + drive + xp.matmul(y, xp.matrix_transpose(feedback))
        values = {**numbers, **state, "x": c}
        for name in ("mask", "spike"):
            if name in inputs:
                values[name] = inputs[name][t, ...]
        out = evaluate(lines, values, table)
        state = {n: out[n] for n in state}
        y = out["y"]
        results.append({**out, "c": c})
    return results, before


def _decay(inputs: Arrays, attributes: Attributes) -> Any:
    return inputs.get("synapse_decay", attributes.get("synapse_decay", 0.0))


def forward(xp: Any, inputs: Arrays, attributes: Attributes) -> dict[str, Array]:
    """Return y [T, N, F], the final synapse, output and states."""
    trace = attributes["neuron"].trace()
    results, _ = _run(xp, trace, inputs, attributes)
    last = results[-1]
    final = {f"state.{s}": last[f"state.{s}"] for s in trace.states}
    sequences = stacked(xp, results, attributes.get("observe", False))
    return {**sequences, "state.c": last["c"], "state.y": last["y"], **final}


def vjp(
    xp: Any, inputs: Arrays, attributes: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of x, feedback, the decay, the states and the learned numbers."""
    trace = attributes["neuron"].trace()
    x, feedback = inputs["x"], inputs["feedback"]
    results, before = _run(xp, trace, inputs, attributes)
    learned = learned_names(attributes)
    back = reverse_lines(trace, learned)
    table, numbers = operations(xp), numbers_of(inputs)
    zero = xp.zeros_like(x[0, ...])
    g_state = {f"g.state.{s}": cotangents.get(f"state.{s}", zero) for s in trace.states}
    g_next = zero  # what arrives at y[t] through the feedback of step t + 1
    g_c = cotangents.get("state.c", zero)
    g_last = cotangents.get("state.y", zero)
    g_feedback, g_decay = xp.zeros_like(feedback), zero
    g_numbers: dict[str, Array] = {}
    g_x: list[Array] = []
    for t in reversed(range(len(results))):
        last = t == len(results) - 1
        g_y = cotangents["y"][t, ...] + (g_last if last else g_next)
        values = {**numbers, **before[t], **g_state, "x": results[t]["c"]}
        values |= {"spike": results[t]["spike"], "g.y": g_y}
        out = evaluate(back, values, table)
        g_state = {n: full(xp, out[n], zero) for n in g_state}
        carried = g_c if last else _decay(inputs, attributes) * g_c
        g_c = carried + full(xp, out["g.x"], zero)
        g_next = xp.matmul(g_c, feedback)
        g_feedback = g_feedback + xp.matmul(xp.matrix_transpose(g_c), before[t]["state.y"])
        g_decay = g_decay + g_c * before[t]["state.c"]
        g_x.append(g_c)
        for name in learned:
            term = full(xp, out[f"g.{name}"], zero)
            g_numbers[name] = g_numbers[name] + term if name in g_numbers else term
    g_x.reverse()
    g_input = xp.stack(g_x)
    if x.shape[0] < len(results):
        g_input = xp.sum(g_input, axis=0, keepdims=True)
    found = {"x": g_input, "feedback": g_feedback, "state.y": g_next}
    found["state.c"] = _decay(inputs, attributes) * g_c
    found |= {n.removeprefix("g."): g for n, g in g_state.items()}
    for name, g in [*g_numbers.items(), ("synapse_decay", g_decay)]:
        if name in inputs:
            found[name] = sum_to(xp, g, tuple(inputs[name].shape))
    return {n: g for n, g in found.items() if n in inputs}


def samples() -> Iterator[Sample]:
    """Return cases with and without synapse decay, learned numbers and states."""
    from snnx.ops._neuron_samples import recurrent_samples

    yield from recurrent_samples()


RECURRENT = Op(
    name="recurrent",
    signature="x[T N F], feedback[F F], synapse_decay[*B]?, state.*[N F]?, p.*[]?, "
    "mask[T N F]?, spike[T N F]? -> y[T N F], state.*[N F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=TOLERANCE,
    differentiable=("x", "feedback", "synapse_decay", "state.*", "p.*"),
    source="ASGL A.4",
    smooth=False,
)
