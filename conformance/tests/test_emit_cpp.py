"""The shared kernel body, compiled by g++: every sample of the op table, forward and backward."""

from __future__ import annotations

import shutil
from functools import cache
from typing import Any

import numpy as np
import pytest

from snnx import LIF, Learned, Triangular
from snnx import random as stream
from snnx.backend import load_backend
from snnx.emit import unit
from snnx.emit.layout import Layout
from snnx.ops import OPS
from snnx.ops._cases import generator
from snnx.ops._neuron_cases import random_sample
from snnx.ops._op import Op, Sample
from snnx_conformance.case import Case, Outcome
from snnx_conformance.ops import run_case
from tests.cpp_kernels import CppKernels, CppRates
from tests.own_neurons import OWN

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
INEXACT = {"exp", "log", "tanh", "atan", "sqrt"}
EPS = 2.0**-22  # two units in the last place: below that, which path is nearer is luck
WAYS = {"neuron": [("", 0), ("input", 2), ("bits", 3)], "rate_neuron": [("", 0), ("", 3)]}


def own_samples() -> list[Sample]:
    """Return samples of neurons that a user wrote."""
    rng, found = generator(907), []
    for name, neuron in OWN.items():
        for fire in ("spike", "smooth", "mixed", "imposed"):
            found.append(random_sample(rng, f"{name}-{fire}", neuron, (5, 2, 3, 4), fire=fire))
        found.append(random_sample(rng, f"{name}-states", neuron, (9, 2, 6), states=True))
        found.append(random_sample(rng, f"{name}-static", neuron, (1, 2, 6), steps=7))
    return found


def samples(op: Op) -> list[Sample]:
    """Return what is compiled: the op's own samples and, for a neuron, a user's."""
    return [*op.samples(), *(own_samples() if op.name == "neuron" else [])]


@cache
def compiled(name: str, keep: str, chunk: int) -> tuple[CppKernels, list[tuple[Sample, str]]]:
    """Return the kernels of all samples of an op in one library."""
    op = OPS[name]
    made = (CppRates if name == "rate_neuron" else CppKernels)(keep, chunk)
    chosen = []
    for sample in samples(op):
        if keep == "bits" and kept_as(sample) != "bits":
            continue
        for dtype in sample.dtypes:
            made.prepare(sample.inputs, sample.attributes, dtype)
            chosen.append((sample, dtype))
    made.compile()
    return made, chosen


def kept_as(sample: Sample) -> str:
    """Return what the kernels of a sample keep."""
    fire = sample.attributes.get("fire", "spike")
    return "input" if unit(sample.attributes["neuron"], fire).bits is None else "bits"


def outcome(backend: Any, op: Op, sample: Sample, dtype: str) -> Outcome:
    """Run a sample as the conformance suite does."""
    case = Case("ops", sample.name, backend.name, lambda: Outcome("failed"))
    return run_case(backend, op, sample, dtype, case)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keep", "chunk"), [(op, *way) for op, ways in WAYS.items() for way in ways]
)
def test_every_sample_agrees_with_the_reference_as_well_as_the_generic_path(name, keep, chunk):
    made, chosen = compiled(name, keep, chunk)
    naive, op = load_backend("torch"), OPS[name]
    assert len(chosen) > 10
    for sample, dtype in chosen:
        found = outcome(made, op, sample, dtype)
        assert found.passed, found.message
        if dtype == "float32":
            allowed = max(2 * outcome(naive, op, sample, dtype).error, EPS)
            assert found.error <= allowed, (sample.name, found.error, allowed)


