"""Spiking layers over time: the traced step forwards, its derived reverse backwards.

The scan is one custom function: differentiating a loop over x[t] would scatter a full sequence per
step, O(T^2); this is O(T). What the reverse needs (states before each step, spikes) are further
outputs, so that nothing is computed twice. All arithmetic is float32; a 16-bit input gives a 16-bit
output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx.lower import evaluate, forward_lines, reverse_lines
from snnx.ops.neuron import learned_names
from snnx.trace import Trace
from snnx_mlx.arrays import custom_op, sum_to
from snnx_mlx.draws import drawn

Arrays = Mapping[str, mx.array]
Attributes = Mapping[str, Any]
Rows = dict[str, list[mx.array]]

OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": mx.abs,
    "exp": mx.exp,
    "log": mx.log,
    "tanh": mx.tanh,
    "atan": mx.arctan,
    "sqrt": mx.sqrt,
    "maximum": mx.maximum,
    "minimum": mx.minimum,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "where": mx.where,
    "spike_ge": lambda x: (x >= 0.0).astype(x.dtype),
    "spike_gt": lambda x: (x > 0.0).astype(x.dtype),
}


def neuron(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Run a neuron over time: y [T, N, *F], final states and, observed, spikes and potentials."""
    return run_scan(Scan, inputs, attributes)


