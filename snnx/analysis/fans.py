"""Which products a neuron's spikes enter: fan-outs, and the way from a product back to spikes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnx.analysis.operations import product_kind
from snnx.program import Program, Step

KEEPERS = ("flatten", "dropout")  # what passes spikes on one by one
POOLS = ("avg_pool2d", "global_avg_pool2d")

Floats = NDArray[np.float64]


def fan_out(program: Program, step: Step) -> Floats:
    """Return how many products of a step each element of its input enters, [*F] of the input.

    A window that hangs over the border has no product there, so border elements count less; the
    sum is what the step really multiplies, `operations` counts the zeros of the padding too.

    Raises: ValueError for a step that multiplies nothing.
    """
    kind = product_kind(program, step)
    if kind is None:
        raise ValueError(f"fan_out: step {step.path} is {step.op}, which multiplies by no weight")
    shape = program.edges[step.inputs["x"]].shape
    if kind != "conv2d":
        return np.full(shape, float(step.shape[-1]))
    kernel = program.parameter(step.inputs["weight"]).shape[1:3]
    stride, padding = step.attributes["stride"], step.attributes["padding"]
    rows, columns = (
        _windows_over(shape[i], step.shape[i], kernel[i], stride, padding) for i in range(2)
    )
    features = step.shape[-1] // step.attributes["groups"]
    return features * rows[:, None, None] * columns[None, :, None] * np.ones(shape)


def _windows_over(size: int, windows: int, kernel: int, stride: int, padding: int) -> Floats:
    """Count the windows over each of `size` places along one axis."""
    return _covers(size, windows, kernel, stride, padding).sum(1).astype(np.float64)


def _covers(size: int, windows: int, kernel: int, stride: int, padding: int) -> NDArray[np.bool_]:
    """Tell which of the windows lie over each of `size` places, [size, windows]."""
    place = np.arange(size)[:, None] + padding - np.arange(windows)[None, :] * stride
    return (place >= 0) & (place < kernel)


def spike_sources(program: Program, edge: str, fold_pools: bool = False) -> tuple[str, ...] | None:
    """Return the edges whose spikes are those of an edge, or None where it is analog.

    A sum of spikes is several spikes; flattening and dropout (in evaluation) change none.
    """
    found = spike_fans(program, edge, np.ones(program.edges[edge].shape), fold_pools)
    return None if found is None else tuple(name for name, _ in found)


def spike_fans(
    program: Program, edge: str, each: Floats, fold_pools: bool
) -> tuple[tuple[str, Floats], ...] | None:
    """Return the edges of `spike_sources`, each with the products that a spike of it enters, [*F].

    `each` are the products that the elements of `edge` enter. Under a pool that is folded a spike
    enters those of every window that holds it.
    """
    shape = program.edges[edge].shape
    if program.edges[edge].binary:
        return ((edge, each.reshape(shape)),)
    step = next((s for s in program.steps if s.output == edge), None)
    if step is None:
        return None
    if step.op == "add":
        a, b = (spike_fans(program, step.inputs[n], each, fold_pools) for n in ("a", "b"))
        return None if a is None or b is None else a + b
    if step.op in POOLS and fold_pools:
        each = _under_pool(program, step, each.reshape(shape))
    elif step.op not in KEEPERS:
        return None
    return spike_fans(program, step.inputs["x"], each, fold_pools)


def _under_pool(program: Program, step: Step, each: Floats) -> Floats:
    """Return the products that every element under an average pool enters, [H, W, C]."""
    height, width, _ = program.edges[step.inputs["x"]].shape
    if step.op == "global_avg_pool2d":
        return np.broadcast_to(each, (height, width, each.shape[-1]))
    kernel, stride = step.attributes["kernel"], step.attributes["stride"]
    rows, columns = (
        _covers(size, windows, kernel, stride, 0).astype(np.float64)
        for size, windows in zip((height, width), each.shape, strict=False)
    )
    return np.einsum("hi,wj,ijc->hwc", rows, columns, each)


def moves(program: Program, edge: str) -> bool:
    """Tell whether an edge differs from step to step under a static input."""
    step = next((s for s in program.steps if s.output == edge), None)
    if step is None:
        return False
    if "neuron" in step.attributes or step.op == "poisson":
        return True
    return any(moves(program, ref) for ref in step.inputs.values() if ref in program.edges)