@pytest.mark.slow
def test_lists_without_transcendental_functions_are_bit_equal_to_numpy():
    made, chosen = compiled("neuron", "input", 2)
    op, seen = OPS["neuron"], 0
    for sample, dtype in chosen:
        of = unit(sample.attributes["neuron"], sample.attributes.get("fire", "spike"))
        used = {line.op for line in (*of.forward.lines, *of.reverse.lines)}
        if dtype != "float32" or used & INEXACT or sample.attributes.get("steps"):
            continue  # a static input's gradient is a sum over time, in an order of its own
        inputs: dict[str, Any] = {k: np.asarray(v, np.float32) for k, v in sample.inputs.items()}
        if "mask" in inputs:
            inputs["mask"] = inputs["mask"] > 0
        wanted = op.forward(np, inputs, sample.attributes)
        rng = generator(11)
        g = {k: rng.standard_normal(v.shape).astype(np.float32) for k, v in wanted.items()}
        gradients = op.vjp(np, inputs, sample.attributes, wanted, g)
        got = made.run(op, inputs, sample.attributes, dtype)
        got_g = made.vjp(op, inputs, sample.attributes, dtype, g)
        for name, value in wanted.items():
            np.testing.assert_array_equal(got[name], value, err_msg=f"{sample.name} {name}")
        for name, value in gradients.items():
            if not name.startswith("p."):  # sums over neurons, in an order of their own
                np.testing.assert_array_equal(got_g[name], value, err_msg=f"{sample.name} {name}")
        seen += 1
    assert seen > 80


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_backward_recomputes_the_very_spikes_of_the_forward(name):
    neuron, made = OWN[name], CppKernels("input", 4)
    made.witness = True
    rng = generator(5)
    inputs = {"x": 0.3 + rng.standard_normal((11, 3, 257))}
    sample = random_sample(rng, name, neuron, (2, 2, 257))
    inputs |= {k: v for k, v in sample.inputs.items() if k.startswith("p.")}
    attributes = {"neuron": neuron}
    made.prepare(inputs, attributes, "float32")
    made.compile()
    found = made.run(OPS["neuron"], inputs, attributes, "float32")
    g = {k: np.zeros(v.shape) for k, v in found.items()}
    again = made.vjp(OPS["neuron"], inputs, attributes, "float32", g)["witness"]
    assert 0.05 < again.mean() < 0.6
    np.testing.assert_array_equal(again > 0, found["y"] > 0)


def test_mask_bits_made_in_the_kernel_are_those_of_the_stream():
    lif = LIF(surrogate=Triangular(1.0), analog=0.4, threshold=Learned(0.8, "channel"))
    rng = generator(3)
    x = 0.3 + rng.standard_normal((5, 6, 3, 3))  # 9 elements: blocks of 4 end inside a sample
    samples, times, key = np.array([7, 3, 4_000_000_000]), np.arange(5) + 90, 0xFEDCBA98
    word = [9, 12345]  # seed, step
    mask = [stream.bits(word[0], "analog", "3", word[1], samples, times, 9)]
    u = stream.to_uniform(mask[0]).reshape(5, 3, 3, 3)
    share = np.float32(0.4)
    drawn = {
        "seed": np.array([word[0]]),
        "count": np.array([word[1]]),
        "index": samples,
        "times": times,
        "share": np.array([share]),
    }
    given = {"x": x, "p.threshold": np.array([0.7, 0.8, 0.9])}
    attributes = {"neuron": lif, "fire": "mixed"}
    made = CppKernels("input", 2)
    plain = {**given, "mask": np.tile(u < share, (1, 2, 1, 1))}  # two copies share their draws
    made.prepare(plain, attributes, "float32")
    made.drawn = True
    job = made.prepare(given, attributes, "float32")
    made.compile()
    arrays = made.arrays(job, given, attributes) | drawn
    arrays |= {"g_y": rng.standard_normal(x.shape), "g_s0_out": np.zeros(x.shape[1:])}
    layout = Layout.of(x.shape[1:]).lanes("channel", 4, 2)
    key = stream.key_hash("analog", "3")
    got = made.call(job.forward, job, layout, "float32", arrays, samples=3, key=key)
    arrays["checkpoints"] = got["checkpoints"]
    back = made.call(job.backward, job, layout, "float32", arrays, samples=3, key=key)
    made.drawn = False
    wanted = made.run(OPS["neuron"], plain, attributes, "float32")
    np.testing.assert_array_equal(got["y"].reshape(x.shape), wanted["y"])
    assert np.any((wanted["y"] > 0) & (wanted["y"] < 1))
    g = {"y": arrays["g_y"], "state.v": arrays["g_s0_out"]}
    gradient = made.vjp(OPS["neuron"], plain, attributes, "float32", g)["x"]
    np.testing.assert_array_equal(back["g_x"].reshape(x.shape), gradient)
