"""Every kind of step that makes a binary edge: what is kept as bits gives the dense gradients."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import snnx  # noqa: E402
from snnx import (  # noqa: E402
    DSR,
    LIF,
    Chain,
    Conv2d,
    Dial,
    Flatten,
    Input,
    Learned,
    Linear,
    MaxPool2d,
    Poisson,
    Recurrent,
)
from snnx.backend import load_backend  # noqa: E402
from snnx.mode import Run, train_mode  # noqa: E402
from snnx.passes import further_outputs, lean_form  # noqa: E402
from snnx.program import flatten  # noqa: E402

CPP = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
MLX = pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="mlx is not installed")
LAYER = LIF(threshold=Learned(0.3, "layer"), emit=("threshold", 1.3))
DIAL = LIF(threshold=Dial("height", 0.2), emit=("threshold", 1.7))
CELL = LIF(threshold=0.3, emit=("threshold", 1.5))
RATES = (Conv2d(4, 3), DSR.leaky(), Conv2d(4, 3), DSR.leaky(), MaxPool2d(2))
CELLS = (Recurrent(CELL), Linear(5), Recurrent(LIF(threshold=0.3)))
MODELS = {
    "rates": Chain(Input(4, 4, 2), *RATES, Flatten(), Linear(3)),
    "recurrent": Chain(Input(6), Linear(8), *CELLS, Linear(3)),
    "numbers": Chain(Input(6), Linear(8), LAYER, Linear(5), DIAL, Linear(3)),
    "poisson": Chain(Input(6), Poisson(), Linear(8), LIF(threshold=0.1), Linear(3)),
}
MADE = {
    "rates": {"rate_neuron": [("bits", "scale"), ("scale",)], "max_pool2d": [("bits",)]},
    "recurrent": {"recurrent": [("bits", "scale"), ("bits",)]},
    "numbers": {"neuron": [("bits", "scale"), ("bits", "scale")]},
    "poisson": {"poisson": [("bits",)], "neuron": [("bits",)]},
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_step_that_makes_an_edge_makes_its_bits(name: str) -> None:
    program = flatten(MODELS[name])
    found: dict[str, list[tuple[str, ...]]] = {}
    for step in lean_form(program, Run(train_mode(program), 3)).steps:
        if further_outputs(step):
            found.setdefault(step.op, []).append(tuple(further_outputs(step)))
    assert found == MADE[name]
    whole = lean_form(program, Run(train_mode(program), 3), trains=False)
    assert not any(further_outputs(step) for step in whole.steps)


@pytest.mark.parametrize(
    ("backend", "kernels"),
    [
        ("torch", "generic"),
        pytest.param("torch", "cpp", marks=CPP),
        pytest.param("mlx", "auto", marks=MLX),
    ],
)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_gradients_are_those_of_dense_edges(name: str, backend: str, kernels: str) -> None:
    rng, model = np.random.default_rng(0), MODELS[name]
    x = 3.0 * rng.standard_normal((3, 4, *flatten(model).input_shape)).astype(np.float32)
    batch: Any = {"x": x, "y": rng.integers(0, 3, 4), "index": np.arange(4)}
    results = []
    for lean in (False, True):
        net = snnx.build(model, backend, seed=3, device="cpu", lean=lean, kernels=kernels)
        optim = snnx.Optim(snnx.SGD())
        own = load_backend(backend).session(net, snnx.TET(), optim, steps=3, compile=False)
        results.append(own.grads(batch, {}))
    assert results[0][0] == results[1][0]
    assert any(np.any(g) for g in results[0][1].values())
    for path, g in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][path], g, err_msg=path)


@CPP
@pytest.mark.parametrize(("steps", "given"), [(4, 1), (70, 70), (33, 1)])
@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize("hand_over", [False, True])
def test_every_form_of_a_launch_writes_the_bits(
    steps: int, given: int, observe: bool, hand_over: bool
) -> None:
    from snnx_torch.bits import pack
    from snnx_torch.kernels import neuron, norm_neuron

    x = torch.linspace(-1, 2, given * 66).sin().reshape(given, 2, 3, 11).requires_grad_()
    attributes = {"implementation": "cpp", "emits": True, "steps": steps, "mode": "batch"}
    attributes |= {"observe": observe, "hand_over": hand_over}
    norm = {"weight": torch.ones(11), "bias": torch.full((11,), 0.4)}
    norm |= {"running_mean": torch.zeros(11), "running_var": torch.ones(11)}
    for rule, beside in ((neuron, {}), (norm_neuron, norm)):
        for of in (LIF(), LIF(detach_reset=True)):
            found = rule({"x": x, **beside}, {**attributes, "neuron": of})
            assert found["y"].any()
            assert torch.equal(found["bits"], pack(found["y"].detach()))
            assert ("spike" in found, "state.v" in found) == (observe, hand_over)
            (g,) = torch.autograd.grad(found["y"].square().sum(), x)
            assert g.any()
