"""From a traced step to the lists that run: forward in a mode of firing, and the reverse.

`forward_lines` chooses what the spike's value is; `reverse_lines` derives the list of the step's
vector-Jacobian product; `evaluate` interprets either on arrays. Names are those of `snnx.trace`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from snnx.trace import Fire, Line, Lines, Ref, Trace, Tracer, Value, ref_of


def forward_lines(trace: Trace, fire: Fire, observe: bool = False) -> Lines:
    """Return the list that computes "y", the new states and "spike" in the given mode.

    With `observe` also "potential", the centred potential at which the spike was decided.
    """
    tracer = Tracer("f")
    spike = _spike_value(trace, tracer, fire)
    before, after = _split(trace)
    lines = [*before, *tracer.lines]
    rename = {"spike": ref_of(spike)}
    lines += [_renamed(line, rename) for line in after]
    outputs = tuple((name, rename.get(str(ref), ref)) for name, ref in trace.outputs)
    outputs = (*outputs, ("spike", rename["spike"]))
    if observe:
        outputs = (*outputs, ("potential", trace.spike_x))
    extra = {"mixed": ("mask",), "imposed": ("spike",)}.get(fire, ())
    return _pruned(Lines((*trace.inputs, *extra), tuple(lines), outputs))


def _split(trace: Trace) -> tuple[list[Line], list[Line]]:
    """Split the recorded lines into those that do not need the spike and those that do."""
    needs = {"spike"}
    before, after = [], []
    for line in trace.lines:
        if needs.intersection(a for a in line.args if isinstance(a, str)):
            needs.add(line.out)
            after.append(line)
        else:
            before.append(line)
    if trace.spike_x in needs:
        raise ValueError("ops.spike depends on its own result")
    return before, after


def _spike_value(trace: Trace, tracer: Tracer, fire: Fire) -> Any:
    x = Value(tracer, trace.spike_x)
    if fire == "imposed":
        return tracer.input("spike")
    hard = tracer.emit("spike_ge" if trace.fire == ">=" else "spike_gt", x)
    if fire == "spike":
        return hard
    smooth = trace.surrogate.value(tracer, x, trace.bind(tracer))
    if fire == "smooth":
        return smooth
    if fire == "mixed":
        return tracer.where(tracer.input("mask"), smooth, hard)
    raise ValueError(f'fire is "spike", "mixed", "smooth" or "imposed", not {fire!r}')


def _renamed(line: Line, rename: Mapping[str, Ref]) -> Line:
    return Line(line.out, line.op, tuple(rename.get(str(a), a) for a in line.args))


def _pruned(lines: Lines) -> Lines:
    needed = {ref for _, ref in lines.outputs if isinstance(ref, str)}
    kept: list[Line] = []
    for line in reversed(lines.lines):
        if line.out in needed:
            kept.append(line)
            needed.update(a for a in line.args if isinstance(a, str))
    inputs = tuple(name for name in lines.inputs if name in needed)
    return Lines(inputs, tuple(reversed(kept)), lines.outputs)


def reverse_lines(trace: Trace, wrt: tuple[str, ...]) -> Lines:
    """Return the list of the vjp of one step.

    Inputs: the step's inputs, "spike" (the value that the forward had, in whatever mode), "g.y"
    and "g.state.*". Outputs: "g.NAME" for "x", every state and every name in `wrt`.

    The reverse does not depend on the mode: the gradient through the spike is always the
    surrogate's slope at x, and that by a number q of the surrogate is dH/dq.
    """
    tracer = Tracer("r")
    adjoint: dict[str, Any] = {}

    def add(ref: Ref, term: Any) -> None:
        if isinstance(ref, str) and term is not None:
            old = adjoint.get(ref)
            adjoint[ref] = term if old is None else old + term

    for name, ref in trace.outputs:
        add(ref, tracer.input(f"g.{name}"))
    before, after = _split(trace)
    for line in reversed(after):
        _pull(line, adjoint, add, tracer, trace.stopped)
    g_spike = adjoint.pop("spike", None)
    if g_spike is not None:
        x, p = Value(tracer, trace.spike_x), trace.bind(tracer)
        add(trace.spike_x, g_spike * trace.surrogate.slope(tracer, x, p))
        learned = [n for n in wrt if n.startswith("p.surrogate.")]
        slopes = trace.surrogate.parameter_slopes(tracer, x, p) if learned else {}
        for name in learned:
            add(name, g_spike * slopes[name.removeprefix("p.surrogate.")])
    for line in reversed(before):
        _pull(line, adjoint, add, tracer, trace.stopped)

    names = ("x", *(f"state.{s}" for s in trace.states), *wrt)
    results = tuple((f"g.{n}", ref_of(adjoint.get(n, 0.0))) for n in names)
    cotangents = tuple(f"g.{name}" for name, _ in trace.outputs)
    recomputed = [*before, *after]
    inputs = (*trace.inputs, "spike", *cotangents)
    return _pruned(Lines(inputs, (*recomputed, *tracer.lines), results))


def _pull(
    line: Line, adjoint: dict[str, Any], add: Callable[[Ref, Any], None], ops: Tracer, stopped: Any
) -> None:
    """Add the line's share of the gradient to its arguments."""
    g = adjoint.pop(line.out, None)
    if g is None or line.out in stopped:
        return
    a, *rest = line.args
    va = Value(ops, a) if isinstance(a, str) else a
    b = rest[0] if rest else 0.0
    vb = Value(ops, b) if isinstance(b, str) else b
    out = Value(ops, line.out)
    match line.op:
        case "add":
            add(a, g)
            add(b, g)
        case "sub":
            add(a, g)
            if isinstance(b, str):
                add(b, -g)
        case "mul":
            if isinstance(a, str):
                add(a, g * vb)
            if isinstance(b, str):
                add(b, g * va)
        case "div":
            if isinstance(a, str):
                add(a, g / vb)
            if isinstance(b, str):
                add(b, -(g * out) / vb)
        case "neg":
            add(a, -g)
        case "abs":
            sign = ops.where(ops.ge(va, 0.0), g, -g)
            add(a, sign)
        case "exp":
            add(a, g * out)
        case "log":
            add(a, g / va)
        case "tanh":
            add(a, g * (1.0 - out * out))
        case "atan":
            add(a, g / (1.0 + va * va))
        case "sqrt":
            add(a, g * 0.5 / out)
        case "maximum" | "minimum":
            first = ops.ge(va, vb) if line.op == "maximum" else ops.ge(vb, va)
            if isinstance(a, str):
                add(a, ops.where(first, g, 0.0))
            if isinstance(b, str):
                add(b, ops.where(first, 0.0, g))
        case "where":
            condition, yes, no = line.args
            c = Value(ops, condition)
            if isinstance(yes, str):
                add(yes, ops.where(c, g, 0.0))
            if isinstance(no, str):
                add(no, ops.where(c, 0.0, g))
        case "ge" | "gt":
            pass
        case other:
            raise NotImplementedError(f"the reverse of {other} is not known")


def evaluate(
    lines: Lines, values: Mapping[str, Any], operations: Mapping[str, Callable[..., Any]]
) -> dict[str, Any]:
    """Run a list on arrays: `operations` maps each op's name to a function of an array library."""
    env: dict[str, Any] = dict(values)
    for line in lines.lines:
        args = [env[a] if isinstance(a, str) else a for a in line.args]
        env[line.out] = operations[line.op](*args)
    return {name: env[ref] if isinstance(ref, str) else ref for name, ref in lines.outputs}
