"""Events that a simulated sensor sees while it moves over real images: semi-synthetic data."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Array, DataError, Dataset
from snnx.data.events import Events
from snnx.data.files import fits

GRID = 4096  # positions are multiples of 1/4096 pixel, so that 1 - fraction is exact
PART = 256  # images simulated at once
STEP = 1000  # microseconds
TRIANGLE = ((-1.25, -1.25), (0.0, 1.25), (1.25, -1.25))


@dataclass(frozen=True, slots=True)
class Saccade:
    """Three straight eye movements along a triangle, and the threshold of the sensor's pixels.

        L(t) = ln(0.05 + image shifted by path(t))         image in [0, 1], bilinear, 1 ms steps
        ON (OFF) events of a pixel: one for each `contrast` by which L rose (fell) since the level
        of its last event; all those of a step carry the time of the step

    The image is padded with `pad` zeros on each side (28 to 34 for MNIST); beyond that the border
    value goes on. `path` holds the corners (dx, dy) in pixels; the last movement returns to the
    first. Each movement takes `duration` steps.

    The geometry follows N-MNIST's. The sensor has no noise, latency, refractory time or hot pixels.

    Raises: ValueError for a contrast that is not positive, fewer than two corners, no duration or a
    negative pad.
    """

    contrast: float = 0.25
    path: tuple[tuple[float, float], ...] = field(default=TRIANGLE)
    duration: int = 100
    pad: int = 3

    def __post_init__(self) -> None:
        if not self.contrast > 0 or len(self.path) < 2 or self.duration < 1 or self.pad < 0:
            raise ValueError(
                "Saccade: contrast and duration must be positive, path needs two corners or more "
                f"and pad must not be negative, got {self}"
            )

    @property
    def steps(self) -> int:
        """The number of steps of 1 ms of the whole path."""
        return self.duration * len(self.path)

    def positions(self) -> NDArray[np.float64]:
        """(dx, dy) at the start and after each step, [steps + 1, 2], on a grid of 1/4096 pixel."""
        corners = np.array([*self.path, self.path[0]], np.float64)
        part = np.arange(self.duration)[:, None] / self.duration
        moves = [a + part * (b - a) for a, b in pairwise(corners)]
        return np.round(np.concatenate([*moves, corners[-1:]]) * GRID) / GRID

    def changes(self, images: Array) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """For each step that has events: step, places in [N, H, W], signed numbers of events."""
        x = np.pad(images.astype(np.float64), ((0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        positions = self.positions()
        reach = int(np.ceil(np.abs(positions).max())) + 1
        around = np.pad(x, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
        start_x, start_y = positions[0]
        last = np.log(0.05 + _shifted(around, start_x, start_y, reach))
        found: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = []
        for step, (dx, dy) in enumerate(positions[1:], 1):
            level = np.log(0.05 + _shifted(around, dx, dy, reach))
            number = np.trunc((level - last) / self.contrast)
            place = np.flatnonzero(number)
            if len(place):
                last += number * self.contrast
                found.append((step, place, number.ravel()[place].astype(np.int64)))
        return found

    def events(self, image: Array) -> Events:
        """The events of one image [H, W] in [0, 1], ordered by time, then row and column."""
        height, width = (length + 2 * self.pad for length in image.shape)
        columns: list[NDArray[np.int64]] = [np.zeros((4, 0), np.int64)]
        for step, place, number in self.changes(image[None]):
            y, x = np.divmod(np.repeat(place, np.abs(number)), width)
            p = np.repeat((number > 0).astype(np.int64), np.abs(number))
            columns.append(np.stack([np.full(len(x), step * STEP), x, y, p]))
        t, x, y, p = np.concatenate(columns, axis=1)
        return Events(t, x, y, p, height, width)

    def frames(self, images: Array, frames: int = 10) -> NDArray[np.uint8]:
        """Event counts of equal times, uint8 [T, N, H, W, 2], of images [N, H, W] in [0, 1].

        Raises: DataError if a pixel of a frame has more than 255 events.
        """
        height, width = (length + 2 * self.pad for length in images.shape[1:])
        shape = (frames, len(images), height, width, 2)
        fits(int(np.prod(shape)), f"saccade frames {shape}", "take fewer images")
        out = np.zeros(shape, np.uint8)
        for start in range(0, len(images), PART):
            some = images[start : start + PART]
            total = np.zeros((frames, some.shape[0] * height * width, 2), np.int64)
            for step, place, number in self.changes(some):
                frame = (step - 1) * frames // self.steps
                # A place occurs once in a step, so that indexed addition counts it.
                total[frame, place, (number > 0).astype(np.int64)] += np.abs(number)
            if int(total.max()) > np.iinfo(np.uint8).max:
                raise DataError(f"saccade: {int(total.max())} events on one pixel of a frame")
            out[:, start : start + PART] = total.reshape(frames, -1, height, width, 2)
        return out


def _shifted(around: Array, dx: float, dy: float, reach: int) -> NDArray[np.float64]:
    """image(y + dy, x + dx), bilinear, of images with a margin of `reach` on each side."""
    right, down = int(np.floor(dx)), int(np.floor(dy))
    u, v = dx - right, dy - down
    height, width = (length - 2 * reach for length in around.shape[1:])
    x0, y0 = reach + right, reach + down
    across = (1.0 - u) * around[:, :, x0 : x0 + width] + u * around[:, :, x0 + 1 : x0 + 1 + width]
    return (1.0 - v) * across[:, y0 : y0 + height] + v * across[:, y0 + 1 : y0 + 1 + height]


def saccade(
    base: Dataset,
    train: int | None = None,
    test: int | None = None,
    frames: int = 10,
    sensor: Saccade | None = None,
) -> Dataset:
    """Saccade frames x [T, N, H, W, 2] of the first `train` and `test` grey images of a data set.

    The label is "semi-synthetic": real images, simulated sensor.

    Raises: DataError unless the images are grey and lie in [0, full_scale], or for a size below 1.
    """
    if base.layout != "NF" or len(base.features) != 3 or base.features[2] != 1:
        raise DataError(
            f"saccade: needs grey images [N, H, W, 1], got {base.name!r} with {base.features}"
        )
    if frames < 1 or any(size is not None and size < 1 for size in (train, test)):
        raise DataError(
            f"saccade: frames, train and test must be positive, got {frames}, {train} and {test}"
        )
    simulated = sensor or Saccade()
    x_train, x_test = (
        simulated.frames(_unit(images, base), frames)
        for images in (base.x_train[:train, ..., 0], base.x_test[:test, ..., 0])
    )
    return Dataset(
        x_train,
        base.y_train[:train],
        x_test,
        base.y_test[:test],
        name=f"saccade-{base.name}",
        label="semi-synthetic",
        layout="TNF",
        source=f"real images, simulated sensor: {x_train.shape[1]} training and {x_test.shape[1]} "
        f"test images of {base.id} ({base.source}), {frames} frames of event counts, {simulated}",
        licence=base.licence,
    )


def _unit(images: Array, base: Dataset) -> NDArray[np.float64]:
    x = images.astype(np.float64) / base.full_scale
    if x.min() < 0 or x.max() > 1:
        raise DataError(f"saccade: images of {base.name!r} must lie in [0, {base.full_scale:g}]")
    return x
