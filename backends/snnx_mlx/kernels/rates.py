"""DSR's spiking layer by kernels where `implementation` says so, else by the generic scan.

Kept for the backward are the codes, two bits per neuron, whatever T is: see `snnx.emit.rate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx.emit import Rule, Unit, Variant, chunk_of, forward, rate_backward, rate_forward, unit
from snnx.emit.c_text import CWriter
from snnx.emit.layout import Layout, widest
from snnx_mlx import rates
from snnx_mlx.arrays import custom_op
from snnx_mlx.kernels.implementation import implementation
from snnx_mlx.kernels.launch import LANE, launch

Arrays = Mapping[str, mx.array]


def rate_neuron(inputs: Arrays, attributes: Mapping[str, Any]) -> dict[str, mx.array]:
    """Run DSR's spiking layer, whose backward is the mapping of its rates."""
    x, neuron = inputs["x"], attributes["neuron"]
    seen = attributes.get("observe", False) or attributes.get("fire", "spike") != "spike"
    chosen = implementation(attributes, x.dtype, x.size // x.shape[0]).name
    if seen or chosen == "generic":
        return rates.rate_neuron(inputs, attributes)
    of = unit(neuron)
    given = tuple(name for name in of.states if name in inputs)
    names = ("x", *given, *(n.name for n in of.numbers))
    steps = attributes.get("steps", x.shape[0])
    static, chunk = x.shape[0] < steps, chunk_of(steps, "", len(of.states), 0)
    final = attributes.get("hand_over", True)
    constant = None if "p.threshold" in inputs else float(neuron.threshold)
    rule = Rule(attributes["kind"], attributes["dt"], attributes["tau"], constant)
    fixed = (neuron.decay, attributes["kappa"], bool(attributes.get("trains", True)))
    made = _made(of, Variant(steps, static, given, final=final, chunk=chunk), rule, names, *fixed)
    results = ("y", *(of.states if final else ()))
    return dict(zip(results, made(*(inputs[n] for n in names)), strict=False))


@lru_cache(maxsize=1024)
def _made(
    of: Unit,
    variant: Variant,
    rule: Rule,
    names: tuple[str, ...],
    decay: float,
    kappa: float,
    trains: bool,
) -> Any:
    layer = _RateKernels(of, variant, rule, names, decay, kappa, trains)
    if trains:
        return custom_op(layer.forward, layer.backward)
    whole = _RateKernels(of, variant, rule, names, decay, kappa, True)

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        return whole.backward(inputs, cotangents, whole.forward(*inputs))  # it kept nothing

    return custom_op(layer.forward, backward)


class _RateKernels:
    """Forward and backward of one layer, on inputs of these names."""

    def __init__(
        self,
        of: Unit,
        variant: Variant,
        rule: Rule,
        names: tuple[str, ...],
        decay: float,
        kappa: float,
        trains: bool,
    ) -> None:
        self.of, self.variant, self.names, self.kappa = of, variant, names, kappa
        self.learned = rule.threshold is None
        own = rate_forward(of, variant, rule, CWriter) if trains else forward(of, variant, CWriter)
        self.sources = (own, rate_backward(variant, rule, CWriter))
        powers = [decay ** (variant.steps - 1 - t) for t in range(variant.steps)]
        self.weights = [p / sum(powers) for p in powers]

    def forward(self, *inputs: mx.array) -> tuple[mx.array, ...]:
        """Return y, the final states and, in training, the codes."""
        named = dict(zip(self.names, inputs, strict=True))
        shape = tuple(named["x"].shape[1:])
        arrays = {"x": named["x"], "weights": mx.array(self.weights)}
        for i, state in enumerate(self.of.states):
            if state in named:
                arrays[f"s{i}_in"] = named[state].astype(mx.float32)
        for i, number in enumerate(self.of.numbers):
            arrays[f"p{i}_at"] = named[number.name].astype(mx.float32)
        layout = Layout.of(shape).coding(widest(self.of))
        got = launch(self.sources[0], self.of, self.variant, layout, arrays)
        return tuple(
            a if name == "code" else a.reshape(*a.shape[:-1], *shape) for name, a in got.items()
        )

    def backward(
        self, inputs: tuple[mx.array, ...], cotangents: tuple[mx.array, ...], outputs: Any
    ) -> tuple[mx.array, ...]:
        """Return the gradients in the order of the inputs; zeros where there is none."""
        x, shape = inputs[0], tuple(inputs[0].shape[1:])
        arrays = {"code": outputs[-1], "weights": mx.array(self.weights)}
        arrays["g_y"] = cotangents[0].astype(x.dtype)
        layout = Layout.of(shape)
        if self.learned:
            layout = layout.lanes("layer", min(LANE, layout.total), 1)
        got = launch(self.sources[1], self.of, self.variant, layout, arrays)
        g_x = mx.broadcast_to(got["g_x"].reshape(1, *shape), x.shape)
        found = {"x": g_x}
        if self.learned:
            found["p.threshold"] = (self.kappa * mx.sum(got["partial_p0"])).reshape(
                inputs[self.names.index("p.threshold")].shape
            )
        return tuple(
            found[n] if n in found else mx.zeros_like(a)
            for n, a in zip(self.names, inputs, strict=True)
        )
