"""Tensors joined end to end: the same elements in the same order, parted as they were."""

from typing import Any

import torch

import snnx
from snnx.backend import load_backend
from snnx.building import initial_parameters
from snnx_torch.flat import MOST, bunches, chosen, joined, norm, parted

SHAPES = ((3, 2, 3, 3), (5,), (), (4, 6))


def tensors(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator) for shape in SHAPES]
    made[0] = made[0].to(memory_format=torch.channels_last)
    return made


def test_joined_and_parted_are_inverse_and_keep_the_layout() -> None:
    for many in (tensors(0), tensors(0)[:1]):
        row = joined(many)
        assert row.shape == (sum(t.numel() for t in many),)
        back = parted(row, many)
        assert all(torch.equal(a, b) for a, b in zip(back, many, strict=True))
        assert all(a.stride() == b.stride() for a, b in zip(back, many, strict=True))


def test_layouts_may_differ_between_what_is_joined() -> None:
    first = joined(tensors(0)) + joined([t.contiguous() for t in tensors(1)])
    for got, a, b in zip(parted(first, tensors(0)), tensors(0), tensors(1), strict=True):
        assert torch.equal(got, a + b)


def test_bunches_keep_the_order_and_their_size() -> None:
    sizes = {"a": 3, "b": 4, "c": 9, "d": 1, "e": 7, "f": 0}
    assert bunches(sizes, 8) == [("a", "b"), ("c",), ("d", "e", "f")]
    assert bunches({}) == []


def test_a_flag_chooses_between_all_of_them() -> None:
    new, old = (dict(zip("abcd", tensors(k), strict=True)) for k in (0, 1))
    for flag, wanted in ((True, new), (False, old)):
        found = chosen(torch.tensor(flag), new, old)
        assert list(found) == list(new)
        assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_the_norm_is_that_of_all_elements() -> None:
    wanted = joined(tensors(0)).double().square().sum().sqrt()
    assert torch.allclose(norm(tensors(0)).double(), wanted, rtol=1e-6)
    assert not torch.isfinite(norm([*tensors(0), torch.tensor([float("nan")])]))


def test_one_row_serves_every_parameter_of_a_rule() -> None:
    model = snnx.Chain(
        *(snnx.Input(6), snnx.Linear(5), snnx.BatchNorm(), snnx.LIF(), snnx.Linear(4)),
        *(snnx.LIF(threshold=snnx.Learned(1.0, group="threshold", low=0.01)), snnx.Linear(3)),
    )
    program, backend = snnx.flatten(model), load_backend("torch")
    net = backend.build(program, initial_parameters(program, 0), device="cpu")
    optim = snnx.Optim(snnx.SGD(momentum=0.9), groups={"threshold": snnx.Adam(lr=0.1)})
    session: Any = backend.session(net, snnx.TET(), optim)
    plans = session.train_step.plans
    assert sum(p.size for p in program.parameters) < MOST
    assert sorted(len(paths) for paths, _, _ in plans) == [1, len(program.parameters) - 1]