def run_scan(kind: type[Scan], inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Run a spiking layer by its kind of scan; states that are not given are at rest."""
    x, inputs = inputs["x"], drawn(inputs)
    steps = attributes.get("steps", x.shape[0])
    rest = mx.zeros(x.shape[1:], mx.float32)
    trace: Trace = attributes["neuron"].trace()
    given: dict[str, mx.array] = {"x": x}
    for name in kind.states(trace):
        given[f"state.{name}"] = inputs.get(f"state.{name}", rest)
    given |= {k: v for k, v in inputs.items() if k not in given}
    extra = tuple(sorted((k, attributes[k]) for k in kind.attributes if k in attributes))
    scan = _scan(
        kind,
        attributes["neuron"],
        attributes.get("fire", "spike"),
        bool(attributes.get("observe", False)),
        steps,
        tuple(given),
        extra,
    )
    found = scan(*given.values())
    names = [*_sequences(attributes), *(f"state.{s}" for s in kind.states(trace))]
    return dict(zip(names, found, strict=False))


def _sequences(attributes: Attributes) -> tuple[str, ...]:
    return ("y", "spike", "potential") if attributes.get("observe", False) else ("y",)


@lru_cache(maxsize=1024)
def _scan(
    kind: type[Scan],
    unit: Any,
    fire: Any,
    observe: bool,
    steps: int,
    names: tuple[str, ...],
    extra: tuple[tuple[str, Any], ...],
) -> Any:
    scan = kind(unit, fire, observe, steps, names, dict(extra))
    return custom_op(scan.forward, scan.backward)


def full(value: Any, like: mx.array) -> mx.array:
    """Return a value, perhaps a constant or shared number, in the shape of `like`."""
    value = value if isinstance(value, mx.array) else mx.array(value, mx.float32)
    return value if value.shape == like.shape else mx.broadcast_to(value, like.shape)


class Scan:
    """The scan of one neuron. Outputs of `forward`: sequences, final states, then what is kept.

    Kept: T arrays [N, *F] for each state, before each step, and the spikes where y does not hold
    them exactly. The arrays stay apart: to stack them would be a copy that backward takes apart.
    """

    attributes: tuple[str, ...] = ()

    def __init__(
        self,
        unit: Any,
        fire: Any,
        observe: bool,
        steps: int,
        names: tuple[str, ...],
        extra: Mapping[str, Any],
    ) -> None:
        self.unit, self.steps, self.names, self.extra = unit, steps, names, extra
        self.trace: Trace = unit.trace()
        self.learned = tuple(n for n in learned_names({"neuron": unit}) if n in names)
        self.lines = forward_lines(self.trace, fire, observe)
        self.reverse = reverse_lines(self.trace, self.learned)
        self.sequences = ("y", "spike", "potential") if observe else ("y",)
        self.state_names = tuple(f"state.{s}" for s in self.states(self.trace))
        self.hard = fire == "spike"

    @classmethod
    def states(cls, trace: Trace) -> tuple[str, ...]:
        """Return the names of the states, in the order in which they are handed on."""
        return trace.states

    def _named(self, inputs: tuple[mx.array, ...]) -> dict[str, mx.array]:
        """Return the inputs by name; numbers and states in float32."""
        named = dict(zip(self.names, inputs, strict=True))
        for name, a in named.items():
            if name.startswith(("p.", "state.")) or name in ("feedback", "synapse_decay", "spike"):
                named[name] = a.astype(mx.float32)
        return named

    def _at(self, given: Arrays, t: int) -> mx.array:
        x = given["x"]
        return x[t if x.shape[0] > 1 else 0].astype(mx.float32)

    def _drive(self, given: Arrays, state: Arrays, x: mx.array) -> mx.array:
        """Return the input of the neuron's step."""
        return x

    def _carry(self, state: Arrays, out: Arrays, drive: mx.array) -> dict[str, mx.array]:
        """Return the states after a step."""
        return {n: full(out[n], drive) for n in state}

    def forward(self, *inputs: mx.array) -> tuple[mx.array, ...]:
        """Run the list of the step over time."""
        given = self._named(inputs)
        dtype = given["x"].dtype
        rows, state, before = self._walk(given)
        found = [mx.stack(rows[n]) for n in self.sequences]
        found[0] = found[0].astype(dtype)
        kept = [array for n in self.state_names for array in before[n]]
        rounded = dtype != mx.float32 and not self.hard
        if rounded or not self.trace.emits_spike:
            spikes = mx.stack(rows["spike"])
            kept.append(spikes.astype(dtype) if self.hard else spikes)
        return (*found, *state.values(), *kept)

    def _walk(self, given: Arrays) -> tuple[Rows, dict[str, mx.array], Rows]:
        """Return the sequences with "spike", the final states, and the states before each step."""
        numbers = {n: a for n, a in given.items() if n.startswith("p.")}
        state = {n: given[n] for n in self.state_names}
        rows: Rows = {n: [] for n in (*self.sequences, "spike")}
        before: Rows = {n: [] for n in state}
        for t in range(self.steps):
            drive = self._drive(given, state, self._at(given, t))
            values = {**numbers, **state, "x": drive}
            values |= {n: given[n][t] for n in ("mask", "spike") if n in given}
            out = evaluate(self.lines, values, OPERATIONS)
            for name, row in rows.items():
                row.append(full(out[name], drive))
            for name, row in before.items():
                row.append(state[name])
            state = self._carry(state, out, drive)
        return rows, state, before

    def _split(
        self, cotangents: tuple[mx.array, ...], outputs: tuple[mx.array, ...]
    ) -> tuple[mx.array, dict[str, mx.array], dict[str, tuple[mx.array, ...]], mx.array]:
        """Return g of y, g of the final states, the states before each step, and the spikes."""
        first = len(self.sequences)
        last = first + len(self.state_names)
        g_state = dict(zip(self.state_names, cotangents[first:last], strict=True))
        ends = [last + self.steps * (i + 1) for i in range(len(self.state_names))]
        before = {
            n: outputs[end - self.steps : end]
            for n, end in zip(self.state_names, ends, strict=True)
        }
        own = len(outputs) > last + self.steps * len(self.state_names)
        return cotangents[0], g_state, before, outputs[-1 if own else 0]

    def backward(
        self,
        inputs: tuple[mx.array, ...],
        cotangents: tuple[mx.array, ...],
        outputs: tuple[mx.array, ...],
    ) -> tuple[mx.array, ...]:
        """Run the reverse list from the last step to the first."""
        given = self._named(inputs)
        g_y, g_state, before, spikes = self._split(cotangents, outputs)
        rows, g_state, sums = self._rewind(given, g_y, g_state, before, spikes)
        return self._gradients(given, mx.stack(rows), g_state, sums)

    def _rewind(
        self,
        given: Arrays,
        g_y: mx.array,
        g_state: dict[str, mx.array],
        before: Mapping[str, Any],
        spikes: Any,
    ) -> tuple[list[mx.array], dict[str, mx.array], dict[str, mx.array]]:
        """Return g of x at every step, of the first states, and of learned numbers, not summed."""
        numbers = {n: a for n, a in given.items() if n.startswith("p.")}
        rows: list[mx.array] = []
        sums: dict[str, mx.array] = {}
        for t in reversed(range(self.steps)):
            old = {n: before[n][t] for n in self.state_names}
            x = self._at(given, t)
            drive = self._drive(given, old, x)
            values = {**numbers, **old, **{f"g.{n}": g for n, g in g_state.items()}}
            values |= {"x": drive, "spike": spikes[t].astype(mx.float32)}
            values["g.y"] = self._into_output(g_y[t].astype(mx.float32), g_state)
            out = evaluate(self.reverse, values, OPERATIONS)
            g_x, g_state, terms = self._pull(given, old, out, g_state, drive)
            rows.append(g_x)
            for name in self.learned:
                terms[name] = full(out[f"g.{name}"], drive)
            sums = {n: sums[n] + g if n in sums else g for n, g in terms.items()}
        rows.reverse()
        return rows, g_state, sums

    def _into_output(self, g_y: mx.array, g_state: Arrays) -> mx.array:
        """Return the gradient of the neuron's output, with what comes through its feedback."""
        return g_y

    def _pull(
        self, given: Arrays, old: Arrays, out: Arrays, g_state: Arrays, like: mx.array
    ) -> tuple[mx.array, dict[str, mx.array], dict[str, mx.array]]:
        """Return g of x[t], of the states before the step, and terms of the other inputs."""
        return full(out["g.x"], like), {n: full(out[f"g.{n}"], like) for n in g_state}, {}

    def _gradients(
        self, given: Arrays, g_x: mx.array, g_state: Arrays, sums: Arrays
    ) -> tuple[mx.array, ...]:
        """Return the gradients in the order of the inputs; shared numbers are summed."""
        found: dict[str, mx.array] = {**g_state, **sums}
        x = given["x"]
        found["x"] = mx.sum(g_x, axis=0, keepdims=True) if x.shape[0] < self.steps else g_x
        return tuple(
            sum_to(found[n], given[n].shape) if n in found else mx.zeros_like(given[n])
            for n in self.names
        )
