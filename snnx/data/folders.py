"""Images in folders: ImageNet's layout (one folder per class) and Tiny-ImageNet's.

Images are decoded by Pillow when a batch asks for them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import Array, DataError
from snnx.data.draws import Draws
from snnx.data.files import extra, reading
from snnx.data.lazy import Lazy

SUFFIXES = (".jpeg", ".jpg", ".png")
TINY_SIDE = 64
MOST_PIXELS = 1 << 26
MOST_FILE = 1 << 28
FREE_PIXELS, MOST_PER_BYTE = 1 << 20, 1 << 11  # an even JPEG has some 700 pixels in a byte
MOST_TEXT = 1 << 26
ATTEMPTS = 10


def decode(path: Path) -> NDArray[np.uint8]:
    """The image in a JPEG or PNG file as RGB bytes [H, W, 3].

    Raises: DataError without Pillow, or if the file is missing, damaged, or has over 2^26 pixels.
    """
    image = extra("PIL.Image", "decoding images")
    try:
        size = path.stat().st_size
        if size > MOST_FILE:
            raise DataError(f"{path}: is larger than {MOST_FILE >> 20} MiB, too large for an image")
        # from memory, where a chunk that claims a gigabyte is not asked for at once
        file = io.BytesIO(path.read_bytes())
        with image.open(file, formats=("JPEG", "PNG")) as picture:
            most = min(MOST_PIXELS, FREE_PIXELS + MOST_PER_BYTE * size)
            if picture.width * picture.height > most:
                raise DataError(
                    f"{path}: has {picture.width} x {picture.height} pixels, too many to decode"
                )
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: cannot be decoded as JPEG or PNG ({error}); get the file again"
        ) from error


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole image, which must have this side.

    Raises: DataError for another size.
    """

    side: int

    def __call__(self, item: Path, draws: Draws) -> Array:
        x = decode(item)
        if x.shape != (self.side, self.side, 3):
            raise DataError(
                f"{item}: must have {self.side} x {self.side} pixels, "
                f"got {x.shape[0]} x {x.shape[1]}"
            )
        return x


@dataclass(frozen=True, slots=True)
class View:
    """Training: a random crop resized to `side`. Testing: the centre of the image.

    Random crop: area uniform in 8 % to 100 % of the image's, log of the aspect ratio uniform
    between those of 3/4 and 4/3, the first of 10 tries that fits, at a uniform place; else the
    largest centre crop of an allowed ratio. Testing: shorter side resized to `shorter`, then the
    centre `side` x `side`. Bilinear.
    """

    side: int = 224
    shorter: int = 256

    def __call__(self, item: Path, draws: Draws) -> Array:
        picture = extra("PIL.Image", "decoding images").fromarray(decode(item))
        width, height = picture.size
        if draws.split == "train":
            box = random_box(height, width, draws.uniform("resized_crop", 4 * ATTEMPTS)[0])
            return np.asarray(picture.resize((self.side, self.side), 2, box=box))
        scale = self.shorter / min(width, height)
        new = (max(self.shorter, int(width * scale)), max(self.shorter, int(height * scale)))
        left, top = (round((length - self.side) / 2) for length in new)
        small = picture.resize(new, 2)
        return np.asarray(small.crop((left, top, left + self.side, top + self.side)))


