"""Recurrent kernels under Triton's interpreter, in a process of `test_recurrent_kernels`."""

from __future__ import annotations

import pytest
import torch

from snnx_torch.kernels import recurrent_ops
from tests import recurrent_kernels as law

SAMPLES = list(law.OP.samples())


@pytest.fixture(params=["one block", "tiles"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one block hold all units, or let them be so many that it does not; rows share one."""
    monkeypatch.setattr(recurrent_ops, "PROGRAMS", 1)
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
    law.longer_than_a_word("triton", dtype, fire, (37, 3, 5))


@pytest.mark.usefixtures("size")
def test_handed_over():
    law.handed_over("triton")


@pytest.mark.usefixtures("size")
def test_drawn_in_the_kernel():
    law.drawn_in_the_kernel("triton")


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_one_graph():
    law.one_graph("triton")
