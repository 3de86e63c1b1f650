"""Fold batch norms into the layer before them, for inference.

    W' = W scale gamma / sg,    b' = beta + (b - mean) scale gamma / sg,    sg = sqrt(var + eps)

Folded is every norm fed by one conv2d or linear that feeds nothing else; others stay, and so does
the norm after a quantised weight, whose levels the product would leave. Source: TET Eq. 6, with the
scale of tdBN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snnx.ops.batch_norm import fold
from snnx.program import Init, Parameter, Program, Step

Arrays = Mapping[str, np.ndarray]


def fold_norm(
    program: Program, parameters: Arrays, statistics: Arrays
) -> tuple[Program, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the folded program with its weights and the statistics that are left.

    Weights are combined in float64 and returned in the dtype they had.
    """
    readers: dict[str, list[Step]] = {}
    for step in program.steps:
        for name in step.inputs.values():
            readers.setdefault(name, []).append(step)
    arrays, left = dict(parameters), dict(statistics)
    declared = {p.path: p for p in program.parameters}
    edges = dict(program.edges)
    steps: list[Step] = []
    folded: set[str] = set()
    for step in program.steps:
        norm = _norm_after(step, readers, program.result)
        if step.path in folded:
            continue
        if norm is None:
            steps.append(step)
            continue
        folded.add(norm.path)
        del edges[step.output]
        steps.append(_merged(step, norm, arrays, left, declared))
    kept = tuple(s for s in program.statistics if s.path in left)
    new = replace(
        program,
        steps=tuple(steps),
        edges=edges,
        parameters=tuple(declared.values()),
        statistics=kept,
    )
    return new, arrays, left


def _norm_after(step: Step, readers: Mapping[str, list[Step]], result: str) -> Step | None:
    after = readers.get(step.output, [])
    alone = len(after) == 1 and step.output != result and after[0].op == "batch_norm"
    folds = step.op in ("conv2d", "linear") and "bits" not in step.attributes
    return after[0] if alone and folds else None


def _merged(
    step: Step,
    norm: Step,
    arrays: dict[str, np.ndarray],
    statistics: dict[str, np.ndarray],
    declared: dict[str, Parameter],
) -> Step:
    weight = step.inputs["weight"]
    bias = step.inputs.get("bias", f"{step.path}.bias")
    old = arrays.get(bias)
    dtype = arrays[weight].dtype
    wide = {k: np.asarray(arrays[norm.inputs[k]], np.float64) for k in ("weight", "bias")}
    moments = {
        k: np.asarray(statistics.pop(norm.inputs[k]), np.float64)
        for k in ("running_mean", "running_var")
    }
    new_weight, new_bias = fold(
        np.asarray(arrays[weight], np.float64),
        None if old is None else np.asarray(old, np.float64),
        wide["weight"],
        wide["bias"],
        moments["running_mean"],
        moments["running_var"],
        norm.attributes["eps"],
        norm.attributes["scale"],
    )
    arrays[weight], arrays[bias] = new_weight.astype(dtype), new_bias.astype(dtype)
    for name in ("weight", "bias"):
        del arrays[norm.inputs[name]], declared[norm.inputs[name]]
    declared.setdefault(
        bias, Parameter(bias, new_bias.shape, "bias", "bias", Init("constant", 0.0))
    )
    inputs = {**step.inputs, "bias": bias}
    return replace(step, inputs=inputs, output=norm.output)
