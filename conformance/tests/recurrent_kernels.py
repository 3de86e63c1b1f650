"""What holds for a recurrent layer's kernels in any language: run by g++ and by Triton."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from snnx import LIF, Dial, Learned, Sigmoid, Triangular
from snnx.backend import load_backend
from snnx.ops import OPS
from snnx.ops._op import Sample
from snnx_torch.draws import Drawn
from snnx_torch.kernels import recurrent
from snnx_torch.kernels.neuron import known
from snnx_torch.scan import planned
from tests.own_neurons import OWN
from tests.test_emit_cpp import EPS, outcome

OP = OPS["recurrent"]
LEARNED = LIF(
    decay=Learned(0.7, "channel", transform="logit"),
    threshold=Learned(0.9),
    surrogate=Sigmoid(Learned(0.7, transform="log")),
)


def agrees(sample: Sample, language: str) -> None:
    """Compare a sample's outputs and gradients with the float64 reference."""
    backend = load_backend("torch")
    asked = replace(sample, attributes={**sample.attributes, "implementation": language})
    for dtype in sample.dtypes:
        found = outcome(backend, OP, asked, dtype)
        assert found.passed, found.message
        allowed = max(2 * outcome(backend, OP, sample, dtype).error, EPS)
        assert found.error <= allowed, (sample.name, found.error, allowed)


def drawn(generator: np.random.Generator, *shape: int, grid: int = 0) -> torch.Tensor:
    """Return normal numbers, on a dyadic grid where one is given."""
    values = generator.standard_normal(shape)
    values = np.round(values * grid) / grid if grid else values
    return torch.tensor(values, dtype=torch.float32)


def case(
    neuron: Any, shape: tuple[int, int, int], grid: int = 0, scale: float = 1.0
) -> dict[str, torch.Tensor]:
    """Return the inputs of a layer [T, N, F] with a learned synapse and given states."""
    rng, units = np.random.default_rng(6), shape[-1]
    inputs = {"x": 0.4 + drawn(rng, *shape, grid=grid)}
    inputs["feedback"] = scale * drawn(rng, units, units, grid=grid)
    inputs["synapse_decay"] = torch.full((units,), 0.5)
    for state in ("c", "y", *neuron.states):
        values = drawn(rng, *shape[1:], grid=grid)
        inputs[f"state.{state}"] = (values > 0.8).float() if state == "y" else values
    for name, scalar in neuron.scalars().items():
        if not isinstance(scalar, int | float):
            start = scalar.init if isinstance(scalar, Learned) else scalar.initial
            size = () if not isinstance(scalar, Learned) or scalar.share == "layer" else (units,)
            inputs[f"p.{name}"] = torch.full(size, float(start))
    return inputs


