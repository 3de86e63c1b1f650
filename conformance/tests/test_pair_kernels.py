"""The op "norm_neuron" of torch by kernels: the shared body on the CPU, on every sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from snnx import LIF, Triangular
from snnx.backend import load_backend
from snnx.ops import OPS
from snnx.ops._op import Sample
from snnx_torch.kernels import host, norm_neuron
from snnx_torch.ops import RULES
from tests.test_emit_cpp import EPS, outcome
from tests.test_emit_pair import fits

NEEDS = pytest.mark.skipif(host.compiler() is None, reason="g++ is not on PATH")
OP = OPS["norm_neuron"]
SAMPLES = list(OP.samples())


def asked(sample: Sample, how: str) -> Sample:
    """Return the sample with an implementation asked for."""
    return replace(sample, attributes={**sample.attributes, "implementation": how})


@NEEDS
@pytest.mark.slow
@pytest.mark.parametrize("sample", [s for s in SAMPLES if fits(s)], ids=lambda s: s.name)
def test_every_sample_agrees_with_the_reference_as_well_as_the_generic_path(sample: Sample) -> None:
    backend = load_backend("torch")
    for dtype in sample.dtypes:
        found = outcome(backend, OP, asked(sample, "cpp"), dtype)
        assert found.passed, found.message
        if dtype == "float32":
            generic = outcome(backend, OP, asked(sample, "generic"), dtype)
            assert found.error <= max(2 * generic.error, EPS), (sample.name, found.error)


@NEEDS
@pytest.mark.parametrize("residual", ["", "spikes", "norm"])
def test_spikes_are_those_of_the_generic_path_and_gradients_follow(residual: str) -> None:
    rng = np.random.default_rng(5)
    shape, channels = (6, 4, 5, 5, 8), 8

    def drawn(*size: int) -> torch.Tensor:
        return torch.tensor(rng.standard_normal(size), dtype=torch.float32)

    inputs: dict[str, Any] = {"x": drawn(*shape)}
    for branch in ("", *(("residual_",) if residual == "norm" else ())):
        inputs |= {f"{branch}weight": 1.0 + 0.2 * drawn(channels)}
        inputs |= {f"{branch}bias": 0.3 + 0.1 * drawn(channels)}
        inputs |= {f"{branch}running_mean": torch.zeros(channels)}
        inputs |= {f"{branch}running_var": torch.ones(channels)}
    if residual:
        values = drawn(*shape)
        inputs["residual"] = (values > 0.8).float() if residual == "spikes" else values
    learns = [n for n in inputs if "running" not in n]
    attributes = {"neuron": LIF(decay=0.7, surrogate=Triangular(1.0)), "mode": "batch", "steps": 6}
    attributes |= {"residual_packed": "unit"} if residual == "spikes" else {}
    g, results = drawn(*shape), []
    for how in ("generic", "cpp"):
        given = {n: a.clone().requires_grad_(n in learns) for n, a in inputs.items()}
        out = norm_neuron(given, {**attributes, "implementation": how})
        (out["y"] * g).sum().backward()
        gradients = {n: given[n].grad for n in learns}
        results.append(({k: v.detach() for k, v in out.items()}, gradients))
    (generic, g_generic), (fast, g_fast) = results
    assert 0.05 < generic["y"].mean() < 0.6
    for name in ("y", "state.v", "running_mean", "running_var"):
        assert torch.equal(fast[name], generic[name]), name
    for name, each in g_generic.items():
        assert torch.any(each != 0), name
        torch.testing.assert_close(g_fast[name], each, rtol=1e-4, atol=1e-5, msg=name)


@NEEDS
def test_what_kernels_cannot_do_runs_by_the_generic_rule() -> None:
    sample = next(s for s in SAMPLES if s.name == "copies")
    found = outcome(load_backend("torch"), OP, asked(sample, "auto"), "float32")
    assert found.passed, found.message
    assert RULES["norm_neuron"] is norm_neuron
