"""Augmentation of whole batches in NumPy, as a pure function of seed, epoch and sample.

A transform maps x [T, N, H, W, C] and the draws of the N samples to x of the same axes. A sample
gets one draw for all its T frames. The named compositions are those of the papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from snnx.data.arrays import Array
from snnx.data.autoaugment import AutoAugment as AutoAugment
from snnx.data.draws import Draws

STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
IMAGE_AXES, FRAME_AXES = 4, 5


class Transform(Protocol):
    """A map of x [T, N, H, W, C]."""

    def __call__(self, x: Array, draws: Draws) -> Array: ...


@dataclass(frozen=True, slots=True)
class PadCrop:
    """A crop of the original size, at a uniform place of the image padded with zeros.

    Offsets are uniform in 0 .. 2 * pad on each axis, pad in pixels.

    Raises: ValueError if pad < 1.
    """

    pad: int = 4

    def __post_init__(self) -> None:
        if self.pad < 1:
            raise ValueError(f"PadCrop: pad must be at least 1, got {self.pad}")

    def __call__(self, x: Array, draws: Draws) -> Array:
        around = ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0))
        offsets = draws.integers(2 * self.pad + 1, "crop", 2)
        height, width = x.shape[2:4]
        rows = offsets[:, :1] + np.arange(height)
        columns = offsets[:, 1:] + np.arange(width)
        return _gather(np.pad(x, around), rows, columns)


@dataclass(frozen=True, slots=True)
class HorizontalFlip:
    """The mirror image, left for right, with probability p.

    Raises: ValueError if p lies outside [0, 1].
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"HorizontalFlip: p must lie in [0, 1], got {self.p}")

    def __call__(self, x: Array, draws: Draws) -> Array:
        flipped = draws.uniform("flip")[:, 0] < np.float32(self.p)
        return np.where(flipped[:, None, None, None], x[:, :, :, ::-1], x)


@dataclass(frozen=True, slots=True)
class Roll:
    """Rows and columns moved in a circle by whole pixels, uniform in -most .. most on each axis.

    Raises: ValueError if most < 1.
    """

    most: int = 5

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"Roll: most must be at least 1, got {self.most}")

    def __call__(self, x: Array, draws: Draws) -> Array:
        offsets = draws.integers(2 * self.most + 1, "roll", 2) - self.most
        height, width = x.shape[2:4]
        rows = (np.arange(height) - offsets[:, :1]) % height
        columns = (np.arange(width) - offsets[:, 1:]) % width
        return _gather(x, rows, columns)


@dataclass(frozen=True, slots=True)
class Cutout:
    """A square hole of `side` pixels filled with 0, its centre uniform over the image.

        rows  centre_y - side // 2 .. centre_y + side // 2 - 1, cut at the border; columns alike

    The hole hangs over the border where its centre is near it, so that less is hidden.

    Raises: ValueError if side is not a positive even number.
    Source: DeVries and Taylor 2017.
    """

    side: int = 16

    def __post_init__(self) -> None:
        if self.side < 2 or self.side % 2:
            raise ValueError(f"Cutout: side must be a positive even number, got {self.side}")

    def __call__(self, x: Array, draws: Draws) -> Array:
        height, width = x.shape[2:4]
        half = self.side // 2
        hidden: list[Array] = []
        for length, name in ((height, "cutout_y"), (width, "cutout_x")):
            centre = draws.integers(length, name)
            position = np.arange(length)
            hidden.append((position >= centre - half) & (position < centre + half))  # [N, length]
        hole = hidden[0][:, :, None] & hidden[1][:, None, :]
        return np.where(hole[..., None], x.dtype.type(0), x)


@dataclass(frozen=True, slots=True)
class ToUnit:
    """Bytes as float32 in [0, 1]: x / 255.

    Raises: TypeError for another dtype than uint8.
    """

    def __call__(self, x: Array, draws: Draws) -> Array:
        if x.dtype != np.uint8:
            raise TypeError(f"ToUnit: expects bytes (uint8), got {x.dtype}")
        return x / np.float32(255)


