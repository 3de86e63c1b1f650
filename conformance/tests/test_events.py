"""Framing of events by the papers' rules, resizing, and the simulated sensor."""

import numpy as np
import pytest

from snnx import data
from snnx.data import DataError, Dataset, Saccade
from snnx.data.draws import Draws
from snnx.data.events import (
    FRAMINGS,
    Events,
    asgl_gesture_frames,
    counts,
    divide_by_frame_maximum,
    dsr_frames,
    framing,
    occupancy,
    random_start,
    slices_by_count,
    slices_by_time,
    slices_of,
    tet_frames,
    tet_frames_as_released,
)
from snnx.data.resize import resize, resize_two_channel_bytes, weights


def made(t: list[int], height: int = 4, width: int = 5) -> Events:
    n = np.arange(len(t))
    return Events(np.array(t, np.int64), n % width, n % height, n % 2, height, width)


def test_equal_count_gives_the_remainder_to_the_last_frame() -> None:
    frame = slices_by_count(made(list(range(23))), 5)
    assert np.bincount(frame).tolist() == [4, 4, 4, 4, 7]
    assert slices_by_count(made([1, 2]), 5).tolist() == [4, 4]
    assert slices_by_count(made([]), 5).tolist() == []


def test_equal_time_gives_the_remainder_to_the_last_frame() -> None:
    assert slices_by_time(made([100, 109, 110, 119, 120, 129, 131]), 3).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        2,
    ]
    assert slices_by_time(made([7, 7, 7]), 3).tolist() == [0, 0, 0]


def test_slices_of_a_width_leave_out_what_lies_around() -> None:
    assert slices_of(made([1000, 1024, 1025, 1075, 1100]), 2, 25, 25).tolist() == [
        -1,
        -1,
        0,
        -1,
        -1,
    ]
    assert slices_of(made([1000, 1024, 1025, 1075]), 4, 25).tolist() == [0, 0, 1, 3]


def test_counts_and_occupancy() -> None:
    events = Events(np.arange(5), np.array([2, 2, 2, 0, 1]), np.array([1, 1, 1, 0, 3]),
                    np.array([1, 1, 0, 0, 1]), 4, 3)  # fmt: skip
    frame = np.array([0, 0, 0, 1, -1])
    x = counts(events, frame, 2)
    assert x.shape == (2, 4, 3, 2)
    assert x.sum() == 4
    assert x[0, 1, 2].tolist() == [1, 2]
    assert x[1, 0, 0].tolist() == [1, 0]
    assert np.array_equal(occupancy(events, frame, 2), x > 0)
    y = divide_by_frame_maximum(np.concatenate([x, 0 * x[:1]]))
    assert y[0, 1, 2].tolist() == [0.5, 1]
    assert y[1].max() == 1
    assert y[2].max() == 0


def test_a_random_start_lies_on_the_grid_and_reaches_both_ends() -> None:
    events = made([5, 5 + 99 * 25_000 + 3])  # slices 0 .. 99
    starts = [random_start(events, 60, 25_000, u) for u in np.linspace(0, 0.9999, 500)]
    assert {s % 25_000 for s in starts} == {0}
    assert (min(starts), max(starts)) == (0, 40 * 25_000)
    assert len(set(starts)) == 41
    assert random_start(made([0, 10]), 60, 25_000, 0.9) == 0
    assert random_start(made([]), 60, 25_000, 0.9) == 0


def test_gesture_frames_start_at_random_only_in_training() -> None:
    events = Events(
        np.arange(0, 3_000_000, 1000), np.arange(3000) % 128, np.arange(3000) // 128,
        np.ones(3000, np.uint8), 128, 128,
    )  # fmt: skip
    test = asgl_gesture_frames(events, Draws(0, 0, np.array([3]), "test"))
    assert np.array_equal(test, asgl_gesture_frames(events))
    assert test.shape == (60, 128, 128, 2)
    assert (test.sum(axis=(1, 2, 3)) == 25).all()
    one, two = (asgl_gesture_frames(events, Draws(0, e, np.array([3]))) for e in (0, 1))
    assert not np.array_equal(one, two)
    assert np.array_equal(two, asgl_gesture_frames(events, Draws(0, 1, np.array([3]))))


def test_each_channel_is_resized_as_pillow_resizes_it() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    x = (np.arange(2 * 128 * 100 * 2) * 31 % 97 / 96).astype(np.float32).reshape(2, 128, 100, 2)
    for side in (48, 150):
        y = resize(x, side)
        for t in range(2):
            for c in range(2):
                one = image.fromarray(x[t, ..., c]).resize((side, side), image.Resampling.BILINEAR)
                assert np.abs(np.asarray(one) - y[t, ..., c]).max() < 1e-6
    assert np.allclose(weights(128, 48).sum(axis=1), 1)
    assert np.array_equal(weights(7, 7), np.eye(7))


