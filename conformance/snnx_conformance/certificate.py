"""Certificates: a proof, per case, that float32 computes a whole network exactly in any order.

A sum is exact in any order, with or without fused multiply-adds, if

    sum of |terms| / grid <= 2^24,      grid = the largest power of two that divides every term

for then every partial sum is a multiple of grid below 2^24 grid. `certify` runs the float64
reference and computes log2 of the left side, the bits, for every sum of every op, forward and
backward. What cannot be certified (a tanh, a division by 3) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnx.objective import Objective
from snnx.ops import OPS
from snnx.program import Program
from snnx_numpy import core

FLOAT32_BITS = 24.0
_FREE = {
    *(np.negative, np.positive, np.absolute, np.sign, np.maximum, np.minimum, np.rint),
    *(np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal),
    *(np.logical_and, np.logical_or, np.logical_not, np.bitwise_and, np.bitwise_or, np.invert),
    *(np.isfinite, np.isnan),
}


class Refused(ValueError):
    """A case that is not exact in float32: over its budget of bits, or not dyadic at all."""


def grid_of(array: Any) -> float:
    """Return the largest power of two that divides every element; infinity where all are 0."""
    values = np.abs(np.asarray(array, np.float64)).ravel()
    values = values[values > 0]
    if not values.size:
        return float("inf")
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2.0**53).astype(np.int64)
    return float(np.min(np.ldexp((whole & -whole).astype(np.float64), exponent - 53)))


@dataclass(slots=True)
class Budget:
    """The most bits that any sum needed so far, and which one it was."""

    bits: float = 0.0
    worst: str = ""
    where: str = ""
    by_step: dict[str, float] = field(default_factory=dict)

    def note(self, what: str, size: Any, grid: float) -> None:
        """Take note of sums whose |terms| add up to `size` on a grid."""
        largest = float(np.max(size)) if np.size(size) else 0.0
        if not np.isfinite(largest):
            raise Refused(f"{self.where} {what}: a number is not finite")
        if largest == 0.0 or not np.isfinite(grid):
            return
        bits = float(np.log2(largest / grid))
        self.by_step[self.where] = max(bits, self.by_step.get(self.where, 0.0))
        if bits > self.bits:
            self.bits, self.worst = bits, f"{self.where} {what}"

    def check(self, limit: float = FLOAT32_BITS) -> None:
        """Raise Refused where the limit is passed."""
        if self.bits > limit:
            raise Refused(f"needs {self.bits:.1f} bits at {self.worst}, float32 has {limit:g}")


class Tracked(np.ndarray):
    """A float64 array whose every operation reports its bits to a budget.

    `terms` is the sum of |terms| of a chain of additions, `unit` their grid, so that a sum is
    certified for every order in which it could be formed.
    """

    budget: Budget | None
    terms: np.ndarray | None
    unit: float | None

    def __array_finalize__(self, obj: Any) -> None:
        self.budget = getattr(obj, "budget", None)
        self.terms, self.unit = None, None

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(func, types, args, kwargs)
        if isinstance(result, np.ndarray) and not isinstance(result, Tracked):
            return tracked(result, self.budget)
        return result

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        plain = [np.asarray(i) if isinstance(i, np.ndarray) else i for i in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs)
        budget = next(i.budget for i in (*inputs, self) if isinstance(i, Tracked))
        made = tracked(result, budget)
        if budget is not None:
            _note(budget, ufunc, method, inputs, made, kwargs)
        if out is not None:
            out[0][...] = made
            return out[0]
        return made


def tracked(array: Any, budget: Budget | None) -> Tracked:
    """Return the array as one that reports to the budget."""
    made = np.asarray(array).view(Tracked)
    made.budget = budget
    return made


def _parts(a: Any) -> tuple[Any, float]:
    if isinstance(a, Tracked) and a.terms is not None and a.unit is not None:
        return a.terms, a.unit
    return np.abs(np.asarray(a, np.float64)), grid_of(a)


def _note(
    budget: Budget,
    ufunc: Any,
    method: str,
    inputs: Sequence[Any],
    made: Tracked,
    kwargs: Mapping[str, Any],
) -> None:
    name = ufunc.__name__
    if ufunc in _FREE or name == "clip":
        return
    if method == "reduce" and ufunc is np.add:
        size, made.unit = _parts(inputs[0])
        axes = {k: v for k, v in kwargs.items() if k in ("axis", "keepdims")}
        made.terms = np.asarray(np.sum(size, **axes))
    elif method == "reduce" and ufunc in (np.maximum, np.logical_or, np.logical_and):
        return
    elif method != "__call__":
        raise Refused(f"{budget.where}: {name}.{method} is not certified")
    elif ufunc in (np.add, np.subtract):
        (a, unit_a), (b, unit_b) = _parts(inputs[0]), _parts(inputs[1])
        made.terms, made.unit = np.asarray(a + b), min(unit_a, unit_b)
    elif ufunc in (np.multiply, np.matmul):
        left, right = (np.asarray(i, np.float64) for i in inputs)
        made.terms = np.asarray(ufunc(np.abs(left), np.abs(right)))
        made.unit = grid_of(left) * grid_of(right)
    elif ufunc is np.divide:
        if not _powers_of_two(inputs[1]):
            raise Refused(f"{budget.where}: divides by {np.asarray(inputs[1]).ravel()[:3]}")
    elif ufunc is np.power:
        if not _powers_of_two(made):
            raise Refused(f"{budget.where}: raises {inputs[0]!r} to a power")
    else:
        raise Refused(f"{budget.where}: {name} has no exact result")
    if made.terms is not None and made.unit is not None:
        budget.note(name, made.terms, made.unit)
        if ufunc is np.multiply:  # the product is a number of its own, not a sum still open
            made.terms, made.unit = None, None


def _powers_of_two(a: Any) -> bool:
    mantissa = np.frexp(np.asarray(a, np.float64))[0]
    return bool(np.all(np.abs(mantissa) == 0.5))


# Linear ops: the terms of each sum, as products of operands. "g" is the cotangent of y.
_TERMS: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "conv2d": {
        "y": (("x", "weight"), ("bias",)),
        "x": (("g", "weight"),),
        "weight": (("g", "x"),),
        "bias": (("g",),),
    },
    "avg_pool2d": {"y": (("x",),), "x": (("g",),)},
    "global_avg_pool2d": {"y": (("x",),), "x": (("g",),)},
    "max_pool2d": {"x": (("g",),)},
    "add": {"y": (("a",), ("b",)), "a": (("g",),), "b": (("g",),)},
    "flatten": {},
}
_TERMS["linear"] = _TERMS["conv2d"]


def _area(played: core.Played) -> int:
    """Return by how many a pooling divides, a power of two."""
    area = 1
    if played.step.op == "avg_pool2d":
        area = played.attributes["kernel"] ** 2
    if played.step.op == "global_avg_pool2d":
        area = int(np.prod(played.inputs["x"].shape[-3:-1]))
    if not _powers_of_two(area):
        raise Refused(f"{played.step.path}: the mean of {area} numbers is not dyadic")
    return area


def _linear(budget: Budget, played: core.Played, g: np.ndarray | None) -> None:
    op = OPS[played.step.op]
    absolute = {k: np.abs(v) for k, v in played.inputs.items()}
    operands = played.inputs if g is None else {**played.inputs, "g": g}
    grids = {k: grid_of(v) for k, v in operands.items()}
    terms, area = _TERMS[played.step.op], _area(played)
    sizes = dict(op.forward(np, absolute, played.attributes)) if g is None else {}
    if g is not None:  # max pooling finds its maxima in x itself
        inputs = played.inputs if played.step.op == "max_pool2d" else absolute
        sizes = op.vjp(np, inputs, played.attributes, played.outputs, {"y": np.abs(g)})
    for name, size in sizes.items():
        products = [
            np.prod([grids[k] for k in product])
            for product in terms.get(name, ())
            if all(k in grids for k in product)
        ]
        if products:
            what = name if g is None else f"gradient of {name}"
            budget.note(what, size, float(min(products)) / area)


def _recorded(budget: Budget, played: core.Played, g: np.ndarray | None) -> None:
    op = OPS[played.step.op]
    inputs = {k: tracked(v, budget) for k, v in played.inputs.items()}
    if g is None:
        op.forward(np, inputs, played.attributes)
    else:
        given = {"y": tracked(g, budget)}
        op.vjp(np, inputs, played.attributes, played.outputs, given)


def _play(budget: Budget, played: core.Played, g: np.ndarray | None) -> None:
    budget.where = played.step.path
    if played.step.op in _TERMS:
        _linear(budget, played, g)
    elif played.step.op in ("neuron", "recurrent"):
        _recorded(budget, played, g)
    else:
        raise Refused(f"{played.step.path}: op {played.step.op} is not certified")


def certify_network(budget: Budget, program: Program, result: core.Result, g_y: Any) -> None:
    """Add the bits of every sum of a run and, given g_y [T, N, K], of its backward."""
    for played in result.tape:
        _play(budget, played, None)
    if g_y is None:
        return
    adjoint: dict[str, Any] = {program.result: np.asarray(g_y)}
    for played in reversed(result.tape):
        g = adjoint.get(played.step.output)
        if g is None:
            continue
        _play(budget, played, g)
        op = OPS[played.step.op]
        found = op.vjp(np, played.inputs, played.attributes, played.outputs, {"y": g})
        for name, term in found.items():
            ref = played.step.inputs.get(name)
            if ref is None:
                continue
            if ref in adjoint:
                size = np.abs(adjoint[ref]) + np.abs(term)
                budget.note(f"gradient at {ref}", size, min(grid_of(adjoint[ref]), grid_of(term)))
                term = adjoint[ref] + term
            adjoint[ref] = term


def certify_loss(
    objective: Objective, inputs: Mapping[str, np.ndarray], budget: Budget
) -> tuple[np.ndarray, Budget]:
    """Return the gradient of the mean loss by the output, and the budget of the loss's value.

    The value has squares, which take twice the bits of the gradient, hence a budget of its own.
    """
    op = OPS[objective.op]
    value = Budget(where="loss")
    name = "logits" if objective.classifies else "output"
    marked = {**inputs, name: tracked(inputs[name], value)}
    losses = op.forward(np, marked, objective.attributes)
    value.note("sum", np.sum(np.abs(losses["loss"])), grid_of(losses["loss"]))
    budget.where = "loss"
    marked = {**inputs, name: tracked(inputs[name], budget)}
    total = np.shape(losses["loss"])[0]
    if not _powers_of_two(total):
        raise Refused(f"loss: the mean over {total} samples is not dyadic")
    given = tracked(np.full(total, 1.0 / total), budget)
    g = op.vjp(np, marked, objective.attributes, {}, {"loss": given})
    return np.asarray(next(iter(g.values()))), value


def certify_update(budget: Budget, rule: Any, path: str, w: Any, g: Any, lr: float) -> None:
    """Add the bits of one rounded update."""
    budget.where = f"update of {path}"
    inputs = {"parameter": tracked(w, budget), "gradient": tracked(g, budget)}
    inputs["lr"] = tracked(np.asarray(lr), budget)
    OPS[rule.op].forward(np, inputs, rule.attributes)
