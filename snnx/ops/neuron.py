"""neuron: a whole sequence of a spiking neuron, from its traced step.

    for t = 1..T:   y[t], state[t] = step(x[t], state[t-1], numbers)

The step is the neuron's own (`snnx.neurons`); its reverse is derived from it (`snnx.lower`):

    for t = T..1:   g_x[t], g_state[t-1], g_numbers += reverse(g_y[t], g_state[t])

`fire` chooses the value of the spike s at x = u - threshold: "spike" Theta(x); "smooth" H(x);
"mixed" H(x) where `mask` is set, else Theta(x); "imposed" the input `spike`. With attribute
`observe` the spikes and the centred potentials x are outputs too. The gradient through s is the
surrogate's slope in every mode; that of a learned number is summed over time, batch and the axes
over which the number is shared.

x with T = 1 and attribute `steps` = T is a static input, the same at every step; its gradient is
summed over time. Source: the general neuron of Dspike, TET, ASGL and DSR; BPTT as ASGL Eq. 6, 11,
16-18.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from snnx.lower import evaluate, forward_lines, reverse_lines
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample, Tolerance
from snnx.trace import Lines, Trace


def operations(xp: Any) -> dict[str, Any]:
    """Return the functions of an array namespace under the names of a traced list."""

    def where(c: Array, a: Array, b: Array) -> Array:
        like = a if not isinstance(a, float) else b
        if isinstance(a, float):
            a = xp.full_like(like, a)
        if isinstance(b, float):
            b = xp.full_like(like, b)
        return xp.where(c, a, b)

    def pair(function: Any) -> Any:
        def call(a: Array, b: Array) -> Array:
            if isinstance(a, float):
                a = xp.full_like(b, a)
            if isinstance(b, float):
                b = xp.full_like(a, b)
            return function(a, b)

        return call

    return {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "neg": lambda a: -a,
        "abs": xp.abs,
        "exp": xp.exp,
        "log": xp.log,
        "tanh": xp.tanh,
        "atan": xp.atan,
        "sqrt": xp.sqrt,
        "maximum": pair(xp.maximum),
        "minimum": pair(xp.minimum),
        "ge": lambda a, b: a >= b,
        "gt": lambda a, b: a > b,
        "where": where,
        "spike_ge": lambda x: xp.astype(x >= 0.0, x.dtype),
        "spike_gt": lambda x: xp.astype(x > 0.0, x.dtype),
    }


def sum_to(xp: Any, g: Array, shape: tuple[int, ...]) -> Array:
    """Sum an array [N, *F] over the batch and every axis along which `shape` is shared."""
    if g.ndim > len(shape):
        g = xp.sum(g, axis=tuple(range(g.ndim - len(shape))))
    return g


def numbers_of(inputs: Arrays) -> dict[str, Array]:
    """Return the inputs that are numbers of the neuron."""
    return {k: v for k, v in inputs.items() if k.startswith("p.")}


def learned_names(attributes: Attributes) -> tuple[str, ...]:
    """Return the names under which a neuron's learned numbers enter the op."""
    from snnx.scalars import Learned

    scalars = attributes["neuron"].scalars()
    return tuple(f"p.{n}" for n, s in scalars.items() if isinstance(s, Learned))


def rest(trace: Trace, x: Array, inputs: Arrays, xp: Any) -> dict[str, Array]:
    """Return the initial states, zeros where none is given."""
    zero = xp.zeros_like(x[0, ...])
    names = [f"state.{s}" for s in trace.states]
    return {n: inputs.get(n, zero) for n in names}


def sequence(
    xp: Any, trace: Trace, lines: Lines, inputs: Arrays, steps: int
) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """Run the list over time; return the results of every step and the states before it."""
    x = inputs["x"]
    state = rest(trace, x, inputs, xp)
    table, numbers = operations(xp), numbers_of(inputs)
    results, before = [], []
    for t in range(steps):
        values = {**numbers, **state, "x": x[t if x.shape[0] > 1 else 0, ...]}
        for name in ("mask", "spike"):
            if name in inputs:
                values[name] = inputs[name][t, ...]
        out = evaluate(lines, values, table)
        before.append(state)
        state = {n: out[n] for n in state}
        results.append(out)
    return results, before


