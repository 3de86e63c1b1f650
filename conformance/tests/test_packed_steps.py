"""Training steps with bits, recorded, compiled and in 16 bits: those of the step done at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import snnx  # noqa: E402
from snnx import LIF  # noqa: E402
from snnx_torch.kernels import host  # noqa: E402
from snnx_torch.replay import WARM  # noqa: E402
from snnx_torch.session import TorchSession  # noqa: E402
from tests.captured_nets import same  # noqa: E402
from tests.recorded import Recorder  # noqa: E402
from tests.test_packed_edges import SCALED, STEPS, batch, net_of  # noqa: E402

CPP = pytest.mark.skipif(host.compiler() is None, reason="g++ is not on PATH")
pytestmark = pytest.mark.slow


def made(neuron: Any, kernels: str, precision: str = "fp32", capture: Any = None) -> TorchSession:
    form: dict[str, Any] = {"seed": 3, "device": "cpu", "lean": True, "kernels": kernels}
    net: Any = snnx.build(net_of(neuron), "torch", precision=precision, **form)
    fixed: Any = (net, snnx.TET(), snnx.Optim(snnx.SGD()), STEPS, False, False, None)
    return TorchSession(*fixed, capture=capture)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("neuron", [LIF(threshold=0.2), SCALED])
@pytest.mark.parametrize("kernels", ["generic", pytest.param("cpp", marks=CPP)])
def test_a_recorded_step_has_the_bits_of_its_own_replay(
    kernels: str, neuron: Any, precision: str
) -> None:
    recorder, given = Recorder(), batch(3)
    ours = made(neuron, kernels, precision, recorder)
    eager = made(neuron, kernels, precision)
    for k in range(WARM + 2):
        given["x"] = -given["x"]  # what is replayed is not what was recorded
        dials = {"lr": 0.1 / (k + 1), "step": k}
        assert ours.read(ours.step([given], dials)) == eager.read(eager.step([given], dials))
    assert recorder.replays == 2
    assert recorder.side.forks > 0  # weights' gradients, which unpack, are set aside
    assert same(ours.export(), eager.export())
    names = [func.name() for func, *_ in recorder.tapes[0].calls]
    assert names.count("snnx::pack") == (kernels == "cpp")
    assert ("snnx::unpack" in names) == (kernels == "cpp")


@pytest.mark.parametrize("neuron", [LIF(threshold=0.2), SCALED])
def test_mlx_compiles_a_step_with_bits(neuron: Any) -> None:
    pytest.importorskip("mlx.core")
    from snnx.backend import load_backend

    results = []
    for compile in (False, True):
        net = snnx.build(net_of(neuron), "mlx", seed=3, device="cpu", lean=True)
        backend: Any = load_backend("mlx")
        own = backend.session(net, snnx.TET(), snnx.Optim(snnx.SGD()), steps=STEPS, compile=compile)
        losses = [own.read(own.step([batch(2)], {"step": k}))["loss"] for k in range(2)]
        results.append((losses, own.export().parameters))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for path, value in results[0][1].items():
        np.testing.assert_allclose(results[1][1][path], value, atol=1e-5, err_msg=path)
