"""Bits as part of an edge's value: who makes them, who shares them; they change nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import snnx  # noqa: E402
from snnx import (  # noqa: E402
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
from snnx.backend import load_backend  # noqa: E402
from snnx.mode import Run, train_mode  # noqa: E402
from snnx.passes import further_outputs, mark_packed  # noqa: E402
from snnx.program import flatten  # noqa: E402
from snnx_torch.ops import RULES  # noqa: E402
from tests.residuals import outcomes  # noqa: E402

CPP = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
SCALED = LIF(threshold=Learned(0.7, "channel", "threshold", low=0.01), emit=("threshold", 2.0))
STEPS = 3


def net_of(neuron: Any = LIF(threshold=0.2), norm: bool = True) -> Chain:  # noqa: B008  (frozen)
    """Return a net whose spikes are read by one layer, by several, pooled, and averaged."""

    def conv(features: int) -> tuple[Any, ...]:
        return (Conv2d(features, 3, bias=not norm), *((BatchNorm(),) if norm else ()))

    apart = Residual(Chain(Conv2d(3, 1)), Chain(Conv2d(3, 1)))  # two layers read one edge
    plain = Residual(Chain(*conv(3), neuron, *conv(3)), Chain())  # and a layer and an addition
    ends = (MaxPool2d(2), Conv2d(3, 1), LIF(emit=0.5), AvgPool2d(2), Flatten(), Linear(4))
    return Chain(Input(9, 9, 2), *conv(3), neuron, apart, LIF(), plain, neuron, *ends)


def test_bits_are_made_once_where_an_edge_is_made() -> None:
    steps = mark_packed(flatten(net_of(SCALED, norm=False))).steps
    made = [e for s in steps for e in further_outputs(s).values()]
    assert len(made) == len(set(made))
    read = Counter(r for s in steps for n, r in s.inputs.items() if n.endswith(("_bits", "_scale")))
    assert set(read) == set(made)
    assert sorted(read.values()) == [1, 1, 1, 1, 1, 2, 2]  # "apart" reads bits and scale twice
    first = next(s for s in steps if s.op == "neuron")
    assert tuple(further_outputs(first)) == ("bits", "scale")
    pool = next(s for s in steps if s.op == "max_pool2d")
    assert tuple(further_outputs(pool)) == ("bits",)
    reader = next(s for s in steps if s.inputs.get("x") == pool.output)
    before = next(s for s in steps if s.output == pool.inputs["x"])
    assert reader.inputs["x_bits"] == f"{pool.output}:bits"
    assert reader.inputs["x_scale"] == f"{before.output}:scale"
    assert tuple(further_outputs(before)) == ("scale",)  # nobody reads its own bits
    assert not further_outputs([s for s in steps if s.op == "neuron"][-1])  # it is averaged


def test_a_flattened_edge_has_the_bits_of_what_it_flattens() -> None:
    steps = mark_packed(flatten(Chain(Input(4, 4, 2), LIF(), Flatten(), Linear(3)))).steps
    assert [tuple(further_outputs(s)) for s in steps] == [("bits",), (), ()]
    assert steps[-1].inputs["x_bits"] == f"{steps[0].output}:bits"


def test_an_edge_that_is_given_from_outside_stays_dense() -> None:
    program = flatten(Chain(Input(4), Linear(4), LIF(), Linear(3), LIF(), Linear(2)))
    spikes = [s.output for s in program.spiking]
    marked = mark_packed(program, given={spikes[0]})
    assert ["x_bits" in s.inputs for s in marked.steps if s.op == "linear"] == [False, False, True]


class Calls(TorchDispatchMode):
    """Counts the calls of snnx's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "snnx":
            self.seen[func._opname] += 1
        return func(*args, **(kwargs or {}))


def session(model: Chain, lean: bool, kernels: str = "generic", **more: Any) -> Any:
    form = {"seed": 3, "device": "cpu", "lean": lean, "kernels": kernels}
    net = snnx.build(model, "torch", **form, precision=more.pop("precision", "fp32"))
    optim = snnx.Optim(snnx.SGD(lr=0.1, momentum=0.9))
    options = {"steps": STEPS, "compile": False, **more}
    return load_backend("torch").session(net, snnx.TET(), optim, **options)


def batch(n: int = 5) -> Any:
    rng = np.random.default_rng(2)
    x = 4.0 * rng.standard_normal((STEPS, n, 9, 9, 2)).astype(np.float32)
    return {"x": x, "y": rng.integers(0, 4, n), "index": np.arange(n)}


