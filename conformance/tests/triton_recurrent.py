"""Recurrent kernels under Triton's interpreter, in a process of `test_recurrent_kernels`."""

from __future__ import annotations

import pytest
import torch

from snnx_torch.kernels import recurrent_ops
from tests import recurrent_kernels as law

SAMPLES = list(law.OP.samples())


@pytest.fixture(params=["all kept", "some kept", "none kept", "tiles"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program keep pieces of the matrix, or have more units than a block; rows share one."""
    monkeypatch.setattr(recurrent_ops, "PROGRAMS", 1)
    if request.param in ("some kept", "none kept"):
        count = 1 if request.param == "some kept" else 0
        monkeypatch.setattr(recurrent_ops, "kept", lambda rows, units: count)
        monkeypatch.setattr(recurrent_ops, "depth", lambda tile: 4)
    if request.param == "tiles":
        monkeypatch.setattr(recurrent_ops, "RESIDENT", 1)
        monkeypatch.setattr(recurrent_ops, "TILE", 4)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("part", range(3))
def test_samples(part):
    for sample in SAMPLES[part::3]:
        law.agrees(sample, "triton")


@pytest.mark.usefixtures("size")
def test_dyadic():
    law.dyadic("triton")


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("fire", ["spike", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_longer_than_a_word(dtype, fire):
    law.longer_than_a_word("triton", dtype, fire, (37, 3, 11))


@pytest.mark.usefixtures("size")
def test_handed_over():
    law.handed_over("triton")


@pytest.mark.usefixtures("size")
def test_drawn_in_the_kernel():
    law.drawn_in_the_kernel("triton")


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_one_graph():
    law.one_graph("triton")
