"""Torch's habit of laying out weights, as an import and export of snapshots.

Torch writes convolution weights [O, I, kH, kW] and flattens images in the order C, H, W; snnx
writes [O, kH, kW, I] and flattens in the order H, W, C. So after a Flatten the columns of a linear
map, and all numbers that follow the flattened axis, are permuted. This module owns the permutation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from snnx.backend import Snapshot
from snnx.program import Program, Shape

Move = Callable[[np.ndarray], np.ndarray]
_CARRIES = ("batch_norm", "neuron", "rate_neuron", "recurrent", "dropout", "poisson", "add")


def to_torch_layout(snapshot: Snapshot, program: Program) -> Snapshot:
    """Return the snapshot with every array as torch would hold it."""
    return _moved(snapshot, program, True)


def from_torch_layout(snapshot: Snapshot, program: Program) -> Snapshot:
    """Return the snapshot of torch's layout as canonical arrays."""
    return _moved(snapshot, program, False)


def _moved(snapshot: Snapshot, program: Program, out: bool) -> Snapshot:
    moves = _moves(program, out)

    def each(arrays: Mapping[str, np.ndarray], suffix: bool = False) -> dict[str, np.ndarray]:
        found = {}
        for name, array in arrays.items():
            move = moves.get(name.rsplit(".", 1)[0] if suffix else name)
            found[name] = np.ascontiguousarray(move(array)) if move else np.array(array)
        return found

    return replace(
        snapshot,
        parameters=each(snapshot.parameters),
        statistics=each(snapshot.statistics),
        moments=each(snapshot.moments, suffix=True),
    )


def _moves(program: Program, out: bool) -> dict[str, Move]:
    """Return by path how an array moves; what is not named stays as it is."""
    moves: dict[str, Move] = {}
    flat: dict[str, Shape] = {}  # edges whose last axis is a flattened image of this H, W, C
    shapes = {p.path: p.shape for p in program.parameters}
    shapes |= {s.path: s.shape for s in program.statistics}
    for step in program.steps:
        x = step.inputs.get("x", step.inputs.get("a", ""))
        edge = program.edges[x].shape
        image = edge if step.op == "flatten" and len(edge) == 3 else flat.get(x)
        if step.op == "conv2d":
            axes = (0, 3, 1, 2) if out else (0, 2, 3, 1)
            moves[step.inputs["weight"]] = lambda a, axes=axes: a.transpose(axes)
        if image is not None and (step.op in _CARRIES or step.op == "flatten"):
            flat[step.output] = image
        own = [ref for ref in step.inputs.values() if ref in shapes]
        for ref in own:
            if image is not None and step.op != "conv2d":
                moves[ref] = _along(image, shapes[ref], out, both=ref.endswith(".feedback"))
            elif step.op in ("neuron", "rate_neuron") and len(shapes[ref]) == 3:
                axes = (2, 0, 1) if out else (1, 2, 0)
                moves[ref] = lambda a, axes=axes: a.transpose(axes)
        if image is not None and step.op == "array_layer" and own:
            raise ValueError(
                f"layer {step.path} {step.layer}: its parameters follow a Flatten, and only its "
                "author knows how they are laid out; convert them by hand"
            )
    return moves


def _along(image: Shape, shape: Shape, out: bool, both: bool) -> Move:
    """Return the permutation of the flattened axis (the last; of `feedback` both)."""
    h, w, c = image
    size = h * w * c
    order = np.arange(size).reshape(h, w, c).transpose(2, 0, 1).reshape(-1)
    order = order if out else np.argsort(order)

    def move(array: np.ndarray) -> np.ndarray:
        if not shape or shape[-1] != size:
            return array
        array = array[..., order]
        return array[order] if both else array

    return move