@CPP
@pytest.mark.parametrize("neuron", [LIF(), SCALED, LIF(detach_reset=True)])
def test_neuron_kernels_write_the_bits_and_only_where_they_are_read(neuron: Any) -> None:
    made = session(net_of(neuron), True, "cpp")
    plays = made.net.prepared(Run(train_mode(made.net.program), 1)).plays
    marked = [play for play in plays if "packed" in play.attributes]
    with Calls() as calls:
        made.grads(batch(), {})
    assert any("residual_bits" in dict(p.inputs) for p in plays)
    assert len(marked) >= 5
    assert calls.seen["pack"] == 1  # what is pooled
    assert calls.seen["unpack"] == len(marked)  # a residual is read as bits
    with Calls() as calls:
        made.forward(batch(), {})
    assert calls.seen["pack"] == calls.seen["unpack"] == 0
    from snnx_torch.kernels.ops import _SPECS

    assert any(s.variant.emits and s.variant.keep for s in _SPECS.values())
    assert not any(s.variant.emits and not s.variant.keep for s in _SPECS.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("neuron", [LIF(threshold=0.2), SCALED])
@pytest.mark.parametrize("kernels", ["generic", pytest.param("cpp", marks=CPP)])
def test_packing_changes_no_bit_of_a_gradient(kernels: str, neuron: Any, precision: str) -> None:
    model = net_of(neuron, norm=False)
    forms = (session(model, lean, kernels, precision=precision) for lean in (False, True))
    (loss, wanted), (other, found) = (s.grads(batch(), {}) for s in forms)
    assert loss == other
    for path, g in wanted.items():
        assert np.any(g), path
        np.testing.assert_array_equal(found[path], g, err_msg=path)


@CPP
@pytest.mark.parametrize("neuron", [LIF(threshold=0.2), SCALED])
def test_training_with_emitted_bits_is_that_of_packed_ones(
    neuron: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for apart in (False, True):
        with monkeypatch.context() as patch:
            if apart:  # the kernels write none, so that the edges are packed by themselves
                for op in ("neuron", "norm_neuron"):
                    patch.setitem(RULES, op, unaware(RULES[op]))
            made = session(net_of(neuron), True, "cpp")
            losses = [made.read(made.step([batch()], {"step": i}))["loss"] for i in range(3)]
        results.append((losses, made.export().parameters))
    assert results[0][0] == results[1][0]
    for path, value in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][path], value, err_msg=path)


def unaware(rule: Any) -> Any:
    """Return a rule that is not told to write bits, so that they are packed after it."""
    return lambda inputs, attributes: rule(inputs, {**attributes, "emits": False})


@CPP
@pytest.mark.parametrize("kernels", ["generic", "cpp"])
@pytest.mark.parametrize("more", [{"chunk": 1}, {"recompute": 3}])
def test_chunks_of_time_and_recomputed_ranges_have_bits_too(kernels: str, more: Any) -> None:
    model = net_of(SCALED, norm=False)
    results = []
    for lean in (False, True):
        made = session(model, lean, kernels, **more)
        losses = [made.read(made.step([batch()], {"step": i}))["loss"] for i in range(2)]
        results.append((losses, made.export().parameters))
    assert results[0][0] == results[1][0]
    for path, value in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][path], value, err_msg=path)


@CPP
@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["generic", "cpp"])
@pytest.mark.filterwarnings(  # torch's own, while it traces an autograd.Function
    "ignore:.*should not be instantiated:DeprecationWarning"
)
def test_a_step_with_bits_is_one_graph(kernels: str) -> None:
    results = []
    for how in (False, "aot_eager"):
        made = session(net_of(SCALED), True, kernels, compile=how)
        losses = [made.read(made.step([batch()], {"step": i}))["loss"] for i in range(2)]
        results.append((losses, made.export().parameters))
    torch._dynamo.reset()
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for path, value in results[0][1].items():
        np.testing.assert_allclose(results[1][1][path], value, atol=1e-5, err_msg=path)


@CPP
@pytest.mark.parametrize("share", ["unit", "layer", "channel"])
@pytest.mark.parametrize(("features", "steps"), [(7, 1), (16, 4), (33, 5)])
def test_a_residual_read_from_bits_is_the_dense_one(share: str, features: int, steps: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        dense, packed = outcomes(share, "cpp", features, steps, dtype)
        assert dense["y"].any()
        for name, value in dense.items():
            assert torch.equal(packed[name], value), name
