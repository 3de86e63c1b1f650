"""The lean form: norm, residual and neuron computed again, spikes as bits; the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import snnx
from snnx import (
    IF,
    LIF,
    AvgPool2d,
    BatchNorm,
    Chain,
    Conv2d,
    Flatten,
    Input,
    Learned,
    Linear,
    MaxPool2d,
    Residual,
)
from snnx.backend import BackendError, load_backend
from snnx.mode import Mode
from snnx.passes import fuse_norm_neuron, mark_packed
from snnx.program import flatten

TRAIN = Mode("spike", "batch", True, "train")
SCALED = LIF(threshold=Learned(0.7, "channel", "threshold", low=0.01), emit=("threshold", 2.0))


def conv(features: int, stride: int = 1) -> tuple[Any, ...]:
    return Conv2d(features, 3, stride, bias=False), BatchNorm()


def blocks(neuron: Any = LIF()) -> Chain:  # noqa: B008  (frozen)
    """Return a stem, a plain and a down-sampling residual block, a pool and a readout."""
    plain = Residual(Chain(*conv(4), neuron, *conv(4)), Chain())
    down = Residual(Chain(*conv(6, 2), neuron, *conv(6)), Chain(*conv(6, 2)))
    ends = (MaxPool2d(2), Flatten(), Linear(5))
    return Chain(Input(8, 8, 2), *conv(4), neuron, plain, neuron, down, neuron, *ends)


def session(model: Any, backend: str, lean: bool, precision: str = "fp32") -> Any:
    net = snnx.build(model, backend, seed=3, device="cpu", precision=precision, lean=lean)
    optim = snnx.Optim(snnx.SGD(lr=0.1, momentum=0.9))
    return load_backend(backend).session(net, snnx.TET(), optim, steps=3, compile=False)


def batch(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((6, 8, 8, 2)).astype(np.float32)
    return {"x": x, "y": rng.integers(0, 5, 6), "index": np.arange(6)}


def ops(program: Any) -> list[str]:
    return [step.op for step in program.steps]


def test_norms_sums_and_neurons_become_one_step() -> None:
    program = flatten(blocks())
    fused = fuse_norm_neuron(program)
    assert ops(program).count("batch_norm") == 6
    assert ops(program).count("neuron") == 5
    assert ops(fused).count("norm_neuron") == 5
    assert not {"batch_norm", "add", "neuron"} & set(ops(fused))
    assert fused.parameters == program.parameters
    both = [s for s in fused.steps if "residual_weight" in s.inputs]
    plain = [s for s in fused.steps if "residual" in s.inputs and s not in both]
    assert (len(both), len(plain)) == (1, 1)


def test_an_edge_that_is_kept_or_read_twice_is_not_swallowed() -> None:
    program = flatten(blocks())
    norm = next(s for s in program.steps if s.op == "batch_norm")
    kept = fuse_norm_neuron(program, keep={norm.output})
    assert norm in kept.steps
    assert ops(kept).count("norm_neuron") == 4
    twice = flatten(Chain(Input(4), Linear(4), BatchNorm(), Residual(Chain(LIF()), Chain())))
    assert fuse_norm_neuron(twice) == twice
    open_end = flatten(Chain(Input(4), Linear(4), BatchNorm()))
    assert fuse_norm_neuron(open_end) == open_end


def test_only_binary_edges_are_packed() -> None:
    program = mark_packed(fuse_norm_neuron(flatten(blocks())))
    marked = [(s.op, s.attributes.get("packed")) for s in program.steps if s.op == "conv2d"]
    assert marked == [("conv2d", None), *[("conv2d", "unit")] * 5]
    assert program.steps[-1].attributes["packed"] == "unit"
    added = [s for s in program.steps if "residual" in s.inputs]
    assert [s.attributes.get("residual_packed") for s in added] == ["unit", None]


@pytest.mark.parametrize(
    ("layers", "scale"),
    [
        ((LIF(),), "unit"),
        ((LIF(emit=0.5),), "layer"),
        ((SCALED,), "channel"),
        ((LIF(threshold=Learned(0.7, "neuron", "t"), emit=("threshold", 1.0)),), None),
        ((LIF(), MaxPool2d(2)), "unit"),
        ((LIF(), AvgPool2d(2)), None),
        ((Residual(Chain(LIF()), Chain(LIF())),), None),
        ((LIF(), snnx.Dropout(0.5)), None),
    ],
)
def test_the_scale_of_an_edge_is_known_or_it_stays_dense(layers: Any, scale: str | None) -> None:
    program = mark_packed(flatten(Chain(Input(4, 4, 2), *layers, Conv2d(3, 3))))
    assert program.steps[-1].attributes.get("packed") == scale


def test_a_scale_per_channel_does_not_outlive_flatten() -> None:
    program = mark_packed(flatten(Chain(Input(4, 4, 2), SCALED, Flatten(), Linear(3))))
    assert "packed" not in program.steps[-1].attributes


def test_a_neuron_that_does_not_fire_hard_is_not_packed() -> None:
    program = flatten(Chain(Input(4), Linear(4), LIF(), Linear(3)))
    assert mark_packed(program).steps[-1].attributes["packed"] == "unit"
    assert "packed" not in mark_packed(program, {"2"}).steps[-1].attributes


@pytest.mark.parametrize("neuron", [LIF(), SCALED, IF(reset="subtract", detach_reset=True)])
def test_float64_training_is_the_same_in_either_form(neuron: Any) -> None:
    kept, lean = (session(blocks(neuron), "torch", form, "fp64") for form in (False, True))
    for step in range(4):
        reports = [s.read(s.step([batch(step)], {"step": step})) for s in (kept, lean)]
        assert reports[0]["loss"] == pytest.approx(reports[1]["loss"], rel=1e-9)
    first, second = kept.export(), lean.export()
    for kind in ("parameters", "statistics"):
        for path, array in getattr(first, kind).items():
            found = getattr(second, kind)[path]
            np.testing.assert_allclose(found, array, rtol=1e-7, atol=1e-9, err_msg=path)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("neuron", [LIF(), SCALED])
def test_gradients_at_the_same_spikes_are_the_same(backend: str, neuron: Any) -> None:
    kept, lean = (session(blocks(neuron), backend, form) for form in (False, True))
    oracle = session(blocks(neuron), "numpy", False, "fp64")
    paths = [s.path for s in flatten(blocks()).spiking]
    seen = oracle.forward(batch(), {}, TRAIN, [f"{p}.spike" for p in paths])
    impose = {p: seen.taps[f"{p}.spike"] for p in paths}
    wanted_loss, wanted = oracle.grads(batch(), {}, TRAIN, impose=impose)
    for made in (kept, lean):
        loss, found = made.grads(batch(), {}, TRAIN, impose=impose)
        assert loss == pytest.approx(wanted_loss, rel=1e-5)
        for path, g in wanted.items():
            scale = float(np.abs(g).max()) + 1e-12
            np.testing.assert_allclose(found[path] / scale, g / scale, atol=2e-5, err_msg=path)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_packing_alone_changes_no_bit(backend: str) -> None:
    model = Chain(
        Input(6, 6, 2),
        Conv2d(4, 3),
        LIF(),
        Conv2d(4, 3, groups=2),
        LIF(emit=0.5),
        MaxPool2d(2),
        Flatten(),
        Linear(3),
    )
    rng = np.random.default_rng(1)
    x = 6.0 * rng.standard_normal((3, 5, 6, 6, 2)).astype(np.float32)
    given: Any = {"x": x, "y": rng.integers(0, 3, 5), "index": np.arange(5)}
    first, second = (session(model, backend, form).grads(given, {}) for form in (False, True))
    assert first[0] == second[0]
    for path, g in first[1].items():
        np.testing.assert_array_equal(second[1][path], g, err_msg=path)
        assert np.any(g), path


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_every_edge_can_be_tapped(backend: str) -> None:
    program = flatten(blocks())
    edges = [s.output for s in program.steps]
    kept, lean = (session(blocks(), backend, form) for form in (False, True))
    wanted = kept.forward(batch(), {}, TRAIN, edges[:4])
    found = lean.forward(batch(), {}, TRAIN, edges[:4])
    for edge in edges[:4]:
        np.testing.assert_allclose(found.taps[edge], wanted.taps[edge], atol=1e-5)


def kept_bytes(lean: bool, mode: bool = True) -> int:
    """Return the bytes that a forward pass of a torch network keeps for its backward pass."""
    net = snnx.build(blocks(), "torch", device="cpu", lean=lean).train(mode)
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    found: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()  # held, so that no address is given out twice
        found[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    x = torch.randn(32, 8, 8, 2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        net(x, steps=8)
    return sum(size for pointer, (size, _) in found.items() if pointer not in own)


def test_the_lean_form_keeps_a_fraction_of_the_bytes() -> None:
    assert kept_bytes(True) < 0.35 * kept_bytes(False)


def test_numpy_refuses_the_lean_form() -> None:
    with pytest.raises(BackendError, match="lean=False"):
        snnx.build(blocks(), "numpy", lean=True)


@pytest.mark.parametrize(("backend", "lean"), [("numpy", False), ("torch", True), ("mlx", True)])
def test_a_session_says_what_runs_its_neurons(backend: str, lean: bool) -> None:
    found = session(blocks(), backend, lean).implementations()
    assert list(found) == [step.path for step in flatten(blocks()).spiking]
    word = "norm_neuron" if lean else "neuron: the spec"
    assert all(word in text for text in found.values())
    if lean:
        assert all("generic (" in text for text in found.values())
