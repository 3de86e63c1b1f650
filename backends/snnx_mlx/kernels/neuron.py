"""The rule of the op "neuron": kernels where `implementation` says so, else the generic scan.

The backward recomputes the states from the input, which MLX keeps in any case; bits would spare
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx.emit import Unit, Variant, backward, chunk_of, forward, unit
from snnx.emit.c_text import CWriter
from snnx.emit.layout import Layout, finished, partials, widest
from snnx_mlx import sequence
from snnx_mlx.arrays import custom_op
from snnx_mlx.draws import ARGUMENTS, Drawn
from snnx_mlx.kernels.implementation import implementation
from snnx_mlx.kernels.launch import LANE, launch

Arrays = Mapping[str, mx.array]


def neuron(inputs: Arrays, attributes: Mapping[str, Any]) -> dict[str, mx.array]:
    """Run a neuron over time: see `snnx.ops.neuron`."""
    x = inputs["x"]
    if implementation(attributes, x.dtype, x.size // x.shape[0]).name == "generic":
        return sequence.neuron(inputs, attributes)
    of = unit(
        attributes["neuron"], attributes.get("fire", "spike"), attributes.get("observe", False)
    )
    given = tuple(name for name in of.states if name in inputs)
    inputs, place = opened(inputs)
    extra = {"mixed": "mask", "imposed": "spike"}.get(of.fire, "")
    beside: tuple[str, ...] = (extra,) if extra else ()
    if "seed" in inputs:
        extra, beside = "drawn", ARGUMENTS
    names = ("x", *given, *(n.name for n in of.numbers), *beside)
    steps = attributes.get("steps", x.shape[0])
    keep = "input" if attributes.get("trains", True) else ""
    chunk = chunk_of(steps, keep, len(of.states), 0)
    static = x.shape[0] < steps
    emits, final = bool(attributes.get("emits")), attributes.get("hand_over", True)
    variant = Variant(steps, static, given, extra, keep, final, chunk, emits=emits)  # type: ignore[arg-type]
    found = _made(of, variant, names, place)(*(inputs[name] for name in names))
    handed = of.states if final else ()
    results = ("y", *(("spike", "potential") if of.observe else ()), *handed)
    named = dict(zip(results, found, strict=False))
    return {**named, "bits": found[-1]} if emits else named


def opened(inputs: Mapping[str, Any]) -> tuple[dict[str, mx.array], tuple[int, int]]:
    """Return the inputs with what a mask is drawn from in its place, and its samples and key."""
    mask = inputs.get("mask")
    if not isinstance(mask, Drawn):
        return dict(inputs), (0, 0)
    return {**{n: a for n, a in inputs.items() if n != "mask"}, **mask.arrays()}, mask.place


@lru_cache(maxsize=1024)
def _made(of: Unit, variant: Variant, names: tuple[str, ...], place: tuple[int, int]) -> Any:
    fused = _Fused(of, variant, names, place)
    if variant.keep:
        return custom_op(fused.forward, fused.backward)
    chunk = chunk_of(variant.steps, "input", len(of.states), 0)
    whole = _Fused(of, replace(variant, keep="input", chunk=chunk), names, place)

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        kept = whole.forward(*inputs)  # the forward itself kept nothing
        return whole.backward(inputs, (*cotangents, *kept[len(cotangents) :]), kept)

    return custom_op(fused.forward, backward)


class _Fused:
    """Forward and backward of one unit by kernels, on inputs of these names."""

    def __init__(
        self, of: Unit, variant: Variant, names: tuple[str, ...], place: tuple[int, int]
    ) -> None:
        self.of, self.variant, self.names, self.place = of, variant, names, place
        self.sources = [forward(of, variant, CWriter)]
        self.sources += [backward(of, variant, CWriter)] if variant.keep else []
        self.outputs = self.sources[0].names("out")

    def arrays(self, inputs: tuple[mx.array, ...]) -> dict[str, mx.array]:
        """Return the inputs under the names of the kernels' arguments."""
        named = dict(zip(self.names, inputs, strict=True))
        found = {"x": named["x"]}
        for i, state in enumerate(self.of.states):
            if state in named:
                found[f"s{i}_in"] = named[state].astype(mx.float32)
        for i, number in enumerate(self.of.numbers):
            found[f"p{i}_at"] = named[number.name].astype(mx.float32)
        found |= {name: named[name] for name in ARGUMENTS if name in named}
        if "mask" in named:
            found["mask"] = named["mask"].astype(mx.uint8)
        if "spike" in named:
            found["imposed"] = named["spike"].astype(mx.float32)
        return found

    def forward(self, *inputs: mx.array) -> tuple[mx.array, ...]:
        """Return y, observed sequences, states that are handed over, perhaps checkpoints."""
        shape = tuple(inputs[0].shape[1:])
        layout = Layout.of(shape)
        got = launch(
            self.sources[0], self.of, self.variant, layout, self.arrays(inputs), self.place
        )
        return tuple(
            a if name in ("checkpoints", "fired") else a.reshape(*a.shape[:-1], *shape)
            for name, a in got.items()
        )

    def backward(
        self, inputs: tuple[mx.array, ...], cotangents: tuple[mx.array, ...], outputs: Any
    ) -> tuple[mx.array, ...]:
        """Return the gradients in the order of the inputs; zeros where there is none."""
        shape = tuple(inputs[0].shape[1:])
        arrays = self.arrays(inputs)
        g = dict(zip(self.outputs, cotangents, strict=True))
        arrays["g_y"] = g["y"]
        for i in range(len(self.of.states) if self.variant.final else 0):
            arrays[f"g_s{i}_out"] = g[f"s{i}_out"].astype(mx.float32)
        if "checkpoints" in self.outputs:
            arrays["checkpoints"] = outputs[self.outputs.index("checkpoints")]
        layout = Layout.of(shape)
        if self.of.learned:
            layout = layout.lanes(widest(self.of), min(LANE, layout.total), 1)
        got = launch(self.sources[1], self.of, self.variant, layout, arrays, self.place)
        named = {"x": got["g_x"].reshape(-1, *shape)}
        for i, state in enumerate(self.of.states):
            if state in self.variant.given:
                named[state] = got[f"g_s{i}_in"].reshape(shape)
        of_name = dict(zip(self.names, inputs, strict=True))
        for name, (partial, share) in partials(self.of).items():
            named[name] = finished(got[partial], share, layout).reshape(of_name[name].shape)
        return tuple(
            named[n] if n in named else mx.zeros_like(a)
            for n, a in zip(self.names, inputs, strict=True)
        )
