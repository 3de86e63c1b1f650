"""MLX's bits of edges, with g++ in the place of Metal: written by the kernels, changing nothing."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import numpy as np
import pytest

from snnx import LIF
from tests.mlx_host import HostKernels
from tests.test_packed_bits import SHAPES, by_hand, drawn
from tests.test_packed_edges import SCALED, batch, net_of

INSTALLED = importlib.util.find_spec("mlx") is not None and shutil.which("g++") is not None
pytestmark = pytest.mark.skipif(not INSTALLED, reason="mlx is not installed, or g++ not on PATH")


def session(neuron: Any, lean: bool, norm: bool = False) -> Any:
    import snnx
    from snnx.backend import load_backend

    net = snnx.build(net_of(neuron, norm), "mlx", seed=3, device="cpu", lean=lean)
    optim = snnx.Optim(snnx.SGD(lr=0.1))
    return load_backend("mlx").session(net, snnx.TET(), optim, steps=3, compile=False)


def test_kernels_pack_and_unpack_as_by_hand(host: HostKernels) -> None:
    import mlx.core as mx

    from snnx_mlx.arrays import to_mlx, to_numpy
    from snnx_mlx.kernels import bits

    cases = [(s, k, d) for s in SHAPES for k in ("unit", "layer", "channel") for d in (0, 1, 2)]
    for compiled in (False, True):
        for shape, share, which in cases:
            dtype = (mx.float32, mx.bfloat16, mx.float16)[which]
            x, scale = drawn(shape, share)
            words = bits.pack(to_mlx(x).astype(dtype))
            held = None if scale is None else to_mlx(scale)
            again = bits.unpack(words, shape, held, dtype)
            assert again.dtype == dtype
            if compiled:
                np.testing.assert_array_equal(np.array(words), by_hand(x))
                np.testing.assert_array_equal(to_numpy(again), x)
        if not compiled:
            host.compile()


@pytest.mark.parametrize("neuron", [LIF(threshold=0.2), SCALED])
def test_packing_changes_no_bit_of_a_gradient(host: HostKernels, neuron: Any) -> None:
    for compiled in (False, True):
        results = [session(neuron, lean).grads(batch(), {}) for lean in (False, True)]
        if not compiled:
            host.compile()
    names = [source.name.split("_")[1] for source, _, _ in host.sources]
    assert names.count("pack") == 1  # of what is pooled
    assert sum(source.votes > 0 for source, _, _ in host.sources) > 1
    assert results[0][0] == results[1][0]
    for path, g in results[0][1].items():
        assert np.any(g), path
        np.testing.assert_array_equal(results[1][1][path], g, err_msg=path)


def test_pairs_write_bits_and_read_a_residual_from_them(host: HostKernels) -> None:
    neuron = LIF(threshold=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snnx_mlx.kernels.launch.target", lambda: None)
        wanted = session(neuron, True, norm=True).grads(batch(2), {})
    for compiled in (False, True):
        found = session(neuron, True, norm=True).grads(batch(2), {})
        if not compiled:
            host.compile()
    read = [s.name.split("_")[1] for s, _, _ in host.sources if "residual_bits" in s.names("in")]
    assert sorted(read) == ["backward", "forward"]
    assert any(s.votes and "pack" not in s.name for s, _, _ in host.sources)
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    for path, g in wanted[1].items():
        scale = float(np.abs(g).max()) + 1e-12
        np.testing.assert_allclose(found[1][path] / scale, g / scale, atol=2e-5, err_msg=path)


def test_without_gradients_no_bits_are_written(host: HostKernels) -> None:
    made = session(LIF(), True)
    made.forward(batch(2), {})
    made.loss(batch(2), {}, made.train_step.mode)
    assert host.sources
    assert not any(source.votes for source, _, _ in host.sources)
