"""Torch's neurons by the shared body on the CPU: what `kernels="cpp"` runs."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snnx import LIF, TET, Adam, Chain, Dial, Input, Learned, Linear, Optim, Triangular, flatten
from snnx.backend import load_backend
from snnx.building import initial_parameters
from snnx.ops import OPS
from tests.own_neurons import OWN
from tests.test_emit_cpp import outcome, samples

INSTALLED = importlib.util.find_spec("torch") is not None and shutil.which("g++") is not None
pytestmark = pytest.mark.skipif(not INSTALLED, reason="torch is not installed, or g++ not on PATH")
CPP = {"implementation": "cpp"}


@pytest.mark.parametrize("name", ["neuron", "rate_neuron"])
def test_samples_agree_with_the_reference(name):
    backend, op = load_backend("torch"), OPS[name]
    chosen = samples(op)[:: 40 if name == "neuron" else 6]
    for sample in chosen:
        fast = replace(sample, attributes={**sample.attributes, **CPP})
        for dtype in sample.dtypes:
            found = outcome(backend, op, fast, dtype)
            assert found.passed, found.message


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_step_is_bit_equal_on_any_number_of_threads(threads):
    import torch

    from snnx_torch.kernels import neuron

    of = OWN["quadratic"]
    x = torch.linspace(-1, 1.5, 4 * 70_000).sin().view(4, 2, 35_000)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = []
        for how in ("generic", "cpp"):
            given = [x.clone().requires_grad_(), torch.tensor(0.5).requires_grad_()]
            inputs = {"x": given[0], "p.rate": given[1]}
            y = neuron(inputs, {"neuron": of, "implementation": how})["y"]
            results.append((y, *torch.autograd.grad(y, given, torch.ones_like(y))))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("compile", [None, "aot_eager"])
def test_a_session_trains_on_it_as_without(compile):
    own = LIF(analog=Dial("share", 0.2), surrogate=Triangular(1.0), threshold=Learned(0.9))
    model = Chain(Input(64), Linear(16), own, Linear(10))
    backend: Any = load_backend("torch")
    program = flatten(model)
    results: dict[str, Any] = {}
    x = np.random.default_rng(2).uniform(size=(8, 64))
    batch: Any = {"x": x, "y": np.arange(8), "index": np.arange(8)}
    for how in ("generic", "cpp"):
        net = backend.build(program, initial_parameters(program, 0), device="cpu", kernels=how)
        session = backend.session(net, TET(), Optim(Adam(lr=0.01)), steps=4, compile=compile)
        losses = [
            session.read(session.step([batch], {"step": step, "seed": 5}))["loss"]
            for step in range(3)
        ]
        results[how] = (losses[-1], session.export().parameters)
    assert results["cpp"][0] == pytest.approx(results["generic"][0], rel=1e-5)
    for path, value in results["generic"][1].items():
        np.testing.assert_allclose(results["cpp"][1][path], value, atol=1e-5, err_msg=path)


def test_a_choice_that_cannot_be_is_an_error():
    import torch

    from snnx_torch.kernels import implementation

    assert implementation({}, "cpu", torch.float32).name == "generic"
    with pytest.raises(ValueError, match="float64"):
        implementation(CPP, "cpu", torch.float64)
    with pytest.raises(ValueError, match="on cuda"):
        implementation(CPP, "cuda", torch.float32)
    with pytest.raises(ValueError, match="one of"):
        implementation({"implementation": "fast"}, "cpu", torch.float32)
