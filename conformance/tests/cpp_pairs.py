"""The pair of norm and neuron by the shared kernel body: a backend that has "norm_neuron" only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from snnx.emit import Variant, backward, chunk_of, forward, pair
from snnx.emit.c_text import CWriter
from snnx.emit.layout import Layout, finished, partials, widest
from snnx.ops.norm_neuron import norm_attributes, norm_inputs, step_count
from tests.cpp_kernels import DATA, CppKernels, Job, read

BRANCHES = {"norm": "", "residual": "residual_"}


def kind_of(inputs: Mapping[str, Any]) -> Any:
    """Return what is added behind the norm."""
    return "norm" if "residual_weight" in inputs else "plain" if "residual" in inputs else ""


class CppPairs(CppKernels):
    """Norms by NumPy around the kernels of the pair: their statistics in float64."""

    def prepare(self, inputs: Mapping[str, Any], attributes: Mapping[str, Any], dtype: str) -> Job:
        fire = attributes.get("fire", "spike")
        of = pair(attributes["neuron"], fire, attributes.get("observe", False), kind_of(inputs))
        steps = step_count(inputs, attributes)
        variant = Variant(
            steps,
            inputs["x"].shape[0] < steps,
            tuple(n for n in of.states if n in inputs),
            {"mixed": "mask", "imposed": "spike"}.get(fire, ""),  # type: ignore[arg-type]
            "input",
            True,
            self.chunk or chunk_of(steps, "input", len(of.states), 0),
            self.witness,
        )
        plain = replace(variant, witness=False)
        made = Job(of, variant, forward(of, plain, CWriter), backward(of, variant, CWriter))
        for source in (made.forward, made.backward):
            self.sources[(source, DATA[dtype], made.word)] = None
        return made

    def arrays(
        self, made: Job, inputs: Mapping[str, Any], attributes: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        norms = {
            f"p.{k}.{n}": v
            for k, each in self.norms(inputs, attributes).items()
            for n, v in each.items()
        }
        found = super().arrays(made, {**inputs, **norms}, attributes)
        if "residual" in inputs:
            found["residual"] = np.asarray(inputs["residual"], np.float64)
        return found

    def norms(
        self, inputs: Mapping[str, Any], attributes: Mapping[str, Any]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return mean, factor, bias and inverse of every norm, float32."""
        found = {}
        for kind, branch in BRANCHES.items():
            given = norm_inputs(inputs, branch)
            if given is None:
                continue
            x = given["x"]
            own = norm_attributes(attributes, branch, x.shape[0], step_count(inputs, attributes))
            axes = tuple(range(x.ndim - 1))
            running = own["mode"] == "running"
            mean = given["running_mean"] if running else x.mean(axes)
            var = given["running_var"] if running else np.square(x - mean).mean(axes)
            inverse = 1.0 / np.sqrt(np.asarray(var, np.float32) + np.float32(own.get("eps", 1e-5)))
            factor = own.get("scale", 1.0) * given["weight"] * inverse
            values = {"mean": mean, "factor": factor, "bias": given["bias"], "inverse": inverse}
            found[kind] = {n: np.asarray(v, np.float32) for n, v in values.items()}
        return found

    def vjp(
        self,
        op: Any,
        inputs: Mapping[str, Any],
        attributes: Mapping[str, Any],
        dtype: str,
        cotangents: Mapping[str, Any],
    ) -> dict[str, np.ndarray]:
        """Return the gradients of both inputs, the norms, states and learned numbers."""
        made = self.prepare(inputs, attributes, dtype)
        shape = inputs["x"].shape[1:]
        layout = Layout.of(shape).lanes(widest(made.unit), 4, 2)
        arrays = self.arrays(made, inputs, attributes)
        kept = self.call(made.forward, made, layout, dtype, arrays)
        arrays |= {n: kept[n] for n in ("checkpoints",) if n in kept}
        arrays["g_y"] = np.asarray(cotangents["y"], np.float64)
        for i, state in enumerate(made.unit.states):
            arrays[f"g_s{i}_out"] = np.asarray(cotangents[state])
        got = self.call(made.backward, made, layout, dtype, arrays)
        found: dict[str, Any] = {"x": read(got["g_x"], dtype).reshape(-1, *shape)}
        if "residual" in inputs:
            found["residual"] = read(got["g_residual"], dtype).reshape(-1, *shape)
        for i, state in enumerate(made.unit.states):
            if state in inputs:
                found[state] = got[f"g_s{i}_in"].reshape(shape)
        sums = {
            name: finished(got[partial], share, layout)
            for name, (partial, share) in partials(made.unit).items()
        }
        for kind, norm in self.norms(inputs, attributes).items():
            branch, name = BRANCHES[kind], "x" if kind == "norm" else "residual"
            g_factor, g_bias = (sums.pop(f"p.{kind}.{n}") for n in ("factor", "bias"))
            scale = attributes.get(f"{branch}scale", 1.0)
            found[f"{branch}weight"] = scale * norm["inverse"] * g_factor
            found[f"{branch}bias"] = g_bias
            x = np.asarray(inputs[name], np.float32)
            if attributes["mode"] != "running":
                n = x.size // x.shape[-1]
                spread = (x - norm["mean"]) * np.square(norm["inverse"]) * g_factor
                found[name] = found[name] - norm["factor"] * (g_bias + spread) / n
        found |= {name: g.reshape(inputs[name].shape) for name, g in sums.items()}
        return {k: np.asarray(v, np.float64) for k, v in found.items()}

    def run(
        self, op: Any, inputs: Mapping[str, Any], attributes: Mapping[str, Any], dtype: str
    ) -> dict[str, np.ndarray]:
        """Return the op's outputs; running statistics are NumPy's."""
        found = super().run(op, inputs, attributes, dtype)
        wanted = op.forward(np, inputs, attributes)
        return {**{n: a for n, a in wanted.items() if "running" in n}, **found}
