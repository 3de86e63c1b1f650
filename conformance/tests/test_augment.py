"""Augmentation: pure in seed, epoch and sample, and each transform against its definition."""

import numpy as np
import pytest

from snnx.data import Augmentation, Batches, Dataset, augmentation
from snnx.data.augment import (
    AUGMENTATIONS,
    STATISTICS,
    AutoAugment,
    Cutout,
    HorizontalFlip,
    Normalise,
    PadCrop,
    Roll,
    ToUnit,
)
from snnx.data.autoaugment import CIFAR10, OPERATIONS, strength
from snnx.data.draws import Draws

N = 64
IMAGES = (np.arange(N * 32 * 32 * 3) * 7 % 255 + 1).astype(np.uint8).reshape(N, 32, 32, 3)
FRAMES = (np.arange(3 * N * 12 * 10 * 2) % 17).astype(np.float32).reshape(3, N, 12, 10, 2)
INDEX = np.arange(N)


def needs_pillow(name: str) -> bool:
    return any(isinstance(step, AutoAugment) for step in AUGMENTATIONS[name]("cifar10").train)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_a_composition_is_pure_and_independent_of_the_batch(name: str) -> None:
    if needs_pillow(name):
        pytest.importorskip("PIL", reason="Pillow is not installed")
    made = augmentation(name, "cifar10")
    x = FRAMES if name.endswith("dvs") else IMAGES[:16]
    axis = x.ndim - 4
    index = np.arange(x.shape[axis]) * 1000 + 5
    whole = made(x, Draws(3, 2, index))
    assert np.array_equal(whole, made(x, Draws(3, 2, index)))
    order = np.concatenate([index[5:], index[:5]])
    parts = [
        made(np.take(x, [int(np.flatnonzero(index == i)[0])], axis), Draws(3, 2, np.array([i])))
        for i in order
    ]
    back = np.argsort(order)
    assert np.array_equal(np.take(np.concatenate(parts, axis), back, axis), whole)
    random = name != "unit"
    assert np.array_equal(whole, made(x, Draws(3, 3, index))) != random
    assert np.array_equal(whole, made(x, Draws(4, 2, index))) != random
    test = made(x, Draws(3, 2, index, "test"))
    assert np.array_equal(test, made(x, Draws(8, 9, index, "test")))
    assert np.array_equal(test, made.evaluation(x, Draws(3, 2, index)))


def test_batches_augment_by_epoch_and_position() -> None:
    data = Dataset(IMAGES, INDEX % 10, IMAGES[:8], INDEX[:8], name="made")
    made = augmentation("tet_cifar", "cifar10")
    seen: dict[int, list[np.ndarray]] = {}
    for size in (10, 7):
        for batch in Batches(data, "train", size, seed=5, augment=made).epoch(1):
            for x, i in zip(batch["x"], batch["index"], strict=True):
                seen.setdefault(int(i), []).append(x)
    assert len(seen) == N
    assert all(np.array_equal(a, b) for a, b in seen.values())
    first = Batches(data, "train", N, seed=5, augment=made)
    one, two = first.take(INDEX, 1)["x"], first.take(INDEX, 2)["x"]
    assert one.dtype == np.float32
    assert np.array_equal(one[3], seen[3][0])
    assert not np.array_equal(one, two)


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    y = PadCrop(4)(IMAGES[None], Draws(0, 0, INDEX))[0]
    padded = np.pad(IMAGES, ((0, 0), (4, 4), (4, 4), (0, 0)))
    places: list[tuple[int, int]] = []
    for n in range(N):
        fits = [
            (r, c)
            for r in range(9)
            for c in range(9)
            if np.array_equal(padded[n, r : r + 32, c : c + 32], y[n])
        ]
        assert len(fits) == 1
        places += fits
    rows, columns = zip(*places, strict=True)
    assert set(rows) == set(columns) == set(range(9))


