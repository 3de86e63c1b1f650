"""Level "ops": every op, every sample, every dtype that the backend declares.

Outputs and all gradients are compared with the float64 reference on inputs rounded to the dtype.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from snnx.backend import Backend
from snnx.ops import OPS, Op, Sample
from snnx.ops._cases import generator
from snnx_conformance.case import Case, Outcome, reproduce
from snnx_conformance.compare import Comparison

SPIKING = ("spike", "mixed")


def round_to(array: Any, dtype: str) -> np.ndarray:
    """Return a float array rounded to the dtype, as float64; others as they are."""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        return array
    if dtype == "bfloat16":  # float32 whose lower 16 bits are rounded away, halves to even
        raw = array.astype(np.float32).view(np.uint32)
        raw = (raw + 0x7FFF + ((raw >> 16) & 1)) & np.uint32(0xFFFF0000)
        return raw.view(np.float32).astype(np.float64)
    return array.astype(dtype).astype(np.float64)


def cotangents(
    sample: Sample, outputs: Mapping[str, np.ndarray], seed: str
) -> dict[str, np.ndarray]:
    """Return the sample's cotangents, zeros where it names others only, or drawn ones."""
    if sample.cotangents is not None:
        given = sample.cotangents
        return {n: given.get(n, np.zeros(np.shape(y))) for n, y in outputs.items()}
    rng = generator(zlib.crc32(seed.encode()))
    if sample.kind == "random":
        return {n: rng.standard_normal(np.shape(y)) for n, y in outputs.items()}
    return {n: rng.integers(-4, 5, np.shape(y)) * 0.25 for n, y in outputs.items()}


def near_threshold(op: Op, inputs: Mapping[str, np.ndarray], sample: Sample) -> np.ndarray | None:
    """Return where [N, *F] a potential comes nearer to threshold than the sample's margin."""
    attributes = sample.attributes
    fires = "neuron" in attributes and attributes.get("fire", "spike") in SPIKING
    if sample.kind != "random" or not fires:
        return None
    seen = op.forward(np, inputs, {**attributes, "observe": True})["potential"]
    near = np.any(np.abs(seen) < sample.margin, axis=0)
    if "feedback" in inputs:  # the features of a sample act on each other
        near = np.broadcast_to(np.any(near, axis=-1, keepdims=True), near.shape)
    return near


def run_case(backend: Backend, op: Op, sample: Sample, dtype: str, case: Case) -> Outcome:
    """Compare one sample in one dtype."""
    inputs = {n: round_to(a, dtype) for n, a in sample.inputs.items()}
    op.check_inputs(inputs)
    wanted = op.forward(np, inputs, sample.attributes)
    given = cotangents(sample, wanted, f"{op.name} {sample.name}")
    given = {n: round_to(g, dtype) for n, g in given.items()}
    near, keep = near_threshold(op, inputs, sample), None
    if near is not None:
        own = [k for k in wanted if k.startswith("state.")]
        given |= {n: np.where(near, 0.0, given[n]) for n in given if n in ("y", *own)}
        keep = dict.fromkeys(("x", "y", *own), ~near)
    found = Comparison(f"{backend.name} {op.name} {sample.name} {dtype}", reproduce(case))
    tolerance = op.tolerance[dtype]
    exact = sample.kind != "random"
    got = backend.run(op, inputs, sample.attributes, dtype)
    found.check("output", wanted, got, None if exact else tolerance.forward, keep)
    if op.differentiable:
        wanted_g = op.vjp(np, inputs, sample.attributes, wanted, given)
        got_g = backend.vjp(op, inputs, sample.attributes, dtype, given)
        allowed = None if exact else tolerance.gradient
        found.check("gradient", wanted_g, got_g, allowed, keep, number_scales(wanted_g))
    return found.outcome()


def number_scales(gradients: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the scale of the gradients of a neuron's numbers: sums over all that may cancel.

    Their terms are of the size of the other gradients.
    """
    sums = [n for n in gradients if n.startswith("p.") or n == "synapse_decay"]
    largest = max((float(np.max(np.abs(g))) for g in gradients.values() if g.size), default=0.0)
    return dict.fromkeys(sums, largest)


def _compute(backend: Backend, op: Op, sample: Sample, dtype: str, name: str) -> Outcome:
    case = Case("ops", name, backend.name, lambda: Outcome("failed"))
    return run_case(backend, op, sample, dtype, case)


def cases(backend: Backend, quick: bool = False) -> Iterator[Case]:
    """Yield the cases of a backend; `quick` leaves out the 16-bit dtypes."""
    dtypes = sorted(backend.dtypes - ({"bfloat16", "float16"} if quick else set()))
    for op in OPS.values():
        if op.name not in backend.ops:
            yield Case("ops", op.name, backend.name, partial(Outcome, "failed"), (op.name,))
            continue
        for sample in op.samples():
            for dtype in dtypes:
                if dtype in sample.dtypes and dtype in op.tolerance:
                    name = f"{op.name}-{sample.name}-{dtype}"
                    compute = partial(_compute, backend, op, sample, dtype, name)
                    yield Case("ops", name, backend.name, compute)
