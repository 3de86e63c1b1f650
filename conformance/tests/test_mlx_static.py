"""What MLX's kernels leave out: a static image's further passes, states that nobody takes over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnx import (
    LIF,
    TET,
    Adam,
    BatchNorm,
    Chain,
    Conv2d,
    Flatten,
    Input,
    Linear,
    Optim,
    Recurrent,
    flatten,
)
from snnx.backend import load_backend
from snnx.building import initial_parameters
from snnx.ops import OPS
from tests.mlx_host import INSTALLED, HostKernels
from tests.test_emit_cpp import outcome

pytestmark = pytest.mark.skipif(not INSTALLED, reason="mlx is not installed, or g++ not on PATH")
MODEL = Chain(
    Input(4, 4, 1),
    Conv2d(3, 3, bias=False),  # before a norm a bias has no gradient but noise, which Adam blows up
    BatchNorm(),
    LIF(),
    Conv2d(2, 3, bias=False),
    BatchNorm(),
    LIF(),
    Flatten(),
    Linear(5),
    Recurrent(LIF(), synapse_decay=0.5),
    Linear(3),
)


def batch() -> Any:
    rng = np.random.default_rng(4)
    x = rng.uniform(size=(6, 4, 4, 1)).astype(np.float32)
    return {"x": 3 * x, "y": np.arange(6) % 3, "index": np.arange(6)}


def session(kernels: str, **options: Any) -> Any:
    backend, program = load_backend("mlx"), flatten(MODEL)
    form = {"device": "cpu", "lean": True, "kernels": kernels}
    net = backend.build(program, initial_parameters(program, 1), **form)
    return backend.session(net, TET(), Optim(Adam(lr=0.01)), steps=4, compile=False, **options)


def trained(kernels: str, count: int, **options: Any) -> tuple[list[float], Any]:
    made = session(kernels, **options)
    losses = [made.read(made.step([batch()], {"step": i, "seed": 5}))["loss"] for i in range(count)]
    return losses, made.export().parameters


def outputs_of(host: HostKernels, kind: str) -> list[tuple[str, ...]]:
    return [s.names("out") for s, _, _ in host.sources if s.name.startswith(f"snnx_{kind}_")]


@pytest.mark.parametrize("options", [{}, {"recompute": 2}, {"chunk": 2}], ids=str)
def test_a_training_step_is_that_of_the_generic_path_and_hands_over_in_chunks_only(host, options):
    wanted = trained("generic", 3, **options)
    trained("fused", 1, **options)
    host.compile()
    found = trained("fused", 3, **options)
    assert host.launches >= 18
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    for path, value in wanted[1].items():
        np.testing.assert_allclose(found[1][path], value, atol=2e-5, err_msg=path)
    handed = ["s0_out" in names for names in outputs_of(host, "forward")]
    assert len(handed) >= 2
    assert all(handed) if "chunk" in options else not any(handed)


def test_the_stem_of_a_static_image_is_read_once_and_its_gradient_written_once(host):
    trained("fused", 1)
    host.compile()
    trained("fused", 1)
    static = [s for s, _, _ in host.sources if "x_one" in s.text]
    assert {s.name.split("_")[1] for s in static} == {"forward", "backward"}
    assert len(static) == 2  # the second layer's input is of every step


def test_evaluation_hands_over_what_it_is_asked_for(host):
    asked = {"x": np.repeat(batch()["x"][None], 4, 0)}
    both = {**batch(), **asked}
    plain = session("generic")
    wanted = plain.forward(both, {})

    def run() -> tuple[Any, Any, list[Any]]:
        made, later = session("fused"), {**both, "x": both["x"][2:]}
        first = made.forward({**both, "x": both["x"][:2]}, {}, steps=2)
        second = made.forward(later, {}, steps=2, state=first.state)
        loss = made.loss(both, {}, plain.train_step.mode)
        return loss, made.forward(both, {}), [first.y, second.y]

    run()
    host.compile()
    loss, found, halves = run()
    np.testing.assert_array_equal(found.y, wanted.y)
    assert set(found.state) == set(wanted.state)
    for path, arrays in wanted.state.items():
        if path != "t":
            for a, b in zip(arrays, found.state[path], strict=True):
                np.testing.assert_allclose(b, a, atol=1e-6, err_msg=path)
    np.testing.assert_allclose(loss, plain.loss(both, {}, plain.train_step.mode), rtol=1e-5)
    np.testing.assert_array_equal(np.concatenate(halves), wanted.y)


def test_a_recurrent_layer_keeps_nothing_in_evaluation_and_has_a_gradient_all_the_same(host):
    import mlx.core as mx

    from snnx_mlx.kernels import recurrent

    rng = np.random.default_rng(6)
    x = mx.array(rng.standard_normal((5, 2, 6)).astype(np.float32)) + 0.5
    feedback = mx.array(rng.standard_normal((6, 6)).astype(np.float32)) * 0.3
    found = {}
    for trains in (True, False, True, False):
        attributes = {"neuron": LIF(), "synapse_decay": 0.5, "trains": trains}

        def loss(x: Any, feedback: Any, attributes: Any = attributes) -> Any:
            y = recurrent({"x": x, "feedback": feedback}, attributes)["y"]
            return mx.sum(y * mx.arange(6))

        found[trains] = mx.grad(loss, argnums=(0, 1))(x, feedback)
        if len(found) == 2 and host.library is None:
            host.compile()
    for a, b in zip(found[True], found[False], strict=True):
        assert mx.array_equal(a, b)
        assert np.any(np.array(a) != 0)
    kept = ["currents" in names for names in outputs_of(host, "recurrent_forward")]
    assert sorted(kept) == [False, True]


@pytest.mark.parametrize("name", ["static", "static-both", "static-residual"])
def test_static_samples_agree_with_the_reference(host, name):
    backend, op = load_backend("mlx"), OPS["norm_neuron"]
    chosen = [s for s in op.samples() if s.name.endswith(name)]
    assert chosen
    for sample in chosen:
        outcome(backend, op, sample, "float32")
        host.compile()
        before = host.launches
        found = outcome(backend, op, sample, "float32")
        assert found.passed, found.message
        assert (host.launches > before) == (name == "static")