def test_a_flip_mirrors_about_half_of_the_samples() -> None:
    y = HorizontalFlip()(FRAMES, Draws(0, 0, INDEX))
    mirrored = [np.array_equal(y[:, n], FRAMES[:, n, :, ::-1]) for n in range(N)]
    same = [np.array_equal(y[:, n], FRAMES[:, n]) for n in range(N)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48
    assert np.array_equal(HorizontalFlip(1.0)(FRAMES, Draws(0, 0, INDEX)), FRAMES[:, :, :, ::-1])


def test_a_roll_moves_all_frames_of_a_sample_alike() -> None:
    y = Roll(5)(FRAMES, Draws(0, 0, INDEX))
    for n in range(N):
        moves = [
            (r, c)
            for r in range(-5, 6)
            for c in range(-5, 6)
            if np.array_equal(np.roll(FRAMES[:, n], (r, c), (1, 2)), y[:, n])
        ]
        assert moves, n


def test_a_hole_may_hang_over_the_border() -> None:
    many = np.arange(4000)
    x = np.ones((1, len(many), 32, 32, 1), np.float32)
    hidden = 1 - Cutout(16)(x, Draws(0, 0, many))[0, ..., 0]
    heights = hidden.max(axis=2).sum(axis=1)
    widths = hidden.max(axis=1).sum(axis=1)
    assert np.array_equal(hidden.sum(axis=(1, 2)), heights * widths)
    # The centre c hides min(c + 8, 32) - max(c - 8, 0) rows.
    expected = {min(c + 8, 32) - max(c - 8, 0) for c in range(32)}
    assert set(heights.tolist()) == set(widths.tolist()) == expected
    mean = np.mean([min(c + 8, 32) - max(c - 8, 0) for c in range(32)])
    assert abs(heights.mean() - mean) < 0.2


def test_normalising_uses_the_named_constants() -> None:
    y = Normalise("cifar100")(ToUnit()(IMAGES[None], Draws(0, 0, INDEX)), Draws(0, 0, INDEX))
    mean, std = (np.array(v) for v in STATISTICS["cifar100"])
    assert np.allclose(y[0], (IMAGES / 255 - mean) / std, atol=1e-6)
    with pytest.raises(ValueError, match="no constants named 'mnist'"):
        augmentation("tet_cifar", "mnist")


def test_the_order_of_dspike_and_asgl_is_the_papers() -> None:
    for name in ("dspike_cifar", "asgl_cifar"):
        kinds = [type(step) for step in augmentation(name, "cifar10").train]
        assert kinds == [PadCrop, HorizontalFlip, AutoAugment, ToUnit, Cutout, Normalise]
    for name in ("tet_cifar", "dsr_cifar"):
        kinds = [type(step) for step in augmentation(name, "cifar10").train]
        assert kinds == [PadCrop, HorizontalFlip, ToUnit, Normalise]
    assert augmentation("tet_dvs", "dvs-cifar10").train == (HorizontalFlip(), Roll(5))
    assert augmentation("dsr_dvs", "dvs-cifar10").train == (PadCrop(4),)


def test_a_wrong_use_is_an_error() -> None:
    with pytest.raises(ValueError, match="did you mean 'tet_cifar'"):
        augmentation("tet_cifer", "cifar10")
    with pytest.raises(ValueError, match="occurs twice"):
        Augmentation("two", (Roll(1), Roll(2)))
    with pytest.raises(TypeError, match="bytes"):
        augmentation("tet_cifar", "cifar10")(IMAGES.astype(np.float32), Draws(0, 0, INDEX))
    with pytest.raises(ValueError, match="N = 64, got shape"):
        augmentation("unit", "")(IMAGES[:3], Draws(0, 0, INDEX))


def test_the_policy_has_25_lines_of_known_operations() -> None:
    assert len(CIFAR10) == 25
    for line in CIFAR10:
        for name, probability, magnitude in line:
            assert name in OPERATIONS
            assert 0 <= probability <= 1
            assert 0 <= magnitude <= 9


@pytest.mark.parametrize(
    ("name", "magnitude", "value"),
    [
        ("shear_x", 9, 0.3),
        ("translate_y", 9, 150 / 331),
        ("rotate", 3, 10.0),
        ("solarize", 9, 0.0),
        ("solarize", 0, 256.0),
        ("posterize", 0, 8),
        ("posterize", 9, 4),
        ("posterize", 7, 5),
        ("color", 9, 0.9),
        ("invert", 5, 0.0),
    ],
)
def test_magnitudes_map_linearly(name: str, magnitude: int, value: float) -> None:
    assert strength(name, magnitude) == pytest.approx(value)


def test_operations_do_what_they_are_named_after() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    x = IMAGES[0]

    def apply(name: str, value: float, sign: int = 1) -> np.ndarray:
        return np.asarray(OPERATIONS[name](image.fromarray(x), value, sign))

    assert np.array_equal(apply("invert", 0), 255 - x)
    assert np.array_equal(apply("solarize", 128.0), np.where(x < 128, x, 255 - x))
    assert np.array_equal(apply("posterize", 4), x & 0xF0)
    moved = apply("translate_x", 4 / 32)
    assert np.array_equal(moved[:, :28], x[:, 4:])
    assert (moved[:, 28:] == 128).all()
    moved = apply("translate_y", 4 / 32, -1)
    assert np.array_equal(moved[4:], x[:28])
    assert (moved[:4] == 128).all()
    assert np.array_equal(apply("rotate", 90.0), np.rot90(x))
    for name in ("shear_x", "shear_y", "rotate", "color", "contrast", "brightness", "sharpness"):
        assert np.array_equal(apply(name, 0.0), x), name
    assert (apply("brightness", 1.0, -1) == 0).all()
    assert np.ptp(apply("color", 1.0, -1), axis=-1).max() == 0
    for name in OPERATIONS:
        assert apply(name, strength(name, 9)).shape == x.shape


def test_autoaugment_takes_every_line() -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    lines = (Draws(0, 0, np.arange(500)).uniform("autoaugment", 5)[:, 0] * 25).astype(int)
    assert set(lines.tolist()) == set(range(25))
    y = AutoAugment()(IMAGES[None], Draws(0, 0, INDEX))
    changed = (y[0] != IMAGES).any(axis=(1, 2, 3))
    assert 0.5 < changed.mean() < 1
    assert y.dtype == np.uint8
