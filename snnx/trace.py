"""The traced step: a neuron's `step` as a straight list of scalar operations, and its reverse.

A neuron's `step(ops, x, state, p)` is run once with symbolic values. The result is a list in
single-assignment form, in which the spike is one operation; `snnx.lower` makes of it the lists that
run, forward and reverse. Lists are data: numpy, torch and MLX interpret them, and kernels can be
emitted from them.

Names in a list: "x"; "state.v", ... ; "p.threshold", "p.surrogate.width", ... ; "mask" (the
analog mask of mixed mode); "spike" (the value of the spike, an input of the reverse and of the
"imposed" forward); outputs "y" and "state.v", ...; cotangents "g.y", "g.state.v", ...; gradients
"g.x", "g.state.v", "g.p.threshold", ... .
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Fire: TypeAlias = Literal["spike", "mixed", "smooth", "imposed"]
Ref: TypeAlias = str | float


@dataclass(frozen=True, slots=True)
class Line:
    """One operation: `out = op(*args)`; an argument is a name or a constant."""

    out: str
    op: str
    args: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """A straight list of operations. `outputs` maps a result's name to what holds it."""

    inputs: tuple[str, ...]
    lines: tuple[Line, ...]
    outputs: tuple[tuple[str, Ref], ...]


_FOLD: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": abs,
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "atan": math.atan,
    "sqrt": math.sqrt,
    "maximum": max,
    "minimum": min,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
}

OPERATIONS = (*_FOLD, "where", "spike_ge", "spike_gt")


class Value:
    """A symbolic value of the traced step; behaves as a number under + - * / and unary -."""

    __slots__ = ("ref", "tracer")

    def __init__(self, tracer: Tracer, ref: Ref) -> None:
        self.tracer = tracer
        self.ref = ref

    def __add__(self, other: Any) -> Any:
        return self.tracer.emit("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self.tracer.emit("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self.tracer.emit("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.tracer.emit("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self.tracer.emit("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.tracer.emit("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self.tracer.emit("div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.tracer.emit("div", other, self)

    def __neg__(self) -> Any:
        return self.tracer.emit("neg", self)

    def __bool__(self) -> bool:
        raise TypeError("a step may not branch on a value; use ops.where(ops.ge(a, b), yes, no)")


class Tracer:
    """The `ops` that a neuron's `step` and a surrogate receive; records what they do."""

    def __init__(self, prefix: str = "t") -> None:
        self.prefix = prefix
        self.lines: list[Line] = []
        self.stopped: set[str] = set()
        self.spikes: list[tuple[Ref, str]] = []
        self._known: dict[tuple[str, tuple[Ref, ...]], str] = {}

    def input(self, name: str) -> Value:
        return Value(self, name)

    def emit(self, op: str, *args: Any) -> Any:
        """Record one operation and return its value; constants are folded."""
        refs = tuple(ref_of(a) for a in args)
        if op in _FOLD and all(isinstance(r, float) for r in refs):
            return _FOLD[op](*refs)
        simple = _simplify(op, refs)
        if simple is not None:
            return Value(self, simple) if isinstance(simple, str) else simple
        known = self._known.get((op, refs))
        if known is None:
            known = f"{self.prefix}{len(self.lines)}"
            self.lines.append(Line(known, op, refs))
            self._known[(op, refs)] = known
        return Value(self, known)

    def abs(self, a: Any) -> Any:
        return self.emit("abs", a)

    def exp(self, a: Any) -> Any:
        return self.emit("exp", a)

    def log(self, a: Any) -> Any:
        return self.emit("log", a)

    def tanh(self, a: Any) -> Any:
        return self.emit("tanh", a)

    def atan(self, a: Any) -> Any:
        return self.emit("atan", a)

    def sqrt(self, a: Any) -> Any:
        return self.emit("sqrt", a)

    def maximum(self, a: Any, b: Any) -> Any:
        return self.emit("maximum", a, b)

    def minimum(self, a: Any, b: Any) -> Any:
        return self.emit("minimum", a, b)

    def ge(self, a: Any, b: Any) -> Any:
        return self.emit("ge", a, b)

    def gt(self, a: Any, b: Any) -> Any:
        return self.emit("gt", a, b)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        """Return `yes` where the condition (from ge or gt) holds, else `no`."""
        if isinstance(condition, bool):
            return yes if condition else no
        if not isinstance(yes, Value) and not isinstance(no, Value):
            raise TypeError("where: at least one branch must depend on the inputs")
        return self.emit("where", condition, yes, no)

    def stop_gradient(self, a: Any) -> Any:
        """Return the value with no gradient through it."""
        if not isinstance(a, Value):
            return a
        out = f"{self.prefix}{len(self.lines)}"
        self.lines.append(Line(out, "add", (a.ref, 0.0)))
        self.stopped.add(out)
        return Value(self, out)

    def spike(self, x: Any) -> Any:
        """Return the spike of the centred potential x = u - threshold; one per step."""
        if self.spikes:
            raise ValueError("a step fires once; ops.spike was called twice")
        if not isinstance(x, Value):
            raise TypeError("ops.spike needs a value that depends on the inputs")
        self.spikes.append((x.ref, "spike"))
        return Value(self, "spike")


def ref_of(a: Any) -> Ref:
    """Return the name of a value, or a constant as a float."""
    if isinstance(a, Value):
        return a.ref
    if isinstance(a, int | float):
        return float(a)
    raise TypeError(f"a step computes with values and numbers, not {type(a).__name__}: {a!r}")


def _simplify(op: str, refs: tuple[Ref, ...]) -> Ref | None:
    """Return what the operation equals where a neutral constant makes it trivial."""
    if op == "mul":
        if refs[0] == 1.0:
            return refs[1]
        if refs[1] == 1.0:
            return refs[0]
    if op == "add":
        if refs[0] == 0.0:
            return refs[1]
        if refs[1] == 0.0:
            return refs[0]
    if op in ("sub", "div") and refs[1] == (0.0 if op == "sub" else 1.0):
        return refs[0]
    return None


@dataclass(frozen=True, slots=True)
class Trace:
    """A neuron's step as data: what was recorded, before a mode of firing is chosen."""

    inputs: tuple[str, ...]
    states: tuple[str, ...]
    lines: tuple[Line, ...]
    outputs: tuple[tuple[str, Ref], ...]
    stopped: frozenset[str]
    spike_x: Ref
    fire: str
    surrogate: Any
    bind: Callable[[Tracer], Any]

    @property
    def binary(self) -> bool:
        """Whether the output is the spike itself or a multiple of it (in "spike" mode)."""
        return _is_scaled_spike(dict(self.outputs)["y"], {line.out: line for line in self.lines})

    @property
    def emits_spike(self) -> bool:
        """Whether the output is exactly the spike, so that nothing else need be kept."""
        return dict(self.outputs)["y"] == "spike"


def _is_scaled_spike(ref: Ref, by_name: Mapping[str, Line]) -> bool:
    if ref == "spike":
        return True
    line = by_name.get(ref) if isinstance(ref, str) else None
    if line is None or line.op != "mul":
        return False
    a, b = line.args
    scaled = _is_number(a, by_name) and _is_scaled_spike(b, by_name)
    return scaled or (_is_number(b, by_name) and _is_scaled_spike(a, by_name))


def _is_number(ref: Ref, by_name: Mapping[str, Line]) -> bool:
    """Tell whether the value depends on constants and numbers of the neuron only."""
    if not isinstance(ref, str) or ref.startswith("p."):
        return True
    line = by_name.get(ref)
    return line is not None and all(_is_number(a, by_name) for a in line.args)
