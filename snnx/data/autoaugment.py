"""AutoAugment with the policy found on CIFAR-10, through Pillow, one image at a time.

Source: Cubuk, Zoph, Mane, Vasudevan and Le, "AutoAugment: learning augmentation strategies from
data", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from snnx.data.arrays import Array
from snnx.data.draws import Draws
from snnx.data.files import extra

Step: TypeAlias = tuple[str, float, int]

GREY = (128, 128, 128)
STEPS = 9  # magnitudes are 0 .. 9

# Each line is one choice: two operations with probability and magnitude, taken one after the other.
CIFAR10: tuple[tuple[Step, Step], ...] = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.8, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)


def strength(name: str, magnitude: int) -> float:
    """What a magnitude 0 .. 9 means, linear between two ends.

        shear 0 .. 0.3        translate 0 .. 150/331 of the side     rotate 0 .. 30 degrees
        solarize 256 .. 0     posterize 8 .. 4 bits, rounded
        color, contrast, sharpness, brightness 0 .. 0.9, added to the factor 1

    0 for the operations that have no strength.
    """
    part = magnitude / STEPS
    if name.startswith("shear"):
        return 0.3 * part
    if name.startswith("translate"):
        return 150.0 / 331.0 * part
    if name == "rotate":
        return 30.0 * part
    if name == "solarize":
        return 256.0 - 256.0 * part
    if name == "posterize":
        return float(round(8.0 - 4.0 * part))
    if name in ("color", "contrast", "sharpness", "brightness"):
        return 0.9 * part
    return 0.0


def _affine(image: Any, matrix: tuple[float, ...], smooth: bool) -> Any:
    from PIL import Image

    way = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=way, fillcolor=GREY)


def _enhance(kind: str) -> Callable[[Any, float, int], Any]:
    def enhance(image: Any, value: float, sign: int) -> Any:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, kind)(image).enhance(1.0 + sign * value)

    return enhance


def _tones(name: str) -> Callable[[Any, float, int], Any]:
    def tones(image: Any, value: float, sign: int) -> Any:
        from PIL import ImageOps

        change = getattr(ImageOps, name)
        if name == "solarize":
            return change(image, value)
        return change(image, int(value)) if name == "posterize" else change(image)

    return tones


OPERATIONS: dict[str, Callable[[Any, float, int], Any]] = {
    "shear_x": lambda image, v, s: _affine(image, (1, v * s, 0, 0, 1, 0), True),
    "shear_y": lambda image, v, s: _affine(image, (1, 0, 0, v * s, 1, 0), True),
    "translate_x": lambda image, v, s: _affine(
        image, (1, 0, v * s * image.size[0], 0, 1, 0), False
    ),
    "translate_y": lambda image, v, s: _affine(
        image, (1, 0, 0, 0, 1, v * s * image.size[1]), False
    ),
    "rotate": lambda image, v, s: image.rotate(v, fillcolor=GREY),
    "color": _enhance("Color"),
    "contrast": _enhance("Contrast"),
    "sharpness": _enhance("Sharpness"),
    "brightness": _enhance("Brightness"),
    "autocontrast": _tones("autocontrast"),
    "equalize": _tones("equalize"),
    "invert": _tones("invert"),
    "posterize": _tones("posterize"),
    "solarize": _tones("solarize"),
}


@dataclass(frozen=True, slots=True)
class AutoAugment:
    """One of the 25 lines of the CIFAR-10 policy for each image, its two operations one by one.

    Each operation is done with its own probability; those that have a direction (shear, translate,
    color, contrast, sharpness, brightness) take a random sign, rotation is always anticlockwise.
    What comes into view is grey 128.

    Five draws for each image: line, then for both operations whether and with which sign.

    Raises: DataError without Pillow; TypeError or ValueError unless x is bytes [1, N, H, W, 3].
    """

    def __call__(self, x: Array, draws: Draws) -> Array:
        if x.dtype != np.uint8:
            raise TypeError(f"AutoAugment: expects bytes (uint8), got {x.dtype}")
        if x.shape[0] != 1 or x.shape[-1] != 3:
            raise ValueError(
                f"AutoAugment: expects static colour images, [1, N, H, W, 3], got shape {x.shape}"
            )
        image = extra("PIL.Image", "AutoAugment")
        numbers = draws.uniform("autoaugment", 5)
        y = np.empty_like(x)
        for n, (line, *chances) in enumerate(numbers.tolist()):
            picture = image.fromarray(x[0, n])
            for i, (name, probability, magnitude) in enumerate(CIFAR10[int(line * len(CIFAR10))]):
                if chances[2 * i] < probability:
                    sign = 1 if chances[2 * i + 1] < 0.5 else -1
                    picture = OPERATIONS[name](picture, strength(name, magnitude), sign)
            y[0, n] = np.asarray(picture)
        return y
