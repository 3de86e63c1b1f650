"""The kernels of DSR's spiking layer: the neuron forward, the mapping of its rates backward.

    forward     y[t] as the neuron; Ibar = sum_t w[t] x[t];  code = inside + 2 above, two bits
    backward    G = T sum_t w[t] g_y[t];  g_x = inside G / (tau T), the same at every step
                g_threshold = kappa sum(above G)

The weights w[t] sum to 1. Kept for the backward: the codes alone, four neurons to a byte, whatever
T is. Byte b holds neurons b, b + B, b + 2 B and b + 3 B of B = `coded` bytes, so that a thread
writes a byte alone, and threads beside each other read neurons beside each other. The equations
are those of the op `rate_neuron`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from snnx.emit.forward_kernel import forward
from snnx.emit.frame import Drive
from snnx.emit.unit import Unit
from snnx.emit.variant import Source, Variant
from snnx.emit.writer import Writer

UNROLLED = 32


@dataclass(frozen=True, slots=True)
class Rule:
    """The attributes of a rate mapping; `threshold` is the constant, None where it is learned."""

    kind: Literal["if", "lif"]
    dt: float
    tau: float
    threshold: float | None

    @property
    def slope(self) -> float:
        """The clamp's upper bound per unit of threshold."""
        return 1.0 if self.kind == "if" else 1.0 / self.dt


class _Mean(Drive):
    """Gathers the weighted mean of the input, and writes where it lies."""

    def __init__(self, rule: Rule, static: bool, threshold: str) -> None:
        self.rule, self.static, self.threshold = rule, static, threshold

    def declare(self, w: Writer) -> None:
        if not self.static:
            w.argument("weights", "float")
        w.argument("code", "byte", "out")

    def open(self, w: Writer, name: str) -> None:
        for size in ("lane", "groups", "turns"):
            w.argument(size, "uint", "size")
        w.lanes(name)
        w.variable("codes", 0, "uint")
        w.rows_of_lane()

    def close(self, w: Writer) -> None:
        w.end()
        w.store_column("code", "codes")

    def begin(self, w: Writer) -> None:
        if not self.static:
            w.variable("mean")

    def input(self, w: Writer, x: str, time: str, suffix: str) -> str:
        if not self.static:
            weighted = w.operations["mul"].format(w.load_one("weights", time), x)
            w.put("mean", w.add("mean", weighted))
        return x

    def finish(self, w: Writer) -> None:
        mul, compare = w.operations["mul"].format, w.operations
        mean = "x_one" if self.static else "mean"
        if self.rule.threshold is None:
            w.let("scaled", mul(self.threshold, w.constant(self.rule.tau)))
            w.let("limit", mul("scaled", w.constant(self.rule.slope)))
        else:
            limit = self.rule.threshold * self.rule.tau * self.rule.slope
            w.let("limit", w.full(w.constant(limit)))
        zero, op = w.constant(0.0), "ge" if self.rule.kind == "if" else "gt"
        inside = f"({w.bit(compare[op].format(mean, zero), 0)}"
        inside += f" & {w.bit(compare[op].format('limit', mean), 0)})"
        w.let("word", f"{inside} | {w.bit(compare['gt'].format(mean, 'limit'), 1)}", "uint")
        w.put("codes", "codes | (word << (2 * turn))")


def rate_forward(unit: Unit, variant: Variant, rule: Rule, make: type[Writer]) -> Source:
    """Return the forward kernel: that of the neuron, which also writes the code."""
    learned = [i for i, n in enumerate(unit.numbers) if n.name == "p.threshold"]
    threshold = f"p{learned[0]}" if learned else ""
    return forward(unit, variant, make, _Mean(rule, variant.static, threshold))


def rate_backward(variant: Variant, rule: Rule, make: type[Writer]) -> Source:
    """Return the backward kernel; g_x has one step."""
    w = make()
    w.argument("code", "byte")
    w.argument("weights", "float")
    w.argument("g_y", "data")
    w.argument("g_x", "data", "out")
    learned = rule.threshold is None
    if learned:
        w.argument("partial_p0", "float", "out")
    w.argument("total", "uint", "size")
    w.argument("coded", "uint", "size")
    if learned:
        w.argument("lane", "uint", "size")
        w.argument("groups", "uint", "size")
        w.argument("turns", "uint", "size")
        w.lanes("rate_backward")
        w.variable("sum_p0")
        w.rows_of_lane()
    else:
        w.tile("rate_backward")
    byte = w.load("code", "e % coded", "uint")
    w.let("word", f"{byte} >> (2 * {w.quotient('e', 'coded')})", "uint")
    w.variable("collapsed")
    mul = w.operations["mul"].format
    looped = variant.steps > UNROLLED
    if looped:
        w.loop("t", variant.steps)
    for time in ["t"] if looped else map(str, range(variant.steps)):
        place = "e" if time == "0" else f"{time} * stride + e"
        weighted = mul(w.load_one("weights", time), w.load("g_y", place))
        w.put("collapsed", w.add("collapsed", weighted))
    if looped:
        w.end()
    steps = float(variant.steps)
    w.let("total_g", mul("collapsed", w.constant(steps)))
    w.mark("total_g", "inside_g", "above_g", "step_g")
    where = w.operations["where"].format
    w.let("inside_g", where(w.unbit("word", 0), "total_g", w.constant(0.0)))
    w.let("step_g", w.operations["div"].format("inside_g", w.constant(rule.tau * steps)))
    if variant.static:
        w.let("all_g", mul("step_g", w.constant(steps)))
        w.mark("all_g")
    w.store("g_x", "e", "all_g" if variant.static else "step_g")
    if learned:
        w.let("above_g", where(w.unbit("word", 1), "total_g", w.constant(0.0)))
        w.accumulate("sum_p0", "above_g")
        w.end()
        w.reduce("partial_p0", "sum_p0", "layer")
    return w.source()
