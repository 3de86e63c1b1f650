"""Binary sequences as bits: kernels of every language against array operations, bit for bit."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from snnx_torch.bits import pack, unpack  # noqa: E402

CPP = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
MLX = pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="mlx is not installed")
SHAPES = [(1, 1), (1, 8), (2, 3, 5), (3, 33), (4, 2, 4, 4, 7), (5, 1, 129)]


def drawn(shape: tuple[int, ...], share: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a binary sequence and its scale, None where it is 1; no step is without a spike."""
    rng = np.random.default_rng(sum(shape))
    fired = (rng.random(shape) < 0.4).astype(np.float32)
    scale: Any = {"unit": None, "layer": np.float32(-0.75)}.get(share)
    if share == "channel":
        scale = rng.choice(np.arange(1, 9) / 4, shape[-1:]).astype(np.float32)
    return fired if scale is None else fired * scale, scale


def by_hand(x: np.ndarray) -> np.ndarray:
    """Return the words of a sequence, bit by bit."""
    flat = x.reshape(x.shape[0], -1)
    found = np.zeros((x.shape[0], -(-flat.shape[1] // 32)), np.uint32)
    for t, place in zip(*np.nonzero(flat), strict=True):
        found[t, place // 32] |= np.uint32(1 << (place % 32))
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", ["unit", "layer", "channel"])
@pytest.mark.parametrize("language", ["", pytest.param("cpp", marks=CPP)])
def test_torch_packs_as_by_hand_and_unpacks_what_was_packed(
    shape: tuple[int, ...], share: str, language: str
) -> None:
    x, scale = drawn(shape, share)
    kinds = [torch.float32, torch.bfloat16, torch.float16, *([] if language else [torch.float64])]
    for dtype in kinds:
        values = torch.as_tensor(x).to(dtype)
        words = pack(values, language)
        assert words.dtype == torch.int32
        np.testing.assert_array_equal(words.numpy().view(np.uint32), by_hand(x))
        held = None if scale is None else torch.as_tensor(scale)
        again = unpack(words, held, shape, dtype, language)
        assert again.dtype == dtype
        assert torch.equal(again, values)


@MLX
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", ["unit", "layer", "channel"])
def test_mlx_packs_as_by_hand_and_unpacks_what_was_packed(
    shape: tuple[int, ...], share: str
) -> None:
    import mlx.core as mx

    from snnx_mlx import bits
    from snnx_mlx.arrays import to_mlx, to_numpy

    x, scale = drawn(shape, share)
    for dtype in (mx.float32, mx.bfloat16, mx.float16):
        words = bits.pack(to_mlx(x).astype(dtype))
        np.testing.assert_array_equal(np.array(words), by_hand(x))
        held = None if scale is None else to_mlx(scale)
        np.testing.assert_array_equal(to_numpy(bits.unpack(words, shape, held, dtype)), x)


@pytest.mark.parametrize("language", ["", pytest.param("cpp", marks=CPP)])
def test_what_is_no_zero_is_a_bit(language: str) -> None:
    x = torch.tensor([[0.0, -0.0, float("nan"), float("inf"), -1e-40, 2.0]])
    assert pack(x, language).tolist() == [[0b111100]]


@CPP
def test_many_threads_write_the_words_of_one() -> None:
    x = (torch.arange(3 * 2**17 + 3).reshape(1, -1) % 7 < 3).float()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(pack(x, "cpp"), pack(x))
    finally:
        torch.set_num_threads(before)


@CPP
def test_the_operators_are_declared_rightly() -> None:
    from snnx_torch.kernels import bits

    tests = ("test_schema", "test_faketensor")
    x, scale = (torch.as_tensor(a) for a in drawn((3, 2, 35), "channel"))
    torch.library.opcheck(bits.pack, (x, "cpp"), test_utils=tests)
    words = pack(x)
    for held in (None, scale[0], scale):
        given = (words, held, [3, 2, 35], torch.bfloat16, "cpp")
        torch.library.opcheck(bits.unpack, given, test_utils=tests)
