"""The form of a program that keeps least for the backward pass: both passes, for one run."""

from __future__ import annotations

from collections.abc import Collection

from snnx.mode import Run, op_attributes
from snnx.passes.fuse import fuse_norm_neuron
from snnx.passes.pack import mark_packed
from snnx.program import Program


def lean_form(
    program: Program,
    run: Run,
    keep: Collection[str] = (),
    at: str | None = None,
    trains: bool = True,
) -> Program:
    """Return norms, residuals and neurons as one step each, and spikes marked to be kept as bits.

    Edges named in `keep` remain, and `at`, which is given from outside. What fires hard is known
    from the run. Without `trains` no gradient is taken, and nothing is marked.
    """
    given = () if at is None else (at,)
    fused = fuse_norm_neuron(program, {*keep, *given})
    if not trains:
        return fused
    fires = {s.path: op_attributes(s, run, run.steps)["fire"] for s in fused.spiking}
    return mark_packed(fused, {path for path, fire in fires.items() if fire != "spike"}, given)