@pytest.mark.parametrize("every", [2, 3, 29])
def test_the_released_resize_is_pillows_byte_for_byte(every: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    n = np.arange(2 * 128 * 128 * 2)
    x = ((n * 2654435761 >> 7) % every == 0).astype(np.float32).reshape(2, 128, 128, 2)
    x[1] *= (n[: x[1].size] * 40503 % 101 / 100).reshape(x[1].shape)  # also between 0 and 1
    y = resize_two_channel_bytes(x, 48)
    for t in range(2):
        pixels = np.floor(x[t] * np.float32(255)).astype(np.uint8)
        two = image.merge("LA", [image.fromarray(pixels[..., c]) for c in range(2)])
        expected = np.asarray(two.resize((48, 48), image.Resampling.BILINEAR))
        assert np.array_equal(np.round(y[t] * 255), expected)


def test_the_released_resize_differs_in_the_first_channel_only() -> None:
    n = np.arange(128 * 128 * 2)
    x = ((n * 2654435761 >> 9) % 9 == 0).astype(np.float32).reshape(1, 128, 128, 2)
    clean, released = resize(x, 48), resize_two_channel_bytes(x, 48)
    assert np.abs(clean - released)[..., 1].max() < 1.01 / 255
    assert np.abs(clean - released)[..., 0].max() > 0.2


def test_named_rules_give_the_papers_frames() -> None:
    n = np.arange(4003)
    events = Events(n, n * 7 % 128, n * 13 % 128, n % 2, 128, 128)
    x = dsr_frames(events)
    assert x.shape == (20, 48, 48, 2)
    # 200 events in each frame and 203 in the last; the resize keeps means but for the border.
    assert x.sum(axis=(1, 2, 3))[:-1] * (128 / 48) ** 2 == pytest.approx(200, rel=0.05)
    for rule in (tet_frames, tet_frames_as_released):
        y = rule(events)
        assert y.shape == (10, 48, 48, 2)
        assert y.dtype == np.float32
        assert 0 <= y.min() <= y.max() <= 1
    for name, rule in FRAMINGS.items():
        frames = rule.rule(events, Draws(0, 0, np.array([0])))
        side = rule.side or 128
        assert frames.shape == (rule.frames, side, side, 2), name
    with pytest.raises(DataError, match="no framing 'x'"):
        framing("x")


def test_events_outside_the_sensor_are_refused() -> None:
    with pytest.raises(DataError, match=r"x must lie in 0 \.\. 2"):
        Events(np.zeros(1, np.int64), np.array([3]), np.array([0]), np.array([0]), 3, 3)
    with pytest.raises(DataError, match="equally long"):
        Events(np.zeros(2, np.int64), np.array([1]), np.array([0]), np.array([0]), 3, 3)


def blob(side: int = 12) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.clip(1.2 - ((x - 4.5) ** 2 + (y - 6) ** 2) / 12, 0, 1)


def test_a_constant_image_gives_no_events() -> None:
    assert len(Saccade().events(np.zeros((12, 12)))) == 0
    assert len(Saccade(pad=0).events(np.full((12, 12), 0.7))) == 0


def test_a_mirrored_path_over_a_mirrored_image_gives_mirrored_events() -> None:
    path = ((-1.25, -1.0), (0.3, 1.25), (1.25, -0.4))
    plain = Saccade(path=path).events(blob())
    mirrored = Saccade(path=tuple((-dx, dy) for dx, dy in path)).events(blob()[:, ::-1])
    assert len(plain) > 100

    def ordered(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> list[list[int]]:
        return sorted(np.stack([t, x, y, p], axis=1).tolist())

    assert ordered(plain.t, plain.width - 1 - plain.x, plain.y, plain.p) == ordered(
        mirrored.t, mirrored.x, mirrored.y, mirrored.p
    )


def test_doubling_the_threshold_about_halves_the_events() -> None:
    few, many = (len(Saccade(contrast=c).events(blob())) for c in (0.5, 0.25))
    assert 0.4 < few / many < 0.55


def test_events_are_ordered_and_balanced() -> None:
    events = Saccade().events(blob())
    assert (np.diff(events.t) >= 0).all()
    assert 1000 <= events.t.min() <= events.t.max() <= 300_000
    # The path returns to its start, so that levels end within one threshold of where they began.
    net = np.bincount(events.y * events.width + events.x, 2.0 * events.p - 1)
    assert np.abs(net).max() <= 1


def test_frames_are_the_counts_of_the_events() -> None:
    images = np.stack([blob(), blob()[::-1], np.zeros((12, 12))])
    frames = Saccade().frames(images, 10)
    assert frames.shape == (10, 3, 18, 18, 2)
    for n, image in enumerate(images):
        events = Saccade().events(image)
        frame = (events.t // 1000 - 1) * 10 // 300
        assert np.array_equal(frames[:, n], counts(events, frame, 10))


def test_saccade_data_are_labelled_semi_synthetic() -> None:
    found = data.load("saccade-digits", train=20, test=10)
    assert found.label == "semi-synthetic"
    assert (found.layout, found.x_train.shape) == ("TNF", (10, 20, 14, 14, 2))
    assert "digits@" in found.source
    assert "simulated" in found.source
    assert found.hash == data.load("saccade-digits", train=20, test=10).hash
    colour = Dataset(
        np.zeros((2, 4, 4, 3)), np.zeros(2, int), np.zeros((2, 4, 4, 3)), np.zeros(2, int), "c"
    )
    with pytest.raises(DataError, match="grey"):
        data.saccade(colour)
