"""Batch norm, a residual and a neuron as one unit: the norm becomes lines before the step.

    u = (x - mean) factor + bias                        factor = scale weight / sqrt(var + eps)
    u = ... + residual            or        u = ... + (residual - mean') factor' + bias'

Mean, factor and bias are numbers of the unit, shared over a channel; factor and bias learn. So the
kernels of a neuron serve the pair as they stand: the sums over a channel that batch norm's gradient
needs are the gradients of bias (sum of g) and of factor (sum of g (x - mean)), and what is left of
the gradient of x is one pass over it (`snnx.ops.norm_neuron`):

    g_x = g_x of the kernel - factor (g_bias + (x - mean) g_factor / (var + eps)) / n
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from snnx.emit.unit import Number, Unit, unit, unit_of_trace
from snnx.trace import Fire, Line, Ref, Trace

Residual = Literal["", "plain", "norm"]
NORM = ("mean", "factor", "bias")
LEARNED = ("factor", "bias")


@lru_cache(maxsize=512)
def pair(neuron: Any, fire: Fire = "spike", observe: bool = False, residual: Residual = "") -> Unit:
    """Return the unit of a neuron behind a norm; `residual` is what is added to it."""
    inner, trace = unit(neuron, fire, observe), neuron.trace()
    branches = ("norm", *(("residual",) if residual == "norm" else ()))
    own = tuple(
        Number(f"p.{branch}.{name}", "channel", name in LEARNED)
        for branch in branches
        for name in NORM
    )
    numbers = (*inner.numbers, *own)
    return unit_of_trace(_normed(trace, residual), numbers, fire, observe, bool(residual))


def _normed(trace: Trace, residual: Residual) -> Trace:
    """Return the step with the norm before it; "x" and "residual" are what comes in."""
    lines = _affine("x", "norm", "n")
    current = lines[-1].out
    if residual == "norm":
        lines += _affine("residual", "residual", "m")
    if residual:
        added = "residual" if residual == "plain" else lines[-1].out
        lines.append(Line("n3", "add", (current, added)))
        current = "n3"
    rename = {"x": current}
    moved = [Line(a.out, a.op, tuple(_to(rename, r) for r in a.args)) for a in trace.lines]
    numbers = [r for line in lines for r in line.args if str(r).startswith("p.")]
    return replace(
        trace,
        inputs=(*trace.inputs, *(("residual",) if residual else ()), *map(str, numbers)),
        lines=(*lines, *moved),
        outputs=tuple((name, _to(rename, ref)) for name, ref in trace.outputs),
        spike_x=_to(rename, trace.spike_x),
    )


def _affine(x: str, branch: str, prefix: str) -> list[Line]:
    mean, factor, bias = (f"p.{branch}.{name}" for name in NORM)
    return [
        Line(f"{prefix}0", "sub", (x, mean)),
        Line(f"{prefix}1", "mul", (f"{prefix}0", factor)),
        Line(f"{prefix}2", "add", (f"{prefix}1", bias)),
    ]


def _to(rename: Mapping[str, str], ref: Ref) -> Ref:
    return rename.get(ref, ref) if isinstance(ref, str) else ref
