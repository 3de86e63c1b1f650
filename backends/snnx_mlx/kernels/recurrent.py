"""The rule of the op "recurrent": kernels where `implementation` says so, else the generic scan.

The kernel holds the whole loop over time; a thread group owns a row of the batch. Kept for the
backward are the synapse's currents, the neuron's states before each chunk, and y: as bits where it
is the hard spike. The gradient of the feedback is a product over all steps at once, outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx.emit import Loop, Source, Unit, chunk_of_loop, recurrent_backward, recurrent_forward, unit
from snnx.emit.group_rows import GroupResident, GroupRows
from snnx.emit.recurrent import recurrent_shapes
from snnx_mlx import recurrent as generic
from snnx_mlx.arrays import custom_op, sum_to
from snnx_mlx.draws import ARGUMENTS
from snnx_mlx.kernels import launch
from snnx_mlx.kernels.implementation import implementation
from snnx_mlx.kernels.neuron import opened

Arrays = Mapping[str, mx.array]
RESIDENT = GroupResident.capacity  # units of which each has a thread of its own
THREADS = 256  # of a group where there are more units
UNPACKED = 64  # steps of y that are unpacked at a time
_SINGLE = ("scratch",)  # written for the kernel itself


def recurrent(inputs: Arrays, attributes: Mapping[str, Any]) -> dict[str, mx.array]:
    """Run a recurrent layer over time: see `snnx.ops.recurrent`."""
    x, units = inputs["x"], inputs["feedback"].shape[0]
    chosen = implementation(attributes, x.dtype, x.size // x.shape[0], units)
    if chosen.name == "generic":
        return generic.recurrent(inputs, attributes)
    fire, observe = attributes.get("fire", "spike"), bool(attributes.get("observe", False))
    of = unit(attributes["neuron"], fire, observe)
    inputs, place = opened(inputs)
    extra = {"mixed": "mask", "imposed": "spike"}.get(fire, "")
    beside: tuple[str, ...] = (extra,) if extra else ()
    if "seed" in inputs:
        extra, beside = "drawn", ARGUMENTS
    states = ("state.c", "state.y", *of.states)
    given = states if any(n in inputs for n in states) else ()
    rest = mx.zeros(x.shape[1:], mx.float32)
    inputs |= {n: rest for n in given if n not in inputs}
    decay, learns = attributes.get("synapse_decay", 0.0), "synapse_decay" in inputs
    if learns:
        decay, beside = (
            "neuron" if inputs["synapse_decay"].ndim else "layer",
            (*beside, "synapse_decay"),
        )
    outputs = dict(of.forward.outputs)
    hard = outputs["y"] == outputs["spike"] and fire == "spike"
    steps, narrow = attributes.get("steps", x.shape[0]), x.dtype != mx.float32
    loop = Loop(
        steps,
        x.shape[0] < steps,
        bool(given),
        extra,  # type: ignore[arg-type]
        attributes.get("trains", True),
        decay,
        learns,
        narrow and (bool(given) or not hard),
        hard,
        chunk_of_loop(steps),
    )
    names = ("x", "feedback", *given, *(n.name for n in of.numbers), *beside)
    found = _made(of, loop, names, place, units <= RESIDENT)(*(inputs[name] for name in names))
    results = ("y", *(("spike", "potential") if observe else ()), *states)
    return dict(zip(results, found, strict=False))


@lru_cache(maxsize=1024)
def _made(
    of: Unit, loop: Loop, names: tuple[str, ...], place: tuple[int, int], resident: bool
) -> Any:
    fused = _Fused(of, loop, names, place, resident)
    if loop.trains:
        return custom_op(fused.forward, fused.backward)
    whole = _Fused(of, replace(loop, trains=True), names, place, resident)

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        return whole.backward(inputs, cotangents, whole.forward(*inputs))  # it kept nothing

    return custom_op(fused.forward, backward)


class _Fused:
    """Forward and backward of one recurrent layer by kernels, on inputs of these names."""

    def __init__(
        self, of: Unit, loop: Loop, names: tuple[str, ...], place: tuple[int, int], resident: bool
    ) -> None:
        self.of, self.loop, self.names, self.place = of, loop, names, place
        self.resident = resident
        make = GroupResident if resident else GroupRows
        self.sources = [recurrent_forward(of, loop, make)]
        self.sources += [recurrent_backward(of, loop, make)] if loop.trains else []
        self.states = ("c", "y", *(f"s{i}" for i in range(len(of.states))))
        self.sequences = 3 if of.observe else 1

    def _beside(self, named: Arrays) -> dict[str, mx.array]:
        """Return what both kernels take besides sequences."""
        found = {
            f"p{i}_at": named[n.name].astype(mx.float32) for i, n in enumerate(self.of.numbers)
        }
        found |= {name: named[name] for name in ARGUMENTS if name in named}
        if "synapse_decay" in named:
            found["decay_at"] = named["synapse_decay"].astype(mx.float32)
        if "mask" in named:
            found["mask"] = named["mask"].astype(mx.uint8)
        if "spike" in named:
            found["imposed"] = named["spike"].astype(mx.float32)
        return found

    def _launch(self, source: Source, arrays: Arrays, like: mx.array) -> dict[str, mx.array]:
        """Run a kernel on sequences of steps like [T, N, F]; return what it wrote, by name."""
        shape, units = like.shape[1:], like.shape[-1]
        total = like.size // like.shape[0]
        wanted = recurrent_shapes(source, self.of, self.loop, total)
        kind = {a.name: "word32" if a.kind == "word" else a.kind for a in source.arguments}
        known = {"total": total, "units": units, "features": units}
        known |= dict(zip(("samples", "key"), self.place, strict=True))
        given = [arrays[name].reshape(-1) for name in source.names("in")]
        given.append(mx.array([known[name] for name in source.names("size")], mx.uint32))
        outputs = [
            (flat, like.dtype if kind[name] == "data" else launch.TYPES[kind[name]])
            for name, flat in wanted.items()
        ]
        group = units if self.resident else THREADS
        found = launch.execute(source, given, like.dtype, total // units * group, outputs, group)
        return {
            name: a.reshape(*flat[:-1], *shape)
            for (name, flat), a in zip(wanted.items(), found, strict=True)
            if name not in _SINGLE
        }

    def forward(self, *inputs: mx.array) -> tuple[mx.array, ...]:
        """Return y, what is observed, c, last y, states; in training currents, checkpoints, y."""
        named = dict(zip(self.names, inputs, strict=True))
        arrays = {"x": named["x"], "matrix": named["feedback"].astype(mx.float32).T}
        arrays |= self._beside(named)
        if self.loop.given:
            given = ("state.c", "state.y", *self.of.states)
            for name, state in zip(self.states, given, strict=True):
                arrays[f"{name}_in"] = named[state].astype(mx.float32)
        made = self._launch(self.sources[0], arrays, named["x"])
        y = made["y"] if self.loop.apart else made["y"][1:]
        last = made["z" if self.loop.apart else "y"][-1].astype(mx.float32)
        seen = [made[n] for n in ("spike", "potential") if n in made]
        states = [made[f"{name}_out"] for name in self.states[2:]]
        if not self.loop.trains:
            return (y, *seen, made["c_out"], last, *states)
        held = made["bits" if self.loop.bits else "z" if self.loop.apart else "y"]
        kept = (made["currents"], made["checkpoints"], held)
        return (y, *seen, made["c_out"], last, *states, *kept)

    def backward(
        self, inputs: tuple[mx.array, ...], cotangents: tuple[mx.array, ...], outputs: Any
    ) -> tuple[mx.array, ...]:
        """Return the gradients in the order of the inputs; zeros where there is none."""
        named = dict(zip(self.names, inputs, strict=True))
        feedback = named["feedback"].astype(mx.float32)
        currents, checkpoints, held = outputs[-3:]
        arrays = {"currents": currents, "checkpoints": checkpoints, "matrix": feedback}
        arrays |= {**self._beside(named), "g_y": cotangents[0].astype(named["x"].dtype)}
        finals = cotangents[self.sequences : self.sequences + len(self.states)]
        for name, g in zip(self.states, finals, strict=True):
            arrays[f"g_{name}_out"] = g.astype(mx.float32)
        made = self._launch(self.sources[1], arrays, arrays["g_y"])
        g_c = made["g_c"]
        g_x = g_c[:-1]
        found = {"x": mx.sum(g_x, axis=0, keepdims=True) if self.loop.static else g_x}
        found["feedback"] = product(self.loop, g_c, held, named.get("state.y"))
        if self.loop.given:
            found |= {"state.c": made["g_c_in"], "state.y": mx.matmul(g_c[0], feedback)}
            found |= {n: made[f"g_s{i}_in"] for i, n in enumerate(self.of.states)}
        sums = {n.name: f"sum_p{i}" for i, n in enumerate(self.of.numbers) if n.learned}
        sums |= {"synapse_decay": "sum_b"} if self.loop.learns else {}
        found |= {n: sum_to(made[array], named[n].shape) for n, array in sums.items()}
        return tuple(found[n] if n in found else mx.zeros_like(a) for n, a in named.items())


def product(loop: Loop, g_c: mx.array, held: mx.array, first: mx.array | None) -> mx.array:
    """Return the sum over t of g_c[t]^T y[t-1]; y[-1] is `first`, or 0."""
    units = g_c.shape[-1]

    def joint(g: mx.array, y: mx.array) -> mx.array:
        return mx.matmul(g.reshape(-1, units).T, y.reshape(-1, units).astype(mx.float32))

    if not loop.bits:
        return joint(g_c[:-1], held[:-1])
    terms = [] if first is None else [joint(g_c[0], first)]
    places = mx.arange(loop.chunk, dtype=mx.uint32).reshape(1, -1, *[1] * (g_c.ndim - 1))
    together = max(UNPACKED // loop.chunk, 1)
    for chunk in range(0, loop.count, together):
        begin = 1 + chunk * loop.chunk  # the output of step t meets the gradient of step t + 1
        g = g_c[begin : begin + together * loop.chunk]
        words = held[chunk : chunk + together, None]
        y = mx.bitwise_and(mx.right_shift(words, places), mx.array(1, mx.uint32))
        terms.append(joint(g, y.reshape(-1, *g_c.shape[1:])[: g.shape[0]]))
    return sum(terms[1:], start=terms[0])