def random_box(height: int, width: int, numbers: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the random crop of `View`, from 4 numbers for each try."""
    log_ratio = np.log(4 / 3)
    for area, ratio, top, left in numbers.reshape(-1, 4).astype(np.float64):
        target = (0.08 + 0.92 * area) * height * width
        aspect = np.exp(log_ratio * (2 * ratio - 1))
        w, h = round(float(np.sqrt(target * aspect))), round(float(np.sqrt(target / aspect)))
        if 0 < w <= width and 0 < h <= height:
            y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
            return x, y, x + w, y + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def class_folders(folder: Path) -> list[Path]:
    """The folders of the classes in the order of their names.

    Raises: DataError if there are none.
    """
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not found:
        raise DataError(f"{folder}: must hold one folder for each class, and holds none")
    return found


def images(folder: Path) -> list[Path]:
    """The JPEG and PNG files of a folder in the order of their names.

    Raises: DataError if there are none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: holds no .jpeg, .jpg or .png file")
    return found


def imagenet(root: Path, name: str, source: str, licence: str, side: int = 224) -> Lazy:
    """ROOT/train/CLASS/*.JPEG and ROOT/val/CLASS/*.JPEG as x [N, side, side, 3], bytes.

    Classes are the folders of train in the order of their names; val is the test split.

    Raises: DataError if a folder is missing or empty, or if val has a class that train lacks.
    """
    classes = [p.name for p in class_folders(root / "train")]
    splits: list[tuple[list[Path], Array]] = []
    for part in ("train", "val"):
        items: list[Path] = []
        labels: list[int] = []
        for folder in class_folders(root / part):
            if folder.name not in classes:
                raise DataError(
                    f"{folder}: train has no class {folder.name!r}; sort the validation images "
                    "into the class folders of train"
                )
            paths = images(folder)
            items += paths
            labels += [classes.index(folder.name)] * len(paths)
        splits.append((items, np.array(labels)))
    return Lazy(
        *splits[0],
        *splits[1],
        read=View(side, round(side * 256 / 224)),
        name=name,
        features=(side, side, 3),
        version=f"imagenet-folder 1 side {side}",
        label="real",
        full_scale=255.0,
        random=True,
        source=source,
        licence=licence,
    )


def tiny_imagenet(root: Path, name: str, source: str, licence: str) -> Lazy:
    """Tiny-ImageNet's own layout as x [N, 64, 64, 3], bytes; val is the test split.

        ROOT/wnids.txt   ROOT/train/WNID/images/*.JPEG
        ROOT/val/images/*.JPEG   ROOT/val/val_annotations.txt (file, WNID, box; tab-separated)

    Classes are the lines of wnids.txt, in the order of their names. The test folder, which has no
    labels, is not read.

    Raises: DataError if a file or folder is missing, empty, or names a class that wnids.txt lacks.
    """
    if not (root / "wnids.txt").is_file() and (root / "tiny-imagenet-200").is_dir():
        root = root / "tiny-imagenet-200"
    classes = sorted({line.strip() for line in _lines(root / "wnids.txt") if line.strip()})
    position = {wnid: i for i, wnid in enumerate(classes)}
    train: list[Path] = []
    y_train: list[int] = []
    for wnid, label in position.items():
        folder = root / "train" / wnid / "images"
        if not folder.is_dir():
            raise DataError(f"{folder}: is missing; unpack the archive again")
        paths = images(folder)
        train += paths
        y_train += [label] * len(paths)
    test: list[Path] = []
    y_test: list[int] = []
    table = root / "val" / "val_annotations.txt"
    for number, line in enumerate(_lines(table), 1):
        if not line.strip():
            continue
        file, *rest = line.split("\t")
        if not rest or rest[0] not in position or Path(file).name != file:
            raise DataError(
                f"{table}: line {number}: must be FILE, a class of wnids.txt and a box, separated "
                f"by tabs, got {line[:60]!r}"
            )
        path = root / "val" / "images" / file
        if not path.is_file():
            raise DataError(f"{path}: is missing, and {table.name} names it")
        test.append(path)
        y_test.append(position[rest[0]])
    return Lazy(
        train,
        np.array(y_train),
        test,
        np.array(y_test),
        read=Whole(TINY_SIDE),
        name=name,
        features=(TINY_SIDE, TINY_SIDE, 3),
        version="tiny-imagenet 1",
        label="real",
        full_scale=255.0,
        source=source,
        licence=licence,
    )


def _lines(path: Path) -> list[str]:
    with reading(path) as file:
        data = file.read(MOST_TEXT)
    try:
        return data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text: {error.reason} at byte {error.start}") from error
