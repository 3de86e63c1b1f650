"""A sequence that is run whole hands no state over, on every backend, and writes none."""

from __future__ import annotations

import importlib
import shutil
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import LIF, SDT, SGD, BatchNorm, Chain, Conv2d, Flatten, Input, Linear, Optim
from snnx.data import Dataset
from snnx.mode import EVAL
from snnx.training.evaluate import evaluate

pytest.importorskip("torch")
pytest.importorskip("mlx.core")

BACKENDS = ("numpy", "torch", "mlx")
STEPS = 3


def model() -> Chain:
    conv = (Conv2d(3, 3), BatchNorm(), LIF())
    return Chain(Input(4, 4, 1), *conv, Flatten(), Linear(5), LIF(), Linear(3))


def session(backend: str, **more: Any) -> Any:
    net = snnx.build(model(), backend, seed=1, precision="fp32", **more)
    return snnx.load_backend(backend).session(net, SDT(), Optim(SGD(0.1)), steps=STEPS)


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    x = (2 * rng.random((6, 4, 4, 1))).astype(np.float32)
    return {"x": x, "y": rng.integers(0, 3, 6), "index": np.arange(6)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_output_is_the_same_and_of_the_state_the_time_is_left(backend: str) -> None:
    own = session(backend)
    handed = own.forward(batch(), {}, EVAL, steps=STEPS)
    whole = own.forward(batch(), {}, EVAL, steps=STEPS, hand_over=False)
    assert np.array_equal(handed.y, whole.y)
    assert len(handed.state) == 3
    assert whole.state == {"t": STEPS} == {"t": handed.state["t"]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_for_a_whole_sequence_is_refused(backend: str) -> None:
    own = session(backend)
    state = own.forward(batch(), {}, EVAL, steps=STEPS).state
    with pytest.raises(ValueError, match="hand_over=False"):
        own.forward(batch(), {}, EVAL, steps=STEPS, state=state, hand_over=False)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_module_hands_nothing_over_either(backend: str) -> None:
    net: Any = session(backend).net.eval()
    library: Any = importlib.import_module("torch" if backend == "torch" else "mlx.core")
    x = (library.tensor if backend == "torch" else library.array)(batch()["x"])
    handed, state = net(x, steps=STEPS)
    whole, left = net(x, steps=STEPS, hand_over=False)
    assert np.array_equal(np.asarray(handed.tolist()), np.asarray(whole.tolist()))
    assert len(state) == 3
    assert set(left) == {"t"}
    with pytest.raises(ValueError, match="hand_over=False"):
        net(x, steps=STEPS, state=state, hand_over=False)


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
def test_kernels_that_infer_write_their_output_alone() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    written: list[int] = []

    class Written(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kw: Any = None) -> Any:
            found = func(*args, **(kw or {}))
            if func.namespace == "snnx":
                written.append(len(found))
            return found

    own = session("torch", kernels="cpp")
    for hand_over, arrays in ((True, 2), (False, 1)):
        written.clear()
        with Written():
            own.forward(batch(), {}, EVAL, steps=STEPS, hand_over=hand_over)
        assert written == [arrays, arrays]
    written.clear()
    with Written():
        own.loss(batch(), {}, EVAL, steps=STEPS)
    assert written == [1, 1]


@pytest.mark.parametrize(("chunk", "wanted"), [(None, [False]), (2, [True, True])])
def test_an_evaluation_hands_over_between_chunks_only(chunk: int | None, wanted: list) -> None:
    own, given, asked = session("numpy"), batch(), []
    forward = own.forward

    def noted(*args: Any, **options: Any) -> Any:
        asked.append(options["hand_over"])
        return forward(*args, **options)

    own.forward = noted
    data = Dataset(given["x"], given["y"], given["x"], given["y"], name="drawn")
    evaluate(own, own.net.program, SDT(), data, steps=STEPS, chunk=chunk)
    assert asked == wanted
