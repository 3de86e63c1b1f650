"""A spiking layer that is fed back to itself through a decaying synapse."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from snnx.trace import Trace
from snnx_mlx.sequence import Arrays, Attributes, Scan, full, run_scan


def recurrent(inputs: Arrays, attributes: Attributes) -> dict[str, mx.array]:
    """Run a neuron that is fed back to itself through a decaying synapse."""
    return run_scan(_RecurrentScan, inputs, attributes)


class _RecurrentScan(Scan):
    """c[t] = b c[t-1] + x[t] + V y[t-1] in front of the neuron; states c, y and the neuron's."""

    attributes = ("synapse_decay",)

    @classmethod
    def states(cls, trace: Trace) -> tuple[str, ...]:
        return ("c", "y", *trace.states)

    def _decay(self, given: Arrays) -> Any:
        return given.get("synapse_decay", self.extra.get("synapse_decay", 0.0))

    def _drive(self, given: Arrays, state: Arrays, x: mx.array) -> mx.array:
        fed = mx.matmul(state["state.y"], given["feedback"].T)
        return self._decay(given) * state["state.c"] + x + fed

    def _carry(self, state: Arrays, out: Arrays, drive: mx.array) -> dict[str, mx.array]:
        own = {n: full(out[n], drive) for n in state if n not in ("state.c", "state.y")}
        return {"state.c": drive, "state.y": full(out["y"], drive), **own}

    def _into_output(self, g_y: mx.array, g_state: Arrays) -> mx.array:
        return g_y + g_state["state.y"]

    def _pull(
        self, given: Arrays, old: Arrays, out: Arrays, g_state: Arrays, like: mx.array
    ) -> tuple[mx.array, dict[str, mx.array], dict[str, mx.array]]:
        g_c = g_state["state.c"] + full(out["g.x"], like)
        before = {n: full(out[f"g.{n}"], like) for n in g_state if f"g.{n}" in out}
        before = {
            "state.c": self._decay(given) * g_c,
            "state.y": mx.matmul(g_c, given["feedback"]),
            **before,
        }
        terms = {"feedback": mx.matmul(g_c.T, old["state.y"])}
        if "synapse_decay" in given:
            terms["synapse_decay"] = g_c * old["state.c"]
        return g_c, before, terms
