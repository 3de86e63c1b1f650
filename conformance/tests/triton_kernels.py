"""What is run with Triton's interpreter, by `test_triton` in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from snnx import DSR, LIF, Chain, Dial, Input, Learned, Linear, Rectangular, Triangular, flatten
from snnx.backend import load_backend
from snnx.emit import Variant, backward, unit
from snnx.emit.layout import Layout
from snnx.emit.triton_text import TritonWriter
from snnx.ops import OPS
from snnx.ops._cases import generator
from snnx.ops._neuron_cases import random_sample
from snnx.ops._op import Sample
from snnx_torch.bits import pack, unpack
from snnx_torch.draws import Drawn
from snnx_torch.kernels import neuron
from snnx_torch.kernels.launch import launch
from snnx_torch.kernels.neuron import known
from snnx_torch.scan import planned
from tests.own_neurons import OWN
from tests.residuals import outcomes
from tests.test_emit_cpp import EPS, outcome, samples
from tests.test_packed_bits import SHAPES, drawn

TRITON = {"implementation": "triton"}


def fast(sample: Sample) -> Sample:
    """Return the sample with kernels asked for."""
    return replace(sample, attributes={**sample.attributes, **TRITON})


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", ["neuron", "norm_neuron", "rate_neuron"])
def test_every_sample_agrees_with_the_reference_as_well_as_the_generic_path(name, part):
    backend, op = load_backend("torch"), OPS[name]
    chosen = samples(op)[part::4]
    assert chosen
    for sample in chosen:
        for dtype in sample.dtypes:
            found = outcome(backend, op, fast(sample), dtype)
            assert found.passed, found.message
            if dtype == "float32":
                allowed = max(2 * outcome(backend, op, sample, dtype).error, EPS)
                assert found.error <= allowed, (sample.name, found.error, allowed)


@pytest.mark.parametrize("name", sorted(OWN))
def test_spikes_are_bit_equal_forward_recomputed_and_generic(name):
    of = OWN[name]
    sample = random_sample(generator(4), name, of, (2, 3, 37))
    rng = np.random.default_rng(0)
    x = torch.tensor(0.3 + rng.standard_normal((11, 3, 37)), dtype=torch.float32)
    numbers = {
        k: torch.tensor(v, dtype=torch.float32) for k, v in sample.inputs.items() if k[:2] == "p."
    }
    generic = neuron({"x": x, **numbers}, {"neuron": of, "implementation": "generic"})
    found = neuron({"x": x, **numbers}, {"neuron": of, **TRITON})
    for key, value in generic.items():
        assert torch.equal(found[key], value), key
    variant = Variant(11, keep="input", final=False, chunk=11, witness=True)
    made = unit(of)
    arrays = {"x": x, "g_y": torch.zeros_like(x)}
    arrays |= {f"p{i}_at": numbers[n.name] for i, n in enumerate(made.numbers)}
    layout = Layout.of((3, 37)).lanes("neuron", 37, 2)
    source = backward(made, variant, TritonWriter)
    again = launch(source, made, variant, layout, x.dtype, 64)(arrays)
    fired = again["witness"].view_as(x) > 0
    assert 0.05 < fired.float().mean() < 0.6
    assert torch.equal(fired, found["y"] > 0)


@pytest.mark.parametrize("steps", [6, 40])
def test_mask_bits_are_drawn_in_the_kernel(steps):
    of = LIF(surrogate=Triangular(1.0), analog=Dial("share", 0.4), threshold=Learned(0.8))
    rng = np.random.default_rng(1)
    x = torch.tensor(0.3 + rng.standard_normal((steps, 6, 3, 3)), dtype=torch.float32)
    drawn = Drawn(
        torch.tensor(9),
        0xFEDCBA98,
        torch.tensor(4_000_000_000),
        torch.tensor([7, 3, 4_000_000_001]),
        torch.arange(steps) + 90,
        torch.tensor(0.4),
        2,
        (3, 3),
    )
    results = []
    for how in ("generic", "triton"):
        given = {"x": x.clone().requires_grad_(), "p.threshold": torch.tensor(0.8)}
        given["p.threshold"].requires_grad_()
        attributes = {"neuron": of, "fire": "mixed", "implementation": how}
        out = neuron({**given, "mask": drawn}, attributes)
        (out["y"] * torch.arange(9.0).view(3, 3)).sum().backward()
        results.append((out["y"], out["state.v"], given["x"].grad, given["p.threshold"].grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-5)
    assert torch.equal(results[0][0], results[1][0])


@pytest.mark.parametrize("keep", ["input", "bits"])
def test_the_operators_are_declared_rightly(keep):
    from snnx_torch.kernels.ops import neuron_forward, register

    of = LIF(detach_reset=True, threshold=Learned(0.8), surrogate=Rectangular(1.0))
    spec = register(unit(of), Variant(5, given=("state.v",), keep=keep, chunk=5))
    x, v = torch.linspace(-1, 2, 70).view(5, 2, 7), torch.linspace(0, 0.5, 14).view(2, 7)
    arguments = (x.requires_grad_(), [], [v.requires_grad_()], [torch.tensor(0.8)], spec, 0, 0)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(neuron_forward, arguments, test_utils=tests)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("unit_", "attributes"),
    [
        (LIF(detach_reset=True), {}),
        (LIF(threshold=Learned(0.8, "channel")), {}),
        (DSR.leaky(0.2).neuron, {"kind": "lif", "dt": 0.05, "tau": 1.0, "kappa": 0.05}),
    ],
    ids=["bits", "input", "rate"],
)
def test_one_graph_holds_forward_and_backward(unit_, attributes):
    from snnx_torch.kernels import rate_neuron

    rule: Any = rate_neuron if attributes else neuron
    shares = {n.name: n.share for n in unit(unit_).numbers}
    size = {"layer": (), "channel": (4,)}

    plan = planned({"neuron": unit_})
    ready = {"neuron": unit_, **TRITON, **attributes, "plan": plan, "unit": known(plan)}

    def step(x, *numbers):
        given = {"x": x, **dict(zip(shares, numbers, strict=True))}
        out = rule(given, ready)
        return (out["y"].square() * torch.arange(4.0)).sum()

    x = (torch.arange(60.0).view(5, 3, 4).sin() + 0.3).requires_grad_()
    numbers = [torch.full(size[s], 0.5).requires_grad_() for s in shares.values()]
    whole = torch.compile(step, fullgraph=True, backend="aot_eager")
    eager = torch.autograd.grad(step(x, *numbers), [x, *numbers])
    graph = torch.autograd.grad(whole(x, *numbers), [x, *numbers])
    for a, b in zip(eager, graph, strict=True):
        assert torch.equal(a, b)
    assert eager[0].abs().sum() > 0


def test_a_session_trains_on_kernels_as_without():
    import snnx

    model = Chain(Input(64), Linear(16), LIF(analog=0.2, surrogate=Triangular(1.0)), Linear(10))
    backend: Any = load_backend("torch")
    results: dict[Any, Any] = {}
    x = np.random.default_rng(2).uniform(size=(8, 64))
    batch = {"x": x, "y": np.arange(8), "index": np.arange(8)}
    for how in ("generic", "triton"):
        program = flatten(model)
        net = backend.build(program, initial(program), device="cpu", kernels=how)
        session = backend.session(net, snnx.TET(), snnx.Optim(snnx.SGD()), steps=4)
        for step in range(3):
            results[how] = session.read(session.step([batch], {"step": step, "seed": 5}))
        results[how, "weights"] = session.export().parameters
    assert results["generic"]["loss"] == pytest.approx(results["triton"]["loss"], rel=1e-5)
    for path, value in results["generic", "weights"].items():
        np.testing.assert_allclose(results["triton", "weights"][path], value, atol=1e-6)


def initial(program: Any) -> dict[str, np.ndarray]:
    """Return initial weights."""
    from snnx.building import initial_parameters

    return initial_parameters(program, 0)


@pytest.mark.parametrize("share", ["unit", "layer", "channel"])
@pytest.mark.parametrize("shape", SHAPES)
def test_packing_is_that_of_array_operations(shape, share):
    x, scale = drawn(shape, share)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        values = torch.as_tensor(x).to(dtype)
        words = pack(values, "triton")
        assert torch.equal(words, pack(values))
        held = None if scale is None else torch.as_tensor(scale)
        assert torch.equal(unpack(words, held, shape, dtype, "triton"), values)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 40])
@pytest.mark.parametrize("features", [7, 8, 32, 129])
def test_a_neuron_writes_the_bits_of_its_spikes(steps, features):
    x = torch.randn(steps, 3, features, generator=torch.Generator().manual_seed(1)) + 0.5
    for of in (LIF(), LIF(detach_reset=True), LIF(emit=0.5)):
        given = {"x": x.clone().requires_grad_()}
        found = neuron(given, {"neuron": of, "emits": True, **TRITON})
        assert torch.equal(found["bits"], pack(found["y"].detach()))
        assert found["y"].any()
        with torch.no_grad():
            assert "bits" not in neuron(given, {"neuron": of, "emits": True, **TRITON})


def test_a_net_trains_on_emitted_bits_as_without():
    from tests.test_packed_edges import batch, net_of, session

    model = net_of(LIF(threshold=0.2), norm=False)
    results = [session(model, lean, "triton").grads(batch(2), {}) for lean in (False, True)]
    assert results[0][0] == results[1][0]
    for path, g in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][path], g, err_msg=path)


@pytest.mark.parametrize("share", ["unit", "layer", "channel"])
@pytest.mark.parametrize(("features", "steps"), [(7, 1), (16, 4), (33, 5)])
def test_a_residual_read_from_bits_is_the_dense_one(share, features, steps):
    for dtype in (torch.float32, torch.bfloat16):
        dense, packed = outcomes(share, "triton", features, steps, dtype)
        assert dense["y"].any()
        for name, value in dense.items():
            assert torch.equal(packed[name], value), name
