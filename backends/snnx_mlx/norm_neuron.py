"""Batch norm, a residual and a neuron as one op that keeps its inputs and computes the rest again.

The current u[t] = (x[t] - mean) a + bias + ... is written once (`FusedScan._at`) and used by the
forward pass and by the recomputation in the backward pass, so that both decide the same spikes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx.ops.norm_neuron import BRANCHES, STATISTICS, norm_attributes, step_count
from snnx_mlx.arrays import custom_op, nested_sum, sum_to
from snnx_mlx.bits import unpack
from snnx_mlx.draws import drawn
from snnx_mlx.norm import moved
from snnx_mlx.ranks import Share
from snnx_mlx.sequence import Scan

Arrays = Mapping[str, mx.array]
Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Branch:
    """What a branch fixes: its input's name, the names' prefix, its norm (mode None: none).

    `packed` tells how a plain residual of spikes is scaled that is kept as bits; "": it is not.
    Statistics of a `share` are those of the whole batch.
    """

    name: str
    prefix: str
    mode: str | None = None
    eps: float = 1e-5
    scale: float = 1.0
    copies: int = 1
    packed: str = ""
    share: Share | None = None
    static: bool = False


def _groups(x: mx.array, copies: int) -> mx.array:
    """Return [T, N, *S, C] as [T, copies, N', *S, C] in float32."""
    return x.astype(mx.float32).reshape(x.shape[0], copies, -1, *x.shape[2:])


def _sum(x: mx.array) -> mx.array:
    """Sum all but the copies' axis and the channels, one axis after another."""
    for axis in (*reversed(range(2, x.ndim - 1)), 0):
        x = mx.sum(x, axis=axis, keepdims=True)
    return x


def _count(x: mx.array, copies: int) -> int:
    return x.size // (copies * x.shape[-1])


class FusedScan(Scan):
    """A scan whose input is a sum of branches; of all sequences it keeps those of the branches."""

    branches: tuple[Branch, ...] = ()
    fire = "spike"
    emits = by_kernel = False  # whether spikes are written as bits, and can be
    final = True  # whether final states are handed over
    place: tuple[int, int] = (0, 0)  # samples and key of the draws that a kernel makes itself

    @classmethod
    def own(cls, inputs: Mapping[str, Any]) -> tuple[dict[str, mx.array], tuple[int, int]]:
        """Return the inputs as arrays, and the place of draws that are left to a kernel."""
        return drawn(inputs), (0, 0)

    def joint(self, *inputs: mx.array) -> tuple[mx.array, ...]:
        """Return what the scan gives, then of each norm mean and variance."""
        given = self._named(inputs)
        extra = self._extra(given)
        rows, state, _ = self._walk(self._restored(given, extra))
        found = [mx.stack(rows[n]) for n in self.sequences]
        found[0] = found[0].astype(given["x"].dtype)
        return (*found, *state.values(), *extra)

    def prepare(self) -> None:
        """Do what is left to do once the branches are known."""

    def _extra(self, given: Arrays) -> list[mx.array]:
        """Return the further outputs of each branch."""
        extra: list[mx.array] = []
        for branch in self.branches:
            if branch.mode is not None:
                extra += self._moments(branch, given)
        return extra

    def pull(self, inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        """Compute the scan again and run its reverse, then that of every branch."""
        first = len(self.sequences)
        last = first + len(self.state_names)
        given = self._restored(self._again(self._named(inputs)), list(outputs[last:]))
        rows, _, before = self._walk(given)
        g_state = dict(zip(self.state_names, cotangents[first:last], strict=True))
        g, g_state, sums = self._rewind(given, cotangents[0], g_state, before, rows["spike"])
        found = {**g_state, **sums}
        for branch in self.branches:
            found |= self._branch_gradients(branch, given, mx.stack(g))
        return tuple(
            sum_to(found[n], a.shape) if n in found else mx.zeros_like(a)
            for n, a in zip(self.names, inputs, strict=True)
        )

    def _moments(self, branch: Branch, given: Arrays) -> list[mx.array]:
        """Return the mean and variance that normalise: the batch's, or the running ones."""
        if branch.mode == "running":
            return [given[f"{branch.prefix}{n}"].astype(mx.float32) for n in STATISTICS]
        x = _groups(given[branch.name], branch.copies)
        if branch.share is not None:
            found = branch.share.moments(given[branch.name].astype(mx.float32))
            return [m.reshape(*[1] * (x.ndim - 1), -1) for m in found]
        mean = _sum(x) / _count(x, branch.copies)
        centred = x - mean
        return [mean, _sum(centred * centred) / _count(x, branch.copies)]

    def _restored(self, given: Arrays, extra: list[mx.array]) -> dict[str, mx.array]:
        """Return the inputs with what `_at` needs of each branch, from the further outputs."""
        found, rest = dict(given), list(extra)
        for branch in self.branches:
            if branch.mode is not None:
                mean, var = rest.pop(0), rest.pop(0)
                inverse = 1.0 / mx.sqrt(var + branch.eps)
                weight = given[f"{branch.prefix}weight"].astype(mx.float32)
                found[f"{branch.prefix}mean"] = mean
                found[f"{branch.prefix}inverse"] = inverse
                found[f"{branch.prefix}factor"] = branch.scale * weight * inverse
                if branch.static and not self.by_kernel:
                    found[f"{branch.prefix}once"] = self._normed(branch, found, given[branch.name])
        return found

    def _again(self, given: Arrays) -> dict[str, mx.array]:
        """Return the inputs, a residual that is kept as bits from these."""
        found = dict(given)
        for branch in self.branches:
            if branch.packed:
                x, scale = given[branch.name], given.get(f"{branch.name}_scale")
                words = given[f"{branch.name}_bits"]
                found[branch.name] = unpack(words, x.shape, scale, x.dtype)
        return found

    def _at(self, given: Arrays, t: int) -> mx.array:
        terms = []
        for branch in self.branches:
            x, once = given[branch.name], f"{branch.prefix}once"
            x = x[t : t + 1] if x.shape[0] > 1 else x
            if branch.mode is None:
                terms.append(x[0].astype(mx.float32))
            else:
                terms.append(given[once] if once in given else self._normed(branch, given, x))
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def _normed(self, branch: Branch, given: Arrays, x: mx.array) -> mx.array:
        """Return one step [1, N, *S, C] normalised, [N, *S, C]."""
        centred = _groups(x, branch.copies) - given[f"{branch.prefix}mean"]
        bias = given[f"{branch.prefix}bias"].astype(mx.float32)
        return (centred * given[f"{branch.prefix}factor"] + bias).reshape(x.shape[1:])

    def _branch_gradients(
        self, branch: Branch, given: Arrays, g_u: mx.array
    ) -> dict[str, mx.array]:
        x, prefix = given[branch.name], branch.prefix
        g = mx.sum(g_u, axis=0, keepdims=True) if x.shape[0] < g_u.shape[0] else g_u
        if branch.mode is None:
            return {branch.name: g}
        inverse = given[f"{prefix}inverse"]
        wide = _groups(g, branch.copies)
        centred = _groups(x, branch.copies) - given[f"{prefix}mean"]
        total, joint = _sum(wide), _sum(wide * centred)
        if branch.mode != "running":
            count, sums = _count(x, branch.copies), (total, joint)
            if branch.share is not None:
                count, sums = branch.share.values(x), branch.share.sums(total, joint)
            wide = wide - sums[0] / count - centred * (inverse * inverse * sums[1] / count)
        if branch.share is not None:
            wide = branch.share.own(wide)
        g_weight = branch.scale * inverse * joint
        return {
            branch.name: (given[f"{prefix}factor"] * wide).reshape(x.shape),
            f"{prefix}weight": nested_sum(g_weight, g_weight.ndim - 1),
            f"{prefix}bias": nested_sum(total, total.ndim - 1),
        }


@lru_cache(maxsize=1024)
def _fused(
    kind: type[FusedScan],
    unit: Any,
    fire: Any,
    observe: bool,
    steps: int,
    names: tuple[str, ...],
    branches: tuple[Branch, ...],
    place: tuple[int, int],
    emits: bool,
    final: bool,
) -> tuple[Any, FusedScan]:
    scan = kind(unit, fire, observe, steps, names, {})
    scan.branches, scan.fire, scan.place = branches, fire, place
    scan.emits, scan.final = emits, final
    scan.prepare()
    return custom_op(scan.joint, scan.pull), scan


def _branch(prefix: str, inputs: Arrays, attributes: Attributes, steps: int) -> Branch:
    name = "residual" if prefix else "x"
    if f"{prefix}weight" not in inputs:
        scale = inputs.get(f"{name}_scale")
        packed = "unit" if scale is None else "channel" if scale.ndim else "layer"
        return Branch(name, prefix, packed=packed if f"{name}_bits" in inputs else "")
    own = norm_attributes(attributes, prefix, inputs[name].shape[0], steps)
    mode, copies = own["mode"], own.get("copies", 1)
    if mode not in ("batch", "frozen_batch", "running"):
        raise ValueError(f"norm_neuron: mode {mode!r} is none of batch, frozen_batch, running")
    share = None if mode == "running" else attributes.get("share")
    eps, scale = own.get("eps", 1e-5), own.get("scale", 1.0)
    static = inputs[name].shape[0] < steps
    return Branch(name, prefix, mode, eps, scale, copies, share=share, static=static)


def run_fused(kind: type[FusedScan], inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Run norm, residual and neuron over time by a kind of scan: see `snnx.ops.norm_neuron`."""
    steps, unit = step_count(inputs, attributes), attributes["neuron"]
    present = [p for p in BRANCHES if ("residual" if p else "x") in inputs]
    branches = tuple(_branch(p, inputs, attributes, steps) for p in present)
    x, states = inputs["x"], unit.trace().states
    rests = kind.by_kernel and not any(f"state.{s}" in inputs for s in states)
    rest = mx.zeros(x.shape[1:], mx.float32)
    given = {} if rests else {f"state.{s}": rest for s in states}
    own, place = kind.own(inputs)
    given |= own
    fire, observe = attributes.get("fire", "spike"), bool(attributes.get("observe", False))
    emits = bool(attributes.get("emits")) and kind.by_kernel
    final = attributes.get("hand_over", True) or not kind.by_kernel
    fixed = (branches, place, emits, final)
    op, scan = _fused(kind, unit, fire, observe, steps, tuple(given), *fixed)
    rest = list(op(*given.values()))
    names = (*scan.sequences, *scan.state_names)
    found = {name: rest.pop(0) for name in names}
    for branch in branches:
        if branch.mode is None:  # a plain residual is the last branch
            break
        first, second = rest.pop(0), rest.pop(0)
        running = [inputs[f"{branch.prefix}{n}"].astype(mx.float32) for n in STATISTICS]
        if branch.mode == "batch" and branch.copies == 1:
            own = norm_attributes(attributes, branch.prefix, inputs[branch.name].shape[0], steps)
            own["share"] = branch.share
            running = moved(inputs[branch.name], first, second, running, own)
        found |= {f"{branch.prefix}{n}": a for n, a in zip(STATISTICS, running, strict=True)}
    return {**found, "bits": rest[0]} if emits else found