@dataclass(frozen=True, slots=True)
class Normalise:
    """(x - mean) / std for each channel, with constants named in `STATISTICS`.

    Raises: ValueError if there are no constants of that name.
    """

    statistics: str

    def __post_init__(self) -> None:
        if self.statistics not in STATISTICS:
            raise ValueError(
                f"Normalise: there are no constants named {self.statistics!r}; "
                f"known are {', '.join(STATISTICS)}"
            )

    def __call__(self, x: Array, draws: Draws) -> Array:
        mean, std = (np.array(values, np.float32) for values in STATISTICS[self.statistics])
        return (x.astype(np.float32, copy=False) - mean) / std


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What a composition does to the samples of the training split, and to those of the test split.

    Raises: ValueError if a kind of transform occurs twice, since both would take the same draws.
    """

    name: str
    train: tuple[Transform, ...]
    test: tuple[Transform, ...] = ()

    def __post_init__(self) -> None:
        for steps in (self.train, self.test):
            kinds = [type(step).__name__ for step in steps]
            if len(set(kinds)) < len(kinds):
                raise ValueError(f"Augmentation {self.name!r}: a transform occurs twice: {kinds}")

    @property
    def evaluation(self) -> Augmentation:
        """The same with the training split treated like the test split."""
        return Augmentation(self.name, self.test, self.test)

    def __call__(self, x: Array, draws: Draws) -> Array:
        """x [N, H, W, C] or [T, N, H, W, C], transformed.

        Raises: ValueError for another number of axes, or of samples than there are draws.
        """
        if x.ndim not in (IMAGE_AXES, FRAME_AXES) or x.shape[-4] != len(draws):
            raise ValueError(
                f"augmentation {self.name!r}: x must be [N, H, W, C] or [T, N, H, W, C] with "
                f"N = {len(draws)}, got shape {x.shape}"
            )
        frames = x if x.ndim == FRAME_AXES else x[None]
        for step in self.train if draws.split == "train" else self.test:
            frames = step(frames, draws)
        return frames if x.ndim == FRAME_AXES else frames[0]


def _gather(x: Array, rows: Array, columns: Array) -> Array:
    """x[:, n, rows[n], columns[n]] for all n: [T, N, *, *, C]."""
    sample = np.arange(x.shape[1])[:, None, None]
    return x[:, sample, rows[:, :, None], columns[:, None, :]]


def unit(statistics: str = "") -> Augmentation:
    """Bytes to [0, 1] and nothing else."""
    return Augmentation("unit", (ToUnit(),), (ToUnit(),))


def tet_cifar(statistics: str = "cifar10") -> Augmentation:
    """TET on CIFAR: crop from 4 pixels of padding, flip, normalise."""
    end = (ToUnit(), Normalise(statistics))
    return Augmentation("tet_cifar", (PadCrop(4), HorizontalFlip(), *end), end)


def dsr_cifar(statistics: str = "cifar10") -> Augmentation:
    """DSR on CIFAR: what TET does."""
    return Augmentation("dsr_cifar", tet_cifar(statistics).train, tet_cifar(statistics).test)


def dspike_cifar(statistics: str = "cifar10") -> Augmentation:
    """Dspike on CIFAR: crop, flip, AutoAugment on bytes, [0, 1], Cutout 16, normalise."""
    end = (ToUnit(), Normalise(statistics))
    begin = (PadCrop(4), HorizontalFlip(), AutoAugment())
    train = (*begin, ToUnit(), Cutout(16), Normalise(statistics))
    return Augmentation("dspike_cifar", train, end)


def asgl_cifar(statistics: str = "cifar10") -> Augmentation:
    """ASGL on CIFAR: what Dspike does; the CIFAR-10 policy serves CIFAR-100 too."""
    return Augmentation("asgl_cifar", dspike_cifar(statistics).train, dspike_cifar(statistics).test)


def asgl_tiny(statistics: str = "imagenet") -> Augmentation:
    """ASGL on Tiny-ImageNet, as on CIFAR.

    The paper names AutoAugment and Cutout only; the crop's padding of 4, the hole of 16 and the
    ImageNet constants are our choice.
    """
    return Augmentation("asgl_tiny", dspike_cifar(statistics).train, dspike_cifar(statistics).test)


def imagenet(statistics: str = "imagenet") -> Augmentation:
    """Flip and normalise; the random resized crop is taken while the image is decoded."""
    end = (ToUnit(), Normalise(statistics))
    return Augmentation("imagenet", (HorizontalFlip(), *end), end)


def tet_dvs(statistics: str = "") -> Augmentation:
    """TET on DVS-CIFAR10: flip, and roll by up to 5 pixels on each axis."""
    return Augmentation("tet_dvs", (HorizontalFlip(), Roll(5)))


def dspike_dvs(statistics: str = "") -> Augmentation:
    """Dspike on DVS-CIFAR10: what TET does."""
    return Augmentation("dspike_dvs", tet_dvs().train)


def asgl_dvs(statistics: str = "") -> Augmentation:
    """ASGL on DVS-CIFAR10: what TET does."""
    return Augmentation("asgl_dvs", tet_dvs().train)


def dsr_dvs(statistics: str = "") -> Augmentation:
    """DSR on DVS-CIFAR10: crop from 4 pixels of padding, no flip."""
    return Augmentation("dsr_dvs", (PadCrop(4),))


AUGMENTATIONS: dict[str, Callable[[str], Augmentation]] = {
    rule.__name__: rule
    for rule in (
        unit,
        tet_cifar,
        dsr_cifar,
        dspike_cifar,
        asgl_cifar,
        asgl_tiny,
        imagenet,
        tet_dvs,
        dspike_dvs,
        asgl_dvs,
        dsr_dvs,
    )
}


def augmentation(name: str, data: str) -> Augmentation:
    """The composition of a name, with the constants of a data set where it normalises.

    Raises: ValueError if there is none, or if it normalises and the data set has no constants.
    """
    if name not in AUGMENTATIONS:
        near = get_close_matches(name, AUGMENTATIONS, 1)
        raise ValueError(
            f"there is no augmentation {name!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
            f"Known are {', '.join(AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name]("imagenet" if data == "tiny-imagenet" else data)
