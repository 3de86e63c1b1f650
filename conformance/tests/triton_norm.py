"""Batch norm's passes under Triton's interpreter, in a process of `test_norm_kernels`."""

from __future__ import annotations

import pytest
import torch

from snnx import LIF, Triangular
from snnx_torch.kernels import norm, norm_neuron


@pytest.fixture(params=["large", "small"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take blocks as on a GPU, or small ones, so that several programs take turns."""
    monkeypatch.setattr(norm, "INTERPRETED", norm.BLOCK)
    if request.param == "small":
        for name, size in {"BLOCK": 64, "MOVED": 32, "SLAB": 4, "PROGRAMS": 9, "JOINED": 2}.items():
            monkeypatch.setattr(norm, name, size)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 2, 1), (4, 3, 5, 7, 11), (2, 7, 8), (37, 16)])
def test_moments_are_those_of_float64(shape):
    x = torch.randn(shape, generator=torch.manual_seed(1)) * 3.0 + 2.0
    mean, var = torch.ops.snnx.norm_moments(x)
    rows = x.double().reshape(-1, shape[-1])
    torch.testing.assert_close(mean.double(), rows.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), rows.var(0, correction=0), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_digits_are_kept_over_a_hundred_thousand_rows(offset, monkeypatch):
    monkeypatch.setattr(norm, "PROGRAMS", 16)
    monkeypatch.setattr(norm, "INTERPRETED", 512)
    x = torch.randn((100_000, 4), generator=torch.manual_seed(2)) + offset
    mean, var = torch.ops.snnx.norm_moments(x)
    wanted = x.double().mean(0), x.double().var(0, correction=0)
    assert ((mean.double() - wanted[0]).abs() <= 1e-6 + 1.2e-7 * offset).all()
    assert ((var.double() - wanted[1]).abs() <= 2e-6).all()
    constant = torch.full((1000, 4), 1.0 / 3.0)
    assert torch.equal(torch.ops.snnx.norm_moments(constant)[1], torch.zeros(4))


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_left_of_a_gradient_is_the_formula(dtype):
    draw = torch.manual_seed(3)
    g, x = (torch.randn((4, 3, 5, 11), generator=draw).to(dtype) for _ in range(2))
    slope, level = (torch.randn(11, generator=draw) for _ in range(2))
    wanted = (g.float() - (x.float() * slope + level)).to(dtype)
    found = torch.ops.snnx.norm_settled(g, x, slope, level)
    if dtype == torch.float32:
        assert torch.equal(found, wanted)
    else:  # the interpreter rounds to 16 bits in its own way
        torch.testing.assert_close(found, wanted, rtol=2.0**-7, atol=0.0)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("mode", ["batch", "frozen_batch", "running"])
def test_a_pair_with_these_passes_is_the_generic_one(mode):
    draw = torch.manual_seed(4)
    inputs = {"x": torch.randn((6, 3, 4, 4, 5), generator=draw)}
    inputs |= {"weight": torch.linspace(0.5, 1.5, 5), "bias": torch.linspace(0.0, 0.6, 5)}
    inputs |= {"running_mean": torch.linspace(-0.2, 0.2, 5), "running_var": torch.ones(5)}
    neuron = LIF(decay=0.7, surrogate=Triangular(1.0))
    results = []
    for how in ("generic", "triton"):
        given = {n: a.clone().requires_grad_("running" not in n) for n, a in inputs.items()}
        attributes = {"neuron": neuron, "mode": mode, "steps": 6, "implementation": how}
        out = norm_neuron(given, attributes)
        (out["y"] * torch.arange(5.0)).sum().backward()
        results.append((out, {n: given[n].grad for n in ("x", "weight", "bias")}))
    (generic, g_generic), (fast, g_fast) = results
    assert 0.05 < generic["y"].mean() < 0.6
    assert (fast["y"] != generic["y"]).float().mean() < 1e-3
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(fast[name], generic[name], rtol=1e-6, atol=1e-6)
    for name, g in g_generic.items():
        torch.testing.assert_close(g_fast[name], g, rtol=1e-4, atol=2e-5, msg=name)


def test_the_operators_are_declared_rightly():
    tests = ("test_schema", "test_faketensor")
    x = torch.linspace(-1, 2, 60).view(4, 5, 3)
    torch.library.opcheck(norm.norm_moments, (x,), test_utils=tests)
    arguments = (x, x + 1.0, torch.ones(3), torch.zeros(3))
    torch.library.opcheck(norm.norm_settled, arguments, test_utils=tests)