def both(
    inputs: dict[str, Any], attributes: dict[str, Any], language: str
) -> list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Return outputs and gradients of the generic rule and of the kernels."""
    results = []
    for how in ("generic", language):
        given = {
            n: a.clone().requires_grad_(n != "mask") if isinstance(a, torch.Tensor) else a
            for n, a in inputs.items()
        }
        out = recurrent(given, {**attributes, "implementation": how})
        rng = np.random.default_rng(3)
        weighted = [(drawn(rng, *v.shape, grid=4) * v).sum() for v in out.values()]
        torch.stack([w.float() for w in weighted]).sum().backward()
        gradients = {n: a.grad for n, a in given.items() if isinstance(a, torch.Tensor)}
        results.append(({n: v.detach() for n, v in out.items()}, gradients))
    return results


def dyadic(language: str) -> None:
    """On a grid on which every sum is exact, all is bit-equal to the generic rule."""
    neuron = LIF(decay=0.5, detach_reset=True)
    inputs = case(neuron, (5, 3, 11), grid=2)
    (generic, g_generic), (fast, g_fast) = both(inputs, {"neuron": neuron}, language)
    assert 0.05 < generic["y"].mean() < 0.9
    for name, value in generic.items():
        assert torch.equal(fast[name], value), name
    for name, g in g_generic.items():
        assert torch.any(g != 0), name
        assert torch.equal(g_fast[name], g), name


def longer_than_a_word(
    language: str, dtype: torch.dtype, fire: str, shape: tuple[int, int, int]
) -> None:
    """A sequence of whole chunks and a rest; spikes are equal and gradients follow."""
    neuron = LEARNED
    inputs = case(neuron, shape, scale=0.1)
    inputs["x"] = inputs["x"].to(dtype)
    if fire == "mixed":
        inputs["mask"] = torch.rand(shape, generator=torch.manual_seed(2)) < 0.3
    attributes = {"neuron": neuron, "fire": fire}
    (generic, g_generic), (fast, g_fast) = both(inputs, attributes, language)
    near = 2e-2 if dtype == torch.bfloat16 else 2e-5
    for name, value in generic.items():
        torch.testing.assert_close(fast[name], value, rtol=near, atol=near, msg=name)
        assert fast[name].dtype == value.dtype
    if fire == "spike":
        assert torch.equal(fast["y"], generic["y"])
        assert 0.05 < generic["y"].float().mean() < 0.9
    for name, g in g_generic.items():
        if g is not None:
            assert g_fast[name].dtype == g.dtype
            scale = g.abs().max().item()
            assert (g_fast[name] - g).abs().max().item() <= near * scale, name


def handed_over(language: str) -> None:
    """Two chunks of a user's neuron, the state handed over, are the whole bit for bit."""
    neuron = OWN["adaptive"]
    inputs = case(neuron, (20, 2, 9), scale=0.1)
    attributes = {"neuron": neuron, "implementation": language}
    with torch.no_grad():
        whole = recurrent(inputs, attributes)
        x = inputs.pop("x")
        first = recurrent({**inputs, "x": x[:7]}, attributes)
        inputs |= {n: a for n, a in first.items() if n.startswith("state.")}
        second = recurrent({**inputs, "x": x[7:]}, attributes)
    assert torch.equal(torch.cat([first["y"], second["y"]]), whole["y"])
    assert 0.05 < whole["y"].mean() < 0.9
    for name in ("state.c", "state.y", "state.v", "state.a"):
        assert torch.equal(second[name], whole[name]), name
    trained = recurrent({**inputs, "x": x[7:]}, attributes)  # what training writes is the same
    assert torch.equal(trained["y"], second["y"])


def drawn_in_the_kernel(language: str) -> None:
    """Mask bits are those of the stream."""
    neuron = LIF(surrogate=Triangular(1.0), analog=Dial("share", 0.4))
    inputs: dict[str, Any] = case(neuron, (9, 6, 5), scale=0.2)
    words = torch.tensor(9), 0xFEDCBA98, torch.tensor(4_000_000_000)
    index, times = torch.tensor([7, 3, 4_000_000_001]), torch.arange(9) + 90
    inputs["mask"] = Drawn(*words, index, times, torch.tensor(0.4), 2, (5,))
    attributes = {"neuron": neuron, "fire": "mixed"}
    (generic, g_generic), (fast, g_fast) = both(inputs, attributes, language)
    assert torch.any((generic["y"] > 0) & (generic["y"] < 1))
    torch.testing.assert_close(fast["y"], generic["y"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(g_fast["x"], g_generic["x"], rtol=1e-5, atol=1e-5)


def one_graph(language: str) -> None:
    """A compiler holds forward and backward as one graph, equal to eager."""
    inputs = case(LEARNED, (5, 2, 4), scale=0.3)
    plan = planned({"neuron": LEARNED})
    ready = {"neuron": LEARNED, "implementation": language, "plan": plan, "unit": known(plan)}
    names = list(inputs)

    def step(*arrays: torch.Tensor) -> torch.Tensor:
        out = recurrent(dict(zip(names, arrays, strict=True)), ready)
        return (out["y"].square() * torch.arange(4.0)).sum() + out["state.c"].sum()

    arrays = [a.requires_grad_() for a in inputs.values()]
    whole = torch.compile(step, fullgraph=True, backend="aot_eager")
    eager = torch.autograd.grad(step(*arrays), arrays)
    graph = torch.autograd.grad(whole(*arrays), arrays)
    for name, a, b in zip(names, eager, graph, strict=True):
        assert torch.equal(a, b), name
        assert name == "state.y" or torch.any(a != 0), name
