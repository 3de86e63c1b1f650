"""The MLX backend: its sessions against the float64 reference.

Its traps are in `test_mlx_traps`. Networks are tiny, since MLX's convolutions on a CPU are slow,
and few cases are compiled.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import (
    DSR,
    LIF,
    SGD,
    Adam,
    Chain,
    Dial,
    Dspike,
    Input,
    Learned,
    Linear,
    Optim,
    Recurrent,
    Triangular,
)
from snnx.backend import Backend, BackendError, load_backend
from snnx.mode import Mode

mx = pytest.importorskip("mlx.core", reason="mlx is not installed")

from snnx_mlx.dials import DialBuffer  # noqa: E402
from tests.mlx_nets import batch, error, session, small  # noqa: E402

# `snnx_mlx.backend` is the backend itself, which hides its module
mlx_module = importlib.import_module("snnx_mlx.backend")
MLX: Backend = load_backend("mlx")
NUMPY: Backend = load_backend("numpy")
SMOOTH = Mode("smooth", "batch", False, "train")
needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="mx.compile on CPU needs g++")


# Numbers that change, and compiled steps.


def test_a_dial_buffer_returns_the_bits_it_was_given() -> None:
    buffer = DialBuffer({"lr": 0.1, "temperature": 1.0})
    values = {"seed": 2**32 - 1, "step": 7, "epoch": 0, "lr": 0.3, "temperature": -1e-30}
    found = buffer.read(buffer.fill(values))
    assert {k: np.array(v).item() for k, v in found.items()} == {
        k: v if isinstance(v, int) else float(np.float32(v)) for k, v in values.items()
    }


MASKED = Chain(
    Input(6),
    Linear(8),
    LIF(analog=Dial("share", 0.5), surrogate=Dspike(radius=1.0)),
    Linear(3),
)


@pytest.mark.slow  # half a minute of g++ where its kernels are not cached
@needs_gxx
def test_a_compiled_step_follows_its_dials_and_is_traced_once() -> None:
    compiled, eager = (session(MASKED, steps=2, compile=c) for c in (True, False))
    data, losses = batch(MASKED), []
    for k in range(12):
        dials = {"lr": 0.1 / (k + 1), "temperature": 1.0 + k, "share": k / 12, "step": k, "seed": k}
        found, wanted = (s.read(s.step([data], dials)) for s in (compiled, eager))
        assert found == pytest.approx(wanted, rel=1e-5)
        losses.append(found["loss"])
    assert compiled.compilations() == 1
    assert eager.compilations() == 0
    for key, array in eager.export().parameters.items():
        assert error(compiled.export().parameters[key], array) < 1e-5
    # a frozen mask would give equal losses where only the counter of the draws moves
    a, b, c = (
        compiled.read(compiled.step([data], {"lr": 1e-20, "step": step}))["loss"]
        for step in (50, 51, 50)
    )
    assert a != b
    assert a == c
    assert compiled.compilations() == 1


def test_compile_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if mx.default_device() != mx.cpu:
        pytest.skip("only the CPU compiles with g++")
    monkeypatch.setattr("snnx_mlx.compiling.platform.system", lambda: "Linux")
    monkeypatch.setattr("snnx_mlx.compiling.shutil.which", lambda name: None)
    with pytest.raises(BackendError, match=r"g\+\+ on PATH"):
        session(small(), compile=True)
    assert not session(small()).compiled


# Precision and devices.


def test_another_precision_of_products_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_module, "multiplies_in_float32", lambda device: False)
    with pytest.raises(BackendError, match="set MLX_ENABLE_TF32=0"):
        snnx.build(small(), backend="mlx")
    monkeypatch.setattr(mlx_module, "multiplies_in_float32", lambda device: True)
    with pytest.raises(BackendError, match="set MLX_ENABLE_TF32=1"):
        snnx.build(small(), backend="mlx", precision="tf32")


def test_the_probe_tells_ten_bits_from_twenty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    product = mx.matmul

    def tf32(a: Any, b: Any) -> Any:
        bits = mx.bitwise_and(a.view(mx.uint32), mx.array(0xFFFFE000, mx.uint32))
        return product(bits.view(mx.float32), b)

    mlx_module._exact_products.cache_clear()
    assert mlx_module.multiplies_in_float32(mx.default_device())
    mlx_module._exact_products.cache_clear()
    monkeypatch.setattr(mx, "matmul", tf32)
    assert not mlx_module.multiplies_in_float32(mx.default_device())
    mlx_module._exact_products.cache_clear()


def test_an_absent_device_is_refused() -> None:
    for name in ("gpu", "metal", "cuda"):
        present = {"metal": mx.metal.is_available(), "cuda": mx.cuda.is_available()}
        if not (any(present.values()) if name == "gpu" else present[name]):
            with pytest.raises(BackendError, match=f"no device '{name}'"):
                snnx.build(small(), backend="mlx", device=name)
    with pytest.raises(BackendError, match="device is one of"):
        snnx.build(small(), backend="mlx", device="tpu")


def test_bf16_keeps_state_and_loss_in_float32() -> None:
    model = small()
    s = session(model, precision="bf16")
    out = s.forward(batch(model), {}, taps=["1", "2", "3"])
    net = snnx.build(model, backend="mlx", precision="bf16").eval()
    y, state = net(mx.array(batch(model)["x"]), steps=2)
    assert y.dtype == mx.float32
    assert state["3"][0].dtype == mx.float32
    tapped = out.taps["1"]
    truncated = (tapped.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF)) == 0
    assert truncated.all()
    full, _ = session(model).grads(batch(model), {}, SMOOTH)
    half, _ = s.grads(batch(model), {}, SMOOTH)
    assert half != full
    assert half == pytest.approx(full, rel=2e-2)


# Sessions against the float64 reference.


RULED = {
    "sgd": Optim(SGD(momentum=0.9, nesterov=True, weight_decay=1e-3)),
    "adam": Optim(Adam(lr=Dial("lr", 1e-2)), clip_norm=0.1),
}


@pytest.mark.parametrize("name", RULED)
def test_three_steps_equal_the_reference(name: str) -> None:
    model = small(threshold=Learned(0.5, low=0.01), surrogate=Triangular(2.0))
    data = [batch(model, seed=k) for k in range(2)]
    data[1]["length"] = np.array([1, 2, 3, 4, 4, 4])
    ours, theirs = (session(model, RULED[name], b) for b in ("mlx", "numpy"))
    taps = [f"{s.path}.spike" for s in snnx.flatten(model).spiking]
    for k in range(3):
        spikes = [s.forward(data[0], {}, taps=taps).taps[taps[0]] for s in (ours, theirs)]
        np.testing.assert_array_equal(*spikes)  # no flip, or the steps say nothing
        found, wanted = (s.read(s.step(data, {"step": k})) for s in (ours, theirs))
        assert found == pytest.approx(wanted, rel=1e-5)
    a, b = ours.export(), theirs.export()
    assert a.count == b.count == 3
    for kind in ("parameters", "statistics", "moments"):
        for key, array in getattr(b, kind).items():
            assert error(getattr(a, kind)[key], array) < 1e-5, key


def test_smooth_gradients_equal_the_reference() -> None:
    model = Chain(
        Input(5),
        Linear(6, bias=False),
        Recurrent(LIF(surrogate=Triangular(2.0)), synapse_decay=Learned(0.5, transform="logit")),
        snnx.Residual(Linear(6)),
        LIF(decay=Learned(0.5, share="channel", transform="logit"), reset="subtract"),
        Linear(3),
    )
    found, wanted = (
        session(model, backend=b).grads(batch(model), {}, SMOOTH) for b in ("mlx", "numpy")
    )
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    for key, array in wanted[1].items():
        assert error(found[1][key], array) < 1e-5, key


def test_imposed_spikes_give_the_gradients_of_the_reference() -> None:
    model = small()
    theirs, ours = session(model, backend="numpy"), session(model)
    spikes = {"3": theirs.forward(batch(model), {}, taps=["3.spike"]).taps["3.spike"]}
    spikes["3"] = np.roll(spikes["3"], 1, axis=1)
    found, wanted = (
        s.grads(batch(model), {}, impose=spikes, wrt=["1.weight"]) for s in (ours, theirs)
    )
    assert found[1].keys() == {"1.weight"}
    assert error(found[1]["1.weight"], wanted[1]["1.weight"]) < 1e-5


def test_taps_and_losses_from_an_edge_equal_the_reference() -> None:
    model = small()
    ours, theirs = session(model), session(model, backend="numpy")
    taps = ["1", "3.potential", "4"]
    found, wanted = (s.forward(batch(model), {}, SMOOTH, taps) for s in (ours, theirs))
    for tap in taps:
        assert error(found.taps[tap], wanted.taps[tap]) < 1e-5
    assert found.state["t"] == wanted.state["t"] == 4
    edge = np.concatenate([wanted.taps["1"], wanted.taps["1"] + 0.1], axis=1)
    mode = dataclasses.replace(SMOOTH, norm="frozen_batch")
    given = {"at": "1", "values": edge, "copies": 2}
    a, b = (s.loss(batch(model), {}, mode, **given) for s in (ours, theirs))
    assert a.shape == (2, 6)
    assert error(a, b) < 1e-5
    replaced = {"6.bias": np.ones(3)}
    a, b = (s.loss(batch(model), {}, SMOOTH, replaced) for s in (ours, theirs))
    assert error(a, b) < 1e-5


def test_the_analog_mask_is_that_of_the_reference() -> None:
    model = Chain(
        Input(40), LIF(analog=Dial("share", 0.5), threshold=2.0, surrogate=Triangular(9.0))
    )
    mode = Mode("mixed", "batch", True, "train")
    data = {"x": np.full((3, 40), 0.5), "y": np.zeros(3, int), "index": np.array([5, 1, 9])}
    dials = {"share": 0.25, "step": 3, "seed": 11}
    a, b = (
        session(model, Optim(), name).forward(data, dials, mode, ["1"]).taps["1"] != 0
        for name in ("mlx", "numpy")
    )
    np.testing.assert_array_equal(a, b)
    assert 0.15 < b.mean() < 0.35


def test_a_learned_width_has_its_own_optimiser_group() -> None:
    model = small(surrogate=Triangular(Learned(1.0, group="width", transform="log")))
    s = session(model, Optim(SGD(lr=1e-30), {"width": SGD(lr=1.0)}))
    before = s.export().parameters
    s.read(s.step([batch(model)], {}))
    after = s.export().parameters
    assert after["3.surrogate.width"] != before["3.surrogate.width"]
    np.testing.assert_array_equal(after["1.weight"], before["1.weight"])


def test_the_threshold_of_dsr_stays_above_its_bound() -> None:
    model = Chain(Input(4), Linear(8), DSR.integrate_and_fire(1.0, low=0.25), Linear(3))
    ours, theirs = (session(model, Optim(SGD(lr=1e4)), b) for b in ("mlx", "numpy"))
    for s in (ours, theirs):
        s.load(
            dataclasses.replace(
                s.export(), parameters={**s.export().parameters, "2.threshold": np.array(0.1)}
            )
        )
        assert s.export().parameters["2.threshold"] == 0.25
    data = batch(model)
    found, wanted = (s.grads(data, {}) for s in (ours, theirs))
    for key, array in wanted[1].items():
        assert error(found[1][key], array) < 1e-5, key
    ours.read(ours.step([data], {}))
    assert ours.export().parameters["2.threshold"] >= 0.25


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    model = small()
    s = session(model, Optim(Adam()))
    s.read(s.step([batch(model)], {}))
    before, bad = s.export(), batch(model)
    bad["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="step 7"):
        s.read(s.step([batch(model), bad], {"step": 7}))
    after = s.export()
    assert after.count == before.count == 1
    for kind in ("parameters", "statistics", "moments"):
        for key, array in getattr(before, kind).items():
            np.testing.assert_array_equal(getattr(after, kind)[key], array)


def test_a_library_put_in_the_place_of_mlx_s_blas_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert "preloaded" not in load_backend("mlx").describe()
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libopenblas.so.0:libown.so")
    assert load_backend("mlx").describe()["preloaded"] == "libopenblas.so.0 libown.so"
