"""Laws of 16 bits: under bf16 and under torch.autocast every neuron keeps its fused kernel."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.building import initial_parameters

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from snnx_torch import backend  # noqa: E402
from snnx_torch.kernels.host import compiler  # noqa: E402
from tests.captured_nets import MODELS, SHAPE, made  # noqa: E402
from tests.torch_nets import batch  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="g++ is not on PATH"),
]
FALLS = {"neuron": "sequence", "pair": "generic", "rates": "generic"}  # where a kernel is left
OURS = (
    "snnx::neuron_forward",
    "snnx::neuron_backward",
    "snnx::rate_forward",
    "snnx::rate_backward",
)


class Kernels(TorchDispatchMode):
    """Notes which of our kernels ran, and in what dtype; and the dtypes of products."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Any]] = []
        self.products: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name()
        if name in OURS:
            self.found.append((name, out[0].dtype))
        if name in ("aten::convolution", "aten::convolution_backward", "aten::mm", "aten::addmm"):
            self.products |= {t.dtype for t in args[:3] if isinstance(t, torch.Tensor)}
        return out


def cast(how: str) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if how == "autocast" else nullcontext()


@pytest.fixture(autouse=True)
def _no_generic(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [importlib.import_module(f"snnx_torch.kernels.{n}") for n in FALLS]

    def left(*_: Any) -> Any:
        raise AssertionError("a neuron left its kernel")

    for module, name in zip(modules, FALLS.values(), strict=True):
        monkeypatch.setattr(module, name, left)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("model", ["lif", "asgl", "dspike", "dsr"])
def test_a_session_takes_the_same_kernels_in_16_bits(model: str, lean: bool) -> None:
    seen = {}
    for how in ("fp32", "bf16", "autocast"):
        precision = "bf16" if how == "bf16" else "fp32"
        ours = made(MODELS[model], lean=lean, precision=precision, kernels="cpp")
        given = batch(SHAPE)
        with Kernels() as kernels, cast(how):
            token = ours.step([given], {})
        assert ours.read(token)["loss"] > 0.0
        seen[how] = kernels
    names = {how: [name for name, _ in kernels.found] for how, kernels in seen.items()}
    assert len(names["fp32"]) == 6  # three neurons, forward and backward
    assert names["bf16"] == names["autocast"] == names["fp32"]
    for how in ("bf16", "autocast"):
        dtypes = [dtype for _, dtype in seen[how].found]
        assert dtypes == [torch.bfloat16] * 6
        assert seen[how].products == {torch.bfloat16}


@pytest.mark.parametrize("lean", [False, True])
def test_a_net_under_autocast_takes_the_same_kernels(lean: bool) -> None:
    program = snnx.flatten(MODELS["lif"])
    form: Any = {"device": "cpu", "lean": lean, "kernels": "cpp"}
    net = backend.build(program, initial_parameters(program, 1), **form).train()
    gradients = {}
    for how in ("fp32", "autocast"):
        net.zero_grad()
        with Kernels() as kernels, cast(how):
            y, _ = net(torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)), steps=3)
        with kernels:
            y.float().square().sum().backward()
        assert [name for name, _ in kernels.found] == [OURS[0]] * 3 + [OURS[1]] * 3
        wanted = torch.bfloat16 if how == "autocast" else torch.float32
        assert {dtype for _, dtype in kernels.found} == {wanted}
        gradients[how] = {name: p.grad for name, p in net.named_parameters()}
    assert {g.dtype for g in gradients["autocast"].values()} == {torch.float32}
    assert all(g.isfinite().all() for g in gradients["autocast"].values())


@pytest.mark.parametrize("kernels", ["generic", "cpp"])
def test_a_recurrent_layer_feeds_back_in_float32(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast its loss is that of bf16, whose feedback is float32; no spike is another."""
    if kernels == "cpp":
        module = importlib.import_module("snnx_torch.kernels.recurrent")
        monkeypatch.setattr(module, "generic", None)  # the kernels are left for nothing
    layer = snnx.Recurrent(snnx.LIF(surrogate=snnx.Triangular(1.0)), synapse_decay=0.5)
    model = snnx.Chain(snnx.Input(20), snnx.Linear(24), layer, snnx.Linear(10))
    rng = np.random.default_rng(0)
    x = 2.0 * rng.standard_normal((60, 4, 20)).astype(np.float32)
    given: Any = {"x": x, "y": np.arange(4), "index": np.arange(4)}
    found = {}
    for how in ("bf16", "autocast"):
        precision = "bf16" if how == "bf16" else "fp32"
        net = snnx.build(model, "torch", device="cpu", kernels=kernels, precision=precision, seed=1)
        session = backend.session(net, snnx.SDT(), snnx.Optim(), steps=60)
        with cast(how):
            found[how] = session.grads(given, {})
    (loss, wanted), (other, gradients) = found["bf16"], found["autocast"]
    assert other == loss
    assert np.abs(wanted["2.feedback"]).max() > 0.0
    for name, g in gradients.items():
        np.testing.assert_allclose(g, wanted[name], atol=1e-5 * np.abs(wanted[name]).max())
