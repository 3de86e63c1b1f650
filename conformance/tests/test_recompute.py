"""Activation checkpointing: the same bits, less kept, and statistics that move once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import (
    LIF,
    SDT,
    SGD,
    TET,
    BatchNorm,
    Chain,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Learned,
    Linear,
    Optim,
    Poisson,
    Residual,
    Triangular,
    load_backend,
)
from snnx.backend import BackendError
from snnx.models.resnet import resnet18
from snnx.recompute import borders, ranges

torch = pytest.importorskip("torch")
pytest.importorskip("mlx.core")

T, N = 4, 3
NEURON = LIF(threshold=Learned(0.7, group="threshold"), analog=0.3, surrogate=Triangular(width=1.5))
NET = Chain(
    Input(3, 3, 2),
    Poisson(),
    Conv2d(2, 1),
    Flatten(),
    BatchNorm(),
    NEURON,
    Residual(Chain(Linear(18), BatchNorm(), NEURON, Linear(18), BatchNorm()), Chain()),
    NEURON,
    Dropout(0.3),
    Linear(7),
    snnx.Recurrent(LIF(surrogate=Triangular()), synapse_decay=0.5),
    Linear(3),
)


def batch(length: bool = False) -> Any:
    rng = np.random.default_rng(2)
    found = {
        "x": rng.random((T, N, 3, 3, 2)).astype(np.float32),
        "y": rng.integers(0, 3, N),
        "index": np.arange(N) + 5,
    }
    return {**found, "length": np.array([4, 2, 3])} if length else found


def after(backend: str, recompute: int | None, model: Any = NET, **more: Any) -> Any:
    """Return figures, snapshot and session after two steps."""
    objective, data = more.pop("objective", TET()), more.pop("data", None) or batch()
    net = snnx.build(model, backend, seed=1, **more.pop("form", {}))
    optim = Optim(SGD(0.1, momentum=0.9))
    options = {"steps": T, "recompute": recompute, **more}
    made = load_backend(backend).session(net, objective, optim, **options)
    figures = [made.read(made.step([data, data], {"seed": 3, "step": s})) for s in (0, 1)]
    return figures, made.export(), made


def same(one: Any, two: Any) -> None:
    assert one[0] == two[0]
    for kind in ("parameters", "statistics", "moments"):
        a, b = getattr(one[1], kind), getattr(two[1], kind)
        assert a
        for path in a:
            assert np.array_equal(a[path], b[path]), (kind, path)


def test_ranges_cover_the_program_and_are_about_equal() -> None:
    steps = snnx.flatten(resnet18()).steps
    assert ranges(steps, None) == ((0, len(steps)),)
    for count in (2, 3, 8, 1000):
        found = ranges(steps, count)
        assert [i for start, stop in found for i in range(start, stop)] == list(range(len(steps)))
        assert 2 <= len(found) <= count
        assert all(start < stop for start, stop in found)
    sizes = [sum(int(np.prod(steps[i].shape)) for i in range(*cut)) for cut in ranges(steps, 4)]
    assert max(sizes) < 1.5 * sum(sizes) / 4
    assert ranges((), 3) == ((0, 0),)
    assert borders(["a", "b", None, "c"], ["b", "c", "d"], {"b"}) == (("a",), ("c", "d"))


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("recompute", [2, 5])
def test_every_bit_of_a_step_is_the_same(backend: str, recompute: int) -> None:
    plain = after(backend, None)
    again = after(backend, recompute)
    assert np.any(plain[1].moments["2.weight.velocity"])
    same(plain, again)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("objective", [TET(), SDT(decay=0.9)])
def test_ranges_go_with_chunks_and_lengths(backend: str, objective: Any) -> None:
    options: Any = {"objective": objective, "data": batch(length=True), "chunk": 3}
    same(after(backend, None, **options), after(backend, 4, **options))


def test_ranges_go_with_other_forms() -> None:
    for form in ({"lean": True}, {"precision": "bf16"}):
        same(after("torch", None, form=form), after("torch", 3, form=form))
    same(after("mlx", None, form={"lean": True}), after("mlx", 3, form={"lean": True}))


def test_torch_keeps_less() -> None:
    def kept(recompute: int | None) -> int:
        """Return the bytes that autograd holds when the forward pass has ended."""
        net = snnx.build(NET, "torch", seed=1)
        made: Any = load_backend("torch").session(
            net, TET(), Optim(SGD()), steps=T, recompute=recompute
        )
        seen: dict[int, int] = {}

        def pack(tensor: Any) -> Any:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            made.step([batch()], {})
        return sum(seen.values())

    assert kept(4) < 0.6 * kept(None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it traces
def test_ranges_are_one_compiled_step() -> None:
    neuron = LIF(surrogate=Triangular())
    tiny = Chain(Input(4), Linear(5), neuron, Linear(3))
    data = {k: v[:2].reshape(2, 3, -1)[..., :4] if k == "x" else v for k, v in batch().items()}
    results = {}
    for recompute, compile in ((2, "aot_eager"), (None, False)):
        net = snnx.build(tiny, "torch", seed=1)
        torch_backend: Any = load_backend("torch")
        made = torch_backend.session(
            net, TET(), Optim(SGD(0.1)), steps=T, recompute=recompute, compile=compile
        )
        for step in (0, 1):
            made.read(made.step([data], {"step": step}))
        results[recompute] = made
        if compile:
            with pytest.raises(BackendError, match="one part and one chunk only"):
                made.step([data, data], {})
    assert results[2].compilations() == 1
    for path, wanted in results[None].export().parameters.items():
        assert np.allclose(results[2].export().parameters[path], wanted, atol=1e-6)


def test_what_is_no_number_of_ranges_is_refused() -> None:
    for wrong in (1, 0, True, 2.0):
        for backend in ("torch", "mlx"):
            with pytest.raises(ValueError, match="recompute: a whole number of ranges >= 2"):
                after(backend, wrong)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="keeps every array; leave recompute out"):
        after("numpy", 2)
