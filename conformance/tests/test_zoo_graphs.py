"""Every architecture's training step is one graph of torch.compile, and a recorded one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.building import initial_parameters
from snnx.models import MODELS

torch = pytest.importorskip("torch")

from snnx_torch import backend  # noqa: E402
from snnx_torch.replay import WARM  # noqa: E402
from snnx_torch.session import TorchSession  # noqa: E402
from tests.captured_nets import same  # noqa: E402
from tests.recorded import Recorder  # noqa: E402
from tests.torch_nets import COMPILER  # noqa: E402

pytestmark = pytest.mark.slow

SIZES: dict[str, tuple[int, ...]] = {
    "digits": (8, 8, 1),
    "mnist_toy": (6, 6, 1), "snn5": (16, 16, 2), "cifarnet": (8, 8, 1), "vggsnn": (16, 16, 2),
    "vgg11_dsr": (32, 32, 1), "vgg13_asgl": (16, 16, 1), "vgg16": (32, 32, 1),
    "vgg16_asgl": (16, 16, 1), "vgg16_imagenet": (32, 32, 1), "resnet18": (8, 8, 1),
    "resnet18_dspike": (16, 16, 1), "resnet19": (8, 8, 2), "spiking_resnet34": (32, 32, 1),
    "sew_resnet34": (32, 32, 1), "preact_resnet18": (8, 8, 1),
    "preact_resnet18_imagenet": (32, 32, 1), "preact_resnet": (8, 8, 1), "shd": (9,),
    "medlydb": (9,), "autoencoder": (4, 4, 1),
}  # fmt: skip
WIDTH, STEPS = 0.04, 2
QUICK = ("digits", "mnist_toy", "snn5", "cifarnet", "shd", "medlydb", "autoencoder")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def net(name: str) -> Any:
    program = snnx.flatten(MODELS[name](3, width=WIDTH, input=SIZES[name]))
    return backend.build(program, initial_parameters(program, 1), device="cpu", lean=True)


def batch_of(name: str) -> Any:
    draw = np.random.default_rng(4)
    x = draw.random((2, *SIZES[name])).astype(np.float32)
    return {"x": x, "y": np.array([0, 2]), "index": np.arange(2)}


def session(name: str, compile: bool | str = False, capture: Any = None) -> TorchSession:
    fixed: Any = (net(name), snnx.TET(), snnx.Optim(snnx.SGD()), STEPS, compile, False, None)
    return TorchSession(*fixed, capture=capture)


@COMPILER
@pytest.mark.parametrize("name", [name for name in MODELS if name in QUICK])
def test_the_step_of_a_small_architecture_is_one_graph(name: str) -> None:
    is_one_graph(name)


@COMPILER
@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in MODELS if name not in QUICK])
def test_the_step_of_an_architecture_is_one_graph(name: str) -> None:
    is_one_graph(name)


def is_one_graph(name: str) -> None:
    ours, eager, given = session(name, "eager"), session(name), batch_of(name)
    for k in range(2):
        found, wanted = (s.read(s.step([given], {"step": k})) for s in (ours, eager))
        assert found == wanted
    assert ours.compilations() == 1


@pytest.mark.parametrize("name", MODELS)
def test_the_step_of_an_architecture_is_recorded(name: str) -> None:
    recorder, given = Recorder(), batch_of(name)
    ours, eager = session(name, capture=recorder), session(name)
    for k in range(WARM + 2):
        dials = {"lr": 0.1 / (k + 1), "step": k}
        assert ours.read(ours.step([given], dials)) == eager.read(eager.step([given], dials))
    assert recorder.replays == 2
    assert same(ours.export(), eager.export())