def forward(xp: Any, inputs: Arrays, attributes: Attributes) -> dict[str, Array]:
    """Return y [T, N, *F], the final states and, observed, spikes and potentials."""
    trace = attributes["neuron"].trace()
    observe = attributes.get("observe", False)
    lines = forward_lines(trace, attributes.get("fire", "spike"), observe)
    steps = attributes.get("steps", inputs["x"].shape[0])
    results, _ = sequence(xp, trace, lines, inputs, steps)
    final = {f"state.{s}": results[-1][f"state.{s}"] for s in trace.states}
    return {**stacked(xp, results, observe), **final}


def stacked(xp: Any, results: list[dict[str, Array]], observe: bool) -> dict[str, Array]:
    """Return the sequences of the results of every step."""
    names = ("y", "spike", "potential") if observe else ("y",)
    return {name: xp.stack([r[name] for r in results]) for name in names}


def vjp(
    xp: Any, inputs: Arrays, attributes: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of x, the initial states and the learned numbers."""
    trace = attributes["neuron"].trace()
    steps = attributes.get("steps", inputs["x"].shape[0])
    lines = forward_lines(trace, attributes.get("fire", "spike"))
    results, before = sequence(xp, trace, lines, inputs, steps)
    return backward(xp, trace, inputs, attributes, results, before, cotangents["y"], cotangents)


def backward(
    xp: Any,
    trace: Trace,
    inputs: Arrays,
    attributes: Attributes,
    results: list[dict[str, Array]],
    before: list[dict[str, Array]],
    g_y: Array,
    cotangents: Arrays,
) -> dict[str, Array]:
    """Run the reverse list from the last step to the first."""
    x, learned = inputs["x"], learned_names(attributes)
    back = reverse_lines(trace, learned)
    table, numbers = operations(xp), numbers_of(inputs)
    zero = xp.zeros_like(x[0, ...])
    g_state = {f"g.state.{s}": cotangents.get(f"state.{s}", zero) for s in trace.states}
    g_x: list[Array] = []
    g_numbers: dict[str, Array] = {}
    for t in reversed(range(len(results))):
        values = {**numbers, **before[t], **g_state, "x": x[t if x.shape[0] > 1 else 0, ...]}
        values |= {"spike": results[t]["spike"], "g.y": g_y[t, ...]}
        out = evaluate(back, values, table)
        g_state = {n: full(xp, out[n], zero) for n in g_state}
        g_x.append(full(xp, out["g.x"], zero))
        for name in learned:
            term = full(xp, out[f"g.{name}"], zero)
            g_numbers[name] = g_numbers[name] + term if name in g_numbers else term
    g_x.reverse()
    g_input = xp.stack(g_x)
    if x.shape[0] < len(results):
        g_input = xp.sum(g_input, axis=0, keepdims=True)
    found = {"x": g_input} | {n.removeprefix("g."): g for n, g in g_state.items()}
    for name, g in g_numbers.items():
        found[name] = sum_to(xp, g, tuple(inputs[name].shape))
    return {n: g for n, g in found.items() if n in inputs}


def full(xp: Any, value: Array | float, like: Array) -> Array:
    """Return the value as an array of the shape of `like`."""
    return xp.full_like(like, value) if isinstance(value, float) else value + xp.zeros_like(like)


def samples() -> Iterator[Sample]:
    """Return one case per field, surrogate, share, mode and kind."""
    from snnx.ops._neuron_samples import neuron_samples

    yield from neuron_samples()


TOLERANCE: Mapping[str, Tolerance] = {
    "float32": Tolerance(2e-6, 1e-5),
    "bfloat16": Tolerance(4e-2, 8e-2),
    "float16": Tolerance(5e-3, 1e-2),
}

NEURON = Op(
    name="neuron",
    signature="x[T N *F], state.*[N *F]?, p.*[]?, mask[T N *F]?, spike[T N *F]? "
    "-> y[T N *F], state.*[N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance=TOLERANCE,
    differentiable=("x", "state.*", "p.*"),
    source="Dspike Eq. 1-2, 6-12; TET Eq. 1-5; ASGL Eq. 1-11, 16-18",
    smooth=False,
)
