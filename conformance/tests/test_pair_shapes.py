"""Learned numbers of every shape behind a fused norm: their gradients have that shape."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from snnx import LIF, Learned, Triangular  # noqa: E402
from snnx.ops.norm_neuron import NORM_INPUTS  # noqa: E402
from snnx_torch.kernels import norm_neuron  # noqa: E402
from snnx_torch.kernels.host import compiler  # noqa: E402


@pytest.mark.skipif(compiler() is None, reason="g++ is not on PATH")
@pytest.mark.parametrize("share", ["layer", "channel", "neuron"])
def test_a_number_per_neuron_of_an_image_learns_behind_a_norm(share: Any) -> None:
    neuron = LIF(threshold=Learned(0.5, share=share), surrogate=Triangular(1.0))
    shape = {"layer": (), "channel": (3,), "neuron": (4, 5, 3)}[share]
    values = dict(zip(NORM_INPUTS, (torch.ones(3), torch.zeros(3)) * 2, strict=True))
    values["running_mean"], values["running_var"] = torch.zeros(3), torch.ones(3)
    x = torch.randn(6, 2, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for how in ("generic", "cpp"):
        threshold = torch.full(shape, 0.5, requires_grad=True)
        inputs = {"x": x, **values, "p.threshold": threshold}
        attributes = {"neuron": neuron, "mode": "batch", "implementation": how}
        y = norm_neuron(inputs, attributes)["y"]
        found.append(torch.autograd.grad((y * x).sum(), [threshold])[0])
    assert found[0].shape == found[1].shape == shape
    assert found[0].abs().max() > 0.0
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
