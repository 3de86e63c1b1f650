"""The pair of norm and neuron as one unit of the kernels: by g++ on the op table's samples."""

from __future__ import annotations

import shutil
from functools import cache

import numpy as np
import pytest

from snnx import LIF, Triangular
from snnx.backend import load_backend
from snnx.emit import Variant, forward, pair
from snnx.emit.c_text import CWriter
from snnx.emit.layout import Layout
from snnx.ops import OPS
from snnx.ops._cases import generator
from snnx.ops._op import Sample
from tests.cpp_pairs import CppPairs
from tests.test_emit_cpp import EPS, outcome

NEEDS = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
OP = OPS["norm_neuron"]


def fits(sample: Sample) -> bool:
    """Return whether the kernels serve a sample: one copy, and inputs of one length."""
    lengths = {sample.inputs[n].shape[0] for n in ("x", "residual") if n in sample.inputs}
    both = "residual" in sample.inputs and lengths != {sample.attributes["steps"]}
    return sample.attributes.get("copies", 1) == 1 and len(lengths) == 1 and not both


@cache
def compiled(chunk: int) -> tuple[CppPairs, list[tuple[Sample, str]]]:
    """Return the kernels of all samples in one library."""
    made, chosen = CppPairs("input", chunk), []
    for sample in filter(fits, OP.samples()):
        for dtype in sample.dtypes:
            made.prepare(sample.inputs, sample.attributes, dtype)
            chosen.append((sample, dtype))
    made.compile()
    return made, chosen


@NEEDS
@pytest.mark.parametrize("chunk", [0, 2])
def test_every_sample_agrees_with_the_reference_as_well_as_the_generic_path(chunk: int) -> None:
    made, chosen = compiled(chunk)
    naive = load_backend("torch")
    assert len(chosen) >= 18
    for sample, dtype in chosen:
        found = outcome(made, OP, sample, dtype)
        assert found.passed, found.message
        if dtype == "float32":
            allowed = max(2 * outcome(naive, OP, sample, dtype).error, EPS)
            assert found.error <= allowed, (sample.name, found.error, allowed)


@NEEDS
@pytest.mark.parametrize("residual", ["", "plain", "norm"])
def test_the_backward_recomputes_the_very_spikes_of_the_forward(residual: str) -> None:
    made = CppPairs("input", 4)
    made.witness = True
    rng = generator(8)
    shape, channels = (11, 3, 17, 5), 5
    inputs = {"x": 0.5 + rng.standard_normal(shape)}
    names = ("weight", "bias", "running_mean", "running_var")
    for branch in ("", *(("residual_",) if residual == "norm" else ())):
        inputs |= {f"{branch}{n}": rng.uniform(0.2, 0.6, channels) for n in names}
    if residual:
        inputs["residual"] = rng.standard_normal(shape)
    neuron = LIF(decay=0.7, surrogate=Triangular(1.0))
    attributes = {"neuron": neuron, "mode": "batch", "steps": 11}
    job = made.prepare(inputs, attributes, "float32")
    made.compile()
    y = made.run(OP, inputs, attributes, "float32")["y"]
    kept = made.call(
        job.forward, job, _layout(shape), "float32", made.arrays(job, inputs, attributes)
    )
    arrays = made.arrays(job, inputs, attributes) | {"checkpoints": kept["checkpoints"]}
    arrays |= {"g_y": np.zeros(shape), "g_s0_out": np.zeros(shape[1:])}
    layout = _layout(shape).lanes("channel", 5, 2)
    again = made.call(job.backward, job, layout, "float32", arrays)["witness"]
    assert 0.05 < y.mean() < 0.6
    np.testing.assert_array_equal(again.reshape(shape) > 0, y > 0)


def _layout(shape: tuple[int, ...]) -> Layout:
    return Layout.of(shape[1:])


def test_the_arithmetic_of_the_norm_stands_once_before_the_step() -> None:
    of = pair(LIF(), residual="norm")
    ops = [(line.op, line.args) for line in of.forward.lines[:7]]
    assert ops[0] == ("sub", ("x", "p.norm.mean"))
    assert ops[3] == ("sub", ("residual", "p.residual.mean"))
    assert ops[6] == ("add", ("n2", "m2"))
    assert of.learned == ("p.norm.factor", "p.norm.bias", "p.residual.factor", "p.residual.bias")
    text = forward(of, Variant(2), CWriter).text
    assert text.count("residual[") == 2
    assert of.bits is None  # the sums of the norm need the input
