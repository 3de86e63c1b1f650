"""MLX's fused neurons with g++ in the place of Metal: the rule and its custom gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snnx import LIF, Rectangular
from snnx.backend import load_backend
from snnx.emit.variant import Argument, named_source
from snnx.ops import OPS
from tests.mlx_host import INSTALLED
from tests.test_emit_cpp import EPS, outcome, samples

SUMMED = 2 * EPS  # on the CPU MLX adds the partial sums one after another
pytestmark = pytest.mark.skipif(not INSTALLED, reason="mlx is not installed, or g++ not on PATH")


def served(sample: Any) -> bool:
    """Return whether MLX's kernels serve a sample of the pair: one copy, static if alone."""
    given = (sample.inputs[n] for n in ("x", "residual") if n in sample.inputs)
    whole = all(a.shape[0] == sample.attributes["steps"] for a in given)
    alone = "residual" not in sample.inputs
    return (whole or alone) and sample.attributes.get("copies", 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["neuron", "norm_neuron", "rate_neuron", "recurrent"])
def test_every_sample_agrees_with_the_reference_as_well_as_the_generic_path(host, name):
    backend, op = load_backend("mlx"), OPS[name]
    chosen = [s for s in samples(op) if name != "norm_neuron" or served(s)]
    assert len(chosen) > 10
    for sample in chosen:
        for dtype in sample.dtypes:
            outcome(backend, op, sample, dtype)
    host.compile()
    for sample in chosen:
        for dtype in sample.dtypes:
            before = host.launches
            found = outcome(backend, op, sample, dtype)
            assert found.passed, found.message
            assert host.launches > before
            if dtype == "float32":
                attributes = {**sample.attributes, "implementation": "generic"}
                plain = replace(sample, attributes=attributes)
                allowed = max(2 * outcome(backend, op, plain, dtype).error, SUMMED)
                assert found.error <= allowed, (sample.name, found.error, allowed)


@pytest.mark.slow
def test_masks_drawn_in_the_kernels_are_those_of_the_generic_path(host):
    import mlx.core as mx

    from snnx import (
        TET,
        Adam,
        BatchNorm,
        Chain,
        Dial,
        Input,
        Learned,
        Linear,
        Optim,
        Recurrent,
        Triangular,
        flatten,
    )
    from snnx.building import initial_parameters

    own = LIF(analog=Dial("share", 0.4), surrogate=Triangular(1.0), threshold=Learned(0.9))
    layers = (
        Linear(9, bias=False),
        BatchNorm(),
        own,
        Linear(7),
        own,
        Linear(5),
        Recurrent(own),
        Linear(4),
    )
    program = flatten(Chain(Input(6), *layers))
    backend: Any = load_backend("mlx")
    x = np.random.default_rng(2).uniform(size=(4, 8, 6)).astype(np.float32)
    batch: Any = {"x": x, "y": np.arange(8) % 4, "index": np.arange(8) * 1000}
    results: dict[str, Any] = {}
    for how in ("generic", "noted", "kernels"):
        with pytest.MonkeyPatch.context() as patch:
            if how == "generic":
                patch.setattr("snnx_mlx.kernels.launch.target", lambda: None)
            net = backend.build(program, initial_parameters(program, 0), device="cpu", lean=True)
            session = backend.session(net, TET(), Optim(Adam(lr=0.01)), steps=4, compile=False)
            steps = range(1 if how == "noted" else 3)
            losses = [
                session.read(session.step([batch], {"step": step, "seed": 5}))["loss"]
                for step in steps
            ]
        if how == "noted":
            host.compile()
        results[how] = (losses, session.export().parameters)
    assert host.launches >= 12
    drawn = [source for source, _, _ in host.sources if "snn_draw(" in source.text]
    assert len(drawn) == 6  # forward and backward, of the neuron, the pair, the recurrent layer
    assert len({source.name for source in drawn}) == 6
    assert all(np.isfinite(results["kernels"][0]))
    np.testing.assert_allclose(results["kernels"][0], results["generic"][0], rtol=1e-5)
    for path, value in results["generic"][1].items():
        np.testing.assert_allclose(results["kernels"][1][path], value, atol=2e-5, err_msg=path)
    mx.clear_cache()


def test_without_a_device_the_generic_scan_runs_and_says_why():
    import mlx.core as mx

    from snnx_mlx.kernels import implementation

    if mx.default_device() != mx.Device(mx.cpu):
        pytest.skip("the default device has kernels")
    found = implementation({"neuron": LIF()}, mx.float32)
    assert found.name == "generic"
    assert "no kernels" in found.reason
    with pytest.raises(ValueError, match="asked for"):
        implementation({"neuron": LIF(), "implementation": "fused"}, mx.float32)
    with pytest.raises(ValueError, match="one of"):
        implementation({"neuron": LIF(), "implementation": "fast"}, mx.float32)


@pytest.mark.parametrize("language", ["metal", "cuda"])
def test_kernels_are_made_under_names_of_their_own(language):
    import mlx.core as mx

    from snnx.emit import Variant, backward, forward, unit
    from snnx.emit.c_text import CWriter
    from snnx_mlx.kernels.launch import kernel

    if language == "cuda" and not mx.cuda.is_available():
        pytest.skip("this MLX has no CUDA back-end, and makes no kernel for it")
    names = set()
    for of in (unit(LIF()), unit(LIF(surrogate=Rectangular(0.5)))):
        for make in (forward, backward):
            source = make(of, Variant(4, keep="input", chunk=4), CWriter)
            assert callable(kernel(source, language))
            names.add(source.name)
    assert len(names) == 3  # the two forwards are one text


def test_more_arrays_than_metal_binds_are_refused_by_name():
    from snnx_mlx.kernels import launch

    many = tuple(Argument(f"a{i}", "float", "in") for i in range(30))
    source = named_source("wide", "NAME", (*many, Argument("y", "float", "out")))
    with pytest.raises(ValueError, match="32 arrays, and Metal binds 31"):
        launch.kernel(source, "metal")
    assert launch.kernel(replace(source, arguments=source.arguments[1:]), "metal") is not None
