"""The rule of the op "norm_neuron": kernels where `implementation` says so, else the generic scan.

The kernels see the norm as lines before the step (`snnx.emit.pair`): they give the gradient of x up
to what the batch's statistics take from it, which is one more pass over x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from snnx.emit import Variant, backward, chunk_of, forward
from snnx.emit import pair as pair_unit
from snnx.emit.c_text import CWriter
from snnx.emit.layout import Layout, finished, partials, widest
from snnx.ops.norm_neuron import step_count
from snnx_mlx.draws import ARGUMENTS
from snnx_mlx.kernels.implementation import implementation
from snnx_mlx.kernels.launch import LANE, launch
from snnx_mlx.kernels.neuron import opened
from snnx_mlx.norm_neuron import Branch, FusedScan, run_fused

Arrays = Mapping[str, mx.array]
KINDS = {"": "norm", "residual_": "residual"}


class KernelPair(FusedScan):
    """The scan of norm, residual and neuron by kernels; statistics are its parent's."""

    by_kernel = True

    @classmethod
    def own(cls, inputs: Mapping[str, Any]) -> tuple[dict[str, mx.array], tuple[int, int]]:
        """Return the inputs, and for a mask what the kernel draws it from."""
        return opened(inputs)

    def prepare(self) -> None:
        """Make the kernels; what they fix is known once the branches are."""
        normed = [b for b in self.branches if b.mode is not None]
        residual = ("" if len(self.branches) == 1 else "plain") if len(normed) == 1 else "norm"
        fire = self.fire
        self.of = pair_unit(self.unit, fire, "potential" in self.sequences, residual)  # type: ignore[arg-type]
        extra = {"mixed": "mask", "imposed": "spike"}.get(fire, "")
        extra = "drawn" if "seed" in self.names else extra
        chunk = chunk_of(self.steps, "input", len(self.of.states), 0)
        states = tuple(name for name in self.of.states if name in self.names)
        static = self.branches[0].static
        fixed = (self.steps, static, states, extra, "input", self.final, chunk)
        self.state_names = self.state_names if self.final else ()
        self.packed = self.branches[-1].packed
        self.variant = Variant(*fixed, emits=self.emits, packed=self.packed)  # type: ignore[arg-type]
        self.sources = tuple(m(self.of, self.variant, CWriter) for m in (forward, backward))

    def _kernel_arrays(self, given: Arrays) -> dict[str, mx.array]:
        found = {"x": given["x"]}
        if self.packed:  # read as bits, so that nothing keeps the sequence itself
            found["residual_bits"] = given["residual_bits"]
            if self.packed != "unit":
                found["residual_scale"] = given["residual_scale"].astype(given["x"].dtype)
        elif len(self.branches) > 1:
            found["residual"] = given["residual"].astype(given["x"].dtype)
        found |= {f"s{i}_in": given[s] for i, s in enumerate(self.of.states) if s in given}
        numbers = dict(given)
        for branch in self.branches:
            if branch.mode is not None:
                for name in ("mean", "factor", "bias"):
                    array = given[f"{branch.prefix}{name}"].astype(mx.float32)
                    numbers[f"p.{KINDS[branch.prefix]}.{name}"] = array.reshape(-1)
        for i, number in enumerate(self.of.numbers):
            found[f"p{i}_at"] = numbers[number.name]
        found |= {name: given[name] for name in ARGUMENTS if name in given}
        if "mask" in given:
            found["mask"] = given["mask"].astype(mx.uint8)
        if "spike" in given:
            found["imposed"] = given["spike"].astype(mx.float32)
        return found

    def joint(self, *inputs: mx.array) -> tuple[mx.array, ...]:
        """Return what the kernel gives, statistics, spikes as bits, and checkpoints."""
        given = self._named(inputs)
        extra = self._extra(given)
        arrays = self._kernel_arrays(self._restored(given, extra))
        shape = tuple(inputs[self.names.index("x")].shape[1:])
        got = launch(self.sources[0], self.of, self.variant, Layout.of(shape), arrays, self.place)
        last = [got.pop(name) for name in ("fired", "checkpoints") if name in got]
        found = [a.reshape(*a.shape[:-1], *shape) for a in got.values()]
        return (*found, *extra, *last)

    def pull(self, inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        """Run the backward kernel, then take from its gradients what the statistics take."""
        last = len(self.sequences) + len(self.state_names)
        given = self._restored(self._named(inputs), list(outputs[last:]))
        arrays, shape = self._kernel_arrays(given), tuple(given["x"].shape[1:])
        arrays["g_y"] = cotangents[0].astype(given["x"].dtype)
        for i in range(len(self.state_names)):
            g_state = cotangents[len(self.sequences) + i]
            arrays[f"g_s{i}_out"] = g_state.astype(mx.float32)
        if self.variant.parts > 1:
            arrays["checkpoints"] = outputs[-1]
        layout = Layout.of(shape)
        layout = layout.lanes(widest(self.of), min(LANE, layout.total), 1)
        got = launch(self.sources[1], self.of, self.variant, layout, arrays, self.place)
        states = [(i, s) for i, s in enumerate(self.of.states) if s in self.names]
        found = {s: got[f"g_s{i}_in"].reshape(shape) for i, s in states}
        sums = {
            name: finished(got[partial], share, layout)
            for name, (partial, share) in partials(self.of).items()
        }
        for branch in self.branches:
            g = got["g_residual" if branch.prefix else "g_x"].reshape(-1, *shape)
            found |= self._settled(branch, given, g, sums)
        by_name = dict(zip(self.names, inputs, strict=True))
        found |= {n: g.reshape(by_name[n].shape) for n, g in sums.items() if n in by_name}
        return tuple(found[n] if n in found else mx.zeros_like(a) for n, a in by_name.items())

    def _settled(
        self, branch: Branch, given: Arrays, g: mx.array, sums: Arrays
    ) -> dict[str, mx.array]:
        """Return the gradients of a branch's input and of its norm."""
        if branch.mode is None:
            return {branch.name: g}
        x, prefix = given[branch.name].astype(mx.float32), branch.prefix
        kind = KINDS[prefix]
        joint, total = sums[f"p.{kind}.factor"], sums[f"p.{kind}.bias"]
        mean, inverse, factor = (
            given[f"{prefix}{n}"].reshape(-1) for n in ("mean", "inverse", "factor")
        )
        g = g.astype(mx.float32)
        if branch.mode != "running":
            count, whole = x.size // x.shape[-1], (total, joint)
            if branch.share is not None:
                count, whole = branch.share.values(x), branch.share.sums(total, joint)
            spread = (x - mean) * (inverse * inverse * whole[1] / count)
            g = g - factor * (whole[0] / count + spread)
        if branch.share is not None:
            g = branch.share.own(g)
        return {
            branch.name: g,
            f"{prefix}weight": branch.scale * inverse * joint,
            f"{prefix}bias": total,
        }


def norm_neuron(inputs: Arrays, attributes: Mapping[str, Any]) -> dict[str, mx.array]:
    """Run norm, residual and neuron over time: see `snnx.ops.norm_neuron`."""
    x, steps = inputs["x"], step_count(inputs, attributes)
    whole = all(inputs[n].shape[0] == steps for n in ("x", "residual") if n in inputs)
    fits = (whole or "residual" not in inputs) and attributes.get("copies", 1) == 1
    chosen = implementation(attributes, x.dtype, x.size // x.shape[0]).name if fits else "generic"
    return run_fused(FusedScan if chosen == "generic" else KernelPair, inputs, attributes)
