"""Events of a neuromorphic sensor, and the rules by which the papers make frames of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Array, DataError
from snnx.data.draws import Draws
from snnx.data.resize import resize, resize_two_channel_bytes


@dataclass(frozen=True, eq=False)
class Events:
    """The events of one recording, in the order of the file.

    t int64 [E] in microseconds, x and y int [E] in pixels from the upper left corner, p [E] the
    polarity, 0 (darker) or 1 (brighter); `height` and `width` of the sensor.

    Raises: DataError if lengths differ, or an event lies outside the sensor or has another
    polarity.
    """

    t: NDArray[np.int64]
    x: Array
    y: Array
    p: Array
    height: int
    width: int

    def __post_init__(self) -> None:
        if not len(self.t) == len(self.x) == len(self.y) == len(self.p):
            raise DataError(
                f"events: t, x, y and p must be equally long, got {len(self.t)}, {len(self.x)}, "
                f"{len(self.y)} and {len(self.p)}"
            )
        for name, values, end in (
            ("x", self.x, self.width),
            ("y", self.y, self.height),
            ("p", self.p, 2),
        ):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < end:
                raise DataError(
                    f"events: {name} must lie in 0 .. {end - 1}, "
                    f"got {int(values.min())} to {int(values.max())}"
                )

    def __len__(self) -> int:
        return len(self.t)

    def between(self, start: int, stop: int) -> Events:
        """The events with start <= t < stop, in microseconds."""
        inside = (self.t >= start) & (self.t < stop)
        return Events(
            self.t[inside], self.x[inside], self.y[inside], self.p[inside], self.height, self.width
        )


def slices_by_count(events: Events, frames: int) -> NDArray[np.int64]:
    """The frame of each event, [E]: floor(E / frames) in each, the remainder to the last."""
    each = len(events) // frames
    if each == 0:
        return np.full(len(events), frames - 1)
    return np.minimum(np.arange(len(events)) // each, frames - 1)


def slices_by_time(events: Events, frames: int) -> NDArray[np.int64]:
    """The frame of each event, [E]: floor((last t - first t) / frames) us, the rest to the last."""
    if len(events) == 0:
        return np.zeros(0, np.int64)
    first, last = int(events.t.min()), int(events.t.max())
    width = max(1, (last - first) // frames)
    return np.minimum((events.t - first) // width, frames - 1)


def slices_of(events: Events, frames: int, width: int, start: int = 0) -> NDArray[np.int64]:
    """The frame of each event, [E]: frames of `width` us from the first event + `start` us on.

    Events before and after have the frame -1.
    """
    if len(events) == 0:
        return np.zeros(0, np.int64)
    frame = (events.t - int(events.t.min()) - start) // width
    return np.where((frame >= 0) & (frame < frames), frame, -1)


def random_start(events: Events, frames: int, width: int, draw: float) -> int:
    """Random consecutive slices (RCS): the start, in us, of `frames` slices on a grid of `width`.

        slices = floor((last t - first t) / width) + 1
        start  = width * floor(draw * (max(0, slices - frames) + 1)),   draw in [0, 1)

    A recording with fewer slices starts at 0 and ends in empty frames.
    """
    if len(events) == 0:
        return 0
    slices = (int(events.t.max()) - int(events.t.min())) // width + 1
    return width * int(draw * (max(0, slices - frames) + 1))


def counts(events: Events, frame: NDArray[np.int64], frames: int) -> NDArray[np.int64]:
    """How many events fall on each pixel, int64 [T, H, W, 2], channel = polarity."""
    shape = (frames, events.height, events.width, 2)
    inside = frame >= 0
    place = np.ravel_multi_index(
        (
            frame[inside],
            events.y[inside].astype(np.int64),
            events.x[inside].astype(np.int64),
            events.p[inside].astype(np.int64),
        ),
        shape,
    )
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)


def occupancy(events: Events, frame: NDArray[np.int64], frames: int) -> NDArray[np.int64]:
    """1 where any event falls, else 0, int64 [T, H, W, 2]: what indexed assignment computes."""
    return np.minimum(counts(events, frame, frames), 1)


def divide_by_frame_maximum(x: Array) -> NDArray[np.float32]:
    """Each frame of [T, H, W, 2] divided by its own largest value; an empty frame stays 0."""
    most = x.max(axis=(1, 2, 3), keepdims=True)
    return (x / np.maximum(most, 1)).astype(np.float32)


def tet_frames(events: Events, draws: Draws | None = None, frames: int = 10) -> Array:
    """TET on DVS-CIFAR10: float32 [10, 48, 48, 2].

    Equal count, occupancy, divided by the frame's maximum, each channel resized to 48 x 48.
    """
    x = occupancy(events, slices_by_count(events, frames), frames)
    return resize(divide_by_frame_maximum(x), 48)


def tet_frames_as_released(events: Events, draws: Draws | None = None, frames: int = 10) -> Array:
    """TET's released code: as `tet_frames`, resized as one image of two 8-bit channels."""
    x = occupancy(events, slices_by_count(events, frames), frames)
    return resize_two_channel_bytes(divide_by_frame_maximum(x), 48)


def dsr_frames(events: Events, draws: Draws | None = None, frames: int = 20) -> Array:
    """DSR on DVS-CIFAR10: float32 [20, 48, 48, 2], true counts of equal parts, resized."""
    x = counts(events, slices_by_count(events, frames), frames)
    return resize(x.astype(np.float32), 48)


def count_frames(events: Events, draws: Draws | None = None, frames: int = 10) -> Array:
    """Counts of equal times at the sensor's size: uint16 [10, H, W, 2]."""
    x = counts(events, slices_by_time(events, frames), frames)
    if int(x.max()) > np.iinfo(np.uint16).max:
        raise DataError(f"events: {int(x.max())} events on one pixel of a frame are too many")
    return x.astype(np.uint16)


def asgl_gesture_frames(
    events: Events, draws: Draws | None = None, frames: int = 60, width: int = 25_000
) -> Array:
    """ASGL on DVS128 Gesture: uint8 [60, H, W, 2], occupancy of 60 slices of 25 ms.

    The start is random on the 25 ms grid in training, and 0 in testing or without draws.
    """
    start = 0
    if draws is not None and draws.split == "train":
        start = random_start(events, frames, width, float(draws.uniform("rcs")[0, 0]))
    return occupancy(events, slices_of(events, frames, width, start), frames).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Framing:
    """A rule by name: the function, its T and side (None: the sensor's), and whether it draws."""

    rule: Callable[[Events, Draws], Array]
    frames: int
    side: int | None
    random: bool = False


FRAMINGS: dict[str, Framing] = {
    "tet_dvs": Framing(tet_frames, 10, 48),
    "tet_dvs_released": Framing(tet_frames_as_released, 10, 48),
    "dspike_dvs": Framing(tet_frames, 10, 48),
    "asgl_dvs": Framing(tet_frames, 10, 48),
    "dsr_dvs": Framing(dsr_frames, 20, 48),
    "asgl_gesture": Framing(asgl_gesture_frames, 60, None, random=True),
    "count": Framing(count_frames, 10, None),
}


def framing(name: str) -> Framing:
    """The framing rule of a name.

    Raises: DataError if there is none.
    """
    if name not in FRAMINGS:
        raise DataError(f"there is no framing {name!r}; known are {', '.join(FRAMINGS)}")
    return FRAMINGS[name]
