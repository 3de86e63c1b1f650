"""The MLX backend's native module: its state, MLX's own tools on it, and a user's own layers."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest

import snnx
from snnx import LIF, Chain, Dial, Input, Learned, Recurrent
from snnx.array_layer import ArrayLayer
from snnx.mode import EVAL
from snnx.program import Init

mx = pytest.importorskip("mlx.core", reason="mlx is not installed")
nn = pytest.importorskip("mlx.nn")
optimizers = pytest.importorskip("mlx.optimizers")
utils = pytest.importorskip("mlx.utils")

from snnx_mlx.namespace import xp  # noqa: E402
from tests.mlx_nets import batch, session, small  # noqa: E402


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("fed_back", [False, True])
def test_the_state_is_handed_over_bit_for_bit(mixed: bool, fed_back: bool) -> None:
    unit = LIF(decay=0.7, analog=Dial("share", 0.5) if mixed else 0.0)
    model = Chain(Input(9), Recurrent(unit, synapse_decay=0.3) if fed_back else unit)
    net = snnx.build(model, backend="mlx").train(mixed)
    x = mx.array(np.random.default_rng(0).random((6, 3, 9)).astype(np.float32))
    whole, end = net(x)
    first, state = net(x[:2])
    second, last = net(x[2:], state)
    np.testing.assert_array_equal(mx.concatenate([first, second]), whole)
    for found, wanted in zip(last["1"], end["1"], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert last["t"].item() == end["t"].item() == 6


def test_the_native_net_trains_with_native_tools(tmp_path: Any) -> None:
    model = small(threshold=Learned(1.0, low=0.99))
    net = snnx.build(model, backend="mlx", seed=1)
    names = [k for k, _ in utils.tree_flatten(net.parameters())]
    program = snnx.flatten(model)
    assert set(names) == {p.path for p in (*program.parameters, *program.statistics)}
    net.freeze().unfreeze()
    trained = {k for k, _ in utils.tree_flatten(net.trainable_parameters())}
    assert trained == {p.path for p in program.parameters}
    data = batch(model, 12)
    x, y = mx.array(data["x"]), mx.array(data["y"])

    def loss(net: Any, x: Any, y: Any) -> Any:
        out, _ = net(x, steps=4)
        return nn.losses.cross_entropy(out.mean(axis=0), y, reduction="mean")

    optimizer = optimizers.Adam(2e-2, bias_correction=True)
    value_and_grad, losses = nn.value_and_grad(net, loss), []
    for _ in range(15):
        value, grads = value_and_grad(net, x, y)
        optimizer.update(net, grads)
        mx.eval(net.parameters(), optimizer.state)
        losses.append(value.item())
    assert losses[-1] < 0.8 * losses[0]
    assert net["3"]["threshold"].item() >= np.float32(0.99)
    assert mx.any(net["2"]["running_mean"] != 0).item()
    net.save_weights(str(tmp_path / "net.safetensors"))
    other = snnx.build(model, backend="mlx", seed=2)
    other.load_weights(str(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(other.eval()(x, steps=4)[0], net.eval()(x, steps=4)[0])


def test_a_net_says_what_it_expects() -> None:
    net = snnx.build(small(), backend="mlx")
    with pytest.raises(TypeError, match=r"give mx\.array"):
        net(np.zeros((2, 4, 4, 1), np.float32))
    with pytest.raises(ValueError, match=r"Input is \(4, 4, 1\)"):
        net(mx.zeros((2, 4, 5, 1)))
    with pytest.raises(KeyError, match="unknown dials"):
        net(mx.zeros((2, 4, 4, 1)), dials={"heat": 1.0})


# A user's own layers.


@dataclasses.dataclass(frozen=True, slots=True)
class Scaled(ArrayLayer):
    """y = tanh(w x), differentiated by MLX."""

    def parameters(self, shape: Any) -> Any:
        return {"w": (shape[-1:], Init("constant", 0.5))}

    def forward(self, xp: Any, x: Any, parameters: Any) -> Any:
        w = xp.asarray(parameters["w"], dtype=x.dtype, copy=False)
        return xp.astype(xp.tanh(w * x) + xp.sum(xp.zeros_like(x), dtype=x.dtype), x.dtype)


def _halved(self: Any, xp: Any, x: Any, parameters: Any, y: Any, g: Any) -> Any:
    inner = 0.5 * g * (1.0 - y * y)
    return parameters["w"] * inner, {"w": xp.sum(inner * x, axis=(0, 1))}


class Halved(Scaled):
    """The same with a vjp that says half of the truth."""

    __slots__ = ()
    vjp: ClassVar[Any] = _halved


def test_own_layers_by_autodiff_and_by_their_vjp() -> None:
    grads = []
    for layer in (Scaled(), Halved()):
        model = Chain(Input(3), layer)
        grads.append(session(model).grads(batch(model), {}, EVAL)[1]["1.w"])
    np.testing.assert_allclose(grads[1], 0.5 * grads[0], rtol=1e-5)
    assert np.all(grads[0] != 0)


def test_the_namespace_takes_the_standards_keywords() -> None:
    x = xp.asarray([[1.0, -2.0]], device=None)
    assert xp.bool == mx.bool_
    assert xp.zeros_like(x, dtype=xp.int32, device=None).dtype == mx.int32
    np.testing.assert_array_equal(xp.clip(x, min=0.0), [[1.0, 0.0]])
    assert xp.sum(x, axis=1, dtype=xp.float32).item() == -1.0
