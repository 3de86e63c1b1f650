"""Padding and adaptive pooling against torch, and as trained on the numpy backend."""

from __future__ import annotations

import numpy as np
import pytest

import snnx
from snnx import Chain, Conv2d, Input, ShapeError
from snnx.ops import OPS
from snnx.serial import dumps, loads
from snnx.spatial import AdaptiveAvgPool2d, Pad2d

torch = pytest.importorskip("torch")


def torch_pair(function, x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return output and gradient of a torch function of images, in channels-last arrays."""
    image = torch.tensor(np.moveaxis(x[0], -1, 1), requires_grad=True)
    y = function(image)
    y.backward(torch.tensor(np.moveaxis(g[0], -1, 1)))
    return np.moveaxis(y.detach().numpy(), 1, -1)[None], np.moveaxis(image.grad.numpy(), 1, -1)[
        None
    ]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7), (8, 5), (14, 9)])
@pytest.mark.parametrize("out", [1, 2, 7])
def test_adaptive_pool_has_the_windows_of_torch(size, out):
    rng = np.random.default_rng(out)
    x, g = rng.normal(size=(1, 2, *size, 3)), rng.normal(size=(1, 2, out, out, 3))
    layer = AdaptiveAvgPool2d(out)
    y = layer.forward(np, x, {})
    g_x, rest = layer.vjp(np, x, {}, y, g)
    expected = torch_pair(lambda a: torch.nn.functional.adaptive_avg_pool2d(a, out), x, g)
    np.testing.assert_allclose(y, expected[0], atol=1e-14)
    np.testing.assert_allclose(g_x, expected[1], atol=1e-14)
    assert rest == {}
    assert layer.output_shape(x.shape[2:]) == y.shape[2:]


def test_a_border_and_an_average_pool_are_the_padded_pool_of_torch():
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(1, 2, 5, 4, 3)), rng.normal(size=(1, 2, 7, 6, 3))
    layer = Pad2d(1)
    y = layer.forward(np, x, {})
    g_x, _ = layer.vjp(np, x, {}, y, g)
    expected = torch_pair(lambda a: torch.nn.functional.pad(a, (1, 1, 1, 1)), x, g)
    assert np.array_equal(y, expected[0])
    assert np.array_equal(g_x, expected[1])
    pooled = OPS["avg_pool2d"].forward(np, {"x": y}, {"kernel": 3, "stride": 2})["y"]
    both = torch_pair(
        lambda a: torch.nn.functional.avg_pool2d(a, 3, 2, 1), x, np.zeros((1, 2, 3, 2, 3))
    )
    np.testing.assert_allclose(pooled, both[0], atol=1e-14)


def test_a_map_of_the_size_already_needs_no_step():
    program = snnx.flatten(Chain(Input(4, 4, 1), Conv2d(2, 3), AdaptiveAvgPool2d(4)))
    assert [s.op for s in program.steps] == ["conv2d"]
    assert program.output_shape == (4, 4, 2)


@pytest.mark.parametrize("layer", [Pad2d(1), AdaptiveAvgPool2d(2)])
def test_the_axes_are_checked_with_the_place(layer):
    with pytest.raises(ShapeError, match=r"layer 1 \w+: expects H, W, C"):
        snnx.flatten(Chain(Input(4), layer))
    assert loads(dumps(Chain(Input(4, 4, 1), layer))).layers[1] == layer


@pytest.mark.parametrize("value", [0, 1.5, True])
def test_a_wrong_size_is_refused(value):
    with pytest.raises(ValueError, match="size"):
        AdaptiveAvgPool2d(value)
    with pytest.raises(ValueError, match="padding"):
        Pad2d(value)
