"""Generated files in the true on-disk layout of every data set: synthetic, for checking plumbing.

Their content is noise. Whoever reads them through `snnx.data` gets the label of the real set, so
`source` puts "synthetic" in its place; no accuracy may be reported on them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from snnx import data, random
from snnx.data.cifar import VARIANTS
from snnx.data.idx import PARTS
from snnx.data.lazy import Stored
from snnx.data.recordings import CIFAR10_CLASSES
from snnx.data.shd import CHANNELS, FILES
from snnx.training.recipe import as_tuples
from snnx.training.recipe_data import OF_ALL


def noise(high: int, name: str, count: int) -> np.ndarray:
    """Return `count` integers in [0, high), the same for the same name."""
    return random.integers(high, 0, "generated", name, 0, [0], [0], count)[0, 0]


def labels(count: int, classes: int) -> list[int]:
    """Return labels that hold the last class, so that the reader counts all of them."""
    return [(classes - 1 - i) % classes for i in range(count)]


def cifar(root: Path, name: str, train: int, test: int) -> None:
    """Write records of the binary version."""
    variant = VARIANTS[name]
    counts = {part: -(-train // len(variant.train)) for part in variant.train}
    for part, count in {**counts, variant.test[0]: test}.items():
        records = []
        for i, label in enumerate(labels(count, variant.classes)):
            pixels = noise(256, f"{part}/{i}", 3072).astype(np.uint8).tobytes()
            records.append(bytes([label % 20, label][-variant.label_bytes :]) + pixels)
        (root / part).write_bytes(b"".join(records))


def images(root: Path, paths: Mapping[str, str], side: int) -> None:
    """Write pictures of side x side pixels as JPEG."""
    from PIL import Image

    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = noise(256, path, 3 * side * side).astype(np.uint8).reshape(side, side, 3)
        Image.fromarray(pixels).save(root / path, "JPEG")


def imagenet(root: Path, name: str, train: int, test: int) -> None:
    """Write ten class folders of train and val."""
    found = {
        f"{part}/n{i % 10}/{i}.JPEG": ""
        for part, count in (("train", train), ("val", test))
        for i in range(max(count, 10))
    }
    images(root, found, 96)


def tiny_imagenet(root: Path, name: str, train: int, test: int) -> None:
    """Write two of the classes, and validation images with their table."""
    wnids = ["n01", "n02"]
    found = {f"train/{w}/images/{w}_{i}.JPEG": w for w in wnids for i in range(-(-train // 2))}
    held = {f"val/images/val_{i}.JPEG": wnids[i % 2] for i in range(test)}
    images(root, {**found, **held}, 64)
    lines = [f"{Path(path).name}\t{wnid}\t0\t0\t62\t62\n" for path, wnid in held.items()]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in wnids))


def events(name: str, count: int, microseconds: int) -> tuple[np.ndarray, ...]:
    """Return times in order, columns, rows and polarities."""
    t = np.sort(noise(microseconds, f"{name}/t", count))
    x, y = noise(128, f"{name}/x", count), noise(128, f"{name}/y", count)
    return t, x, y, noise(2, f"{name}/p", count)


def dvs_cifar10(root: Path, name: str, train: int, test: int) -> None:
    """Write AEDAT 2 recordings of 1.3 s and 6000 events; nine tenths of each class train."""
    each = max(2, -(-train * 10 // 9 // 10) + 1)
    for word in CIFAR10_CLASSES:
        (root / word).mkdir()
        for i in range(each):
            t, x, y, p = events(f"{word}/{i}", 6000, 1_300_000)
            words = np.stack([y << 8 | (127 - x) << 1 | (1 - p), t], 1).astype(">u4")
            head = b"#!AER-DAT2.0\r\n# generated noise\r\n"
            (root / word / f"cifar10_{word}_{i}.aedat").write_bytes(head + words.tobytes())


def dvs_gesture(root: Path, name: str, train: int, test: int) -> None:
    """Write two AEDAT 3.1 recordings of 11 gestures, one to train and one to test."""
    for user, table in (("user01_led", "trials_to_train"), ("user02_led", "trials_to_test")):
        t, x, y, p = events(user, 60_000, 22_000_000)
        words = np.stack([x << 17 | y << 2 | p << 1 | 1, t], 1).astype("<u4")
        head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
        packet = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, len(t), len(t), len(t))
        (root / f"{user}.aedat").write_bytes(head + packet + words.tobytes())
        rows = [f"{i + 1},{2_000_000 * i},{2_000_000 * (i + 1)}\n" for i in range(11)]
        text = "class,startTime_usec,endTime_usec\n" + "".join(rows)
        (root / f"{user}_labels.csv").write_text(text)
        (root / f"{table}.txt").write_text(f"{user}.aedat\n")


def shd(root: Path, name: str, train: int, test: int) -> None:
    """Write HDF5 files of 8000 spikes in 1.4 s for each sample."""
    import h5py

    for file, count in zip(FILES.values(), (train, test), strict=True):
        with h5py.File(root / file, "w") as out:
            for key, dtype in (("times", np.float16), ("units", np.uint16)):
                kind = h5py.vlen_dtype(np.dtype(dtype))
                column = out.create_dataset(f"spikes/{key}", (count,), kind)
                for i in range(count):
                    high = 1400 if key == "times" else CHANNELS
                    values = noise(high, f"{file}/{key}/{i}", 8000)
                    column[i] = np.sort(values) / 1000 if key == "times" else values
            out["labels"] = np.array(labels(count, 20), np.uint16)


def vowels(root: Path, name: str, train: int, test: int) -> None:
    """Write .ts text of 12 dimensions and 7 to 29 steps."""
    for part, count in (("TRAIN", train), ("TEST", test)):
        lines = ["@classLabel true 1 2 3 4 5 6 7 8 9", "@data"]
        for i, label in enumerate(labels(count, 9)):
            steps = 29 if i == 0 else 7 + i % 23
            values = noise(4000, f"{part}/{i}", 12 * steps).reshape(12, steps) / 1000 - 2
            dimensions = (",".join(f"{v:.3f}" for v in row) for row in values)
            lines.append(":".join([*dimensions, str(label + 1)]))
        (root / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n")


def mnist(root: Path, name: str, train: int, test: int) -> None:
    """Write the four IDX files."""
    for split, count in (("train", train), ("test", test)):
        pixels = noise(256, f"{name}/{split}", count * 784).astype(np.uint8)
        head = bytes([0, 0, 8, 3]) + struct.pack(">3I", count, 28, 28)
        (root / PARTS[f"x_{split}"]).write_bytes(head + pixels.tobytes())
        head = bytes([0, 0, 8, 1]) + struct.pack(">I", count)
        (root / PARTS[f"y_{split}"]).write_bytes(head + bytes(labels(count, 10)))


def medlydb(root: Path, name: str, train: int, test: int) -> None:
    """Write the MAT file: 384 channels that fire 25 times in 1.5 s, in 10 classes."""
    from scipy.io import savemat

    made: dict[str, Any] = {}
    for split, count in (("TrainData", train), ("TestData", test)):
        cells = np.empty((count, 384), object)
        for i, k in np.ndindex(count, 384):
            cells[i, k] = np.sort(noise(1500, f"{split}/{i}/{k}", 25))[None] / 1000
        label = np.array(labels(count, 10), np.float64)[None] + 1
        made[split] = {"ptn": cells, "Labels": label, "Tmax": np.full((1, count), 1.5)}
    savemat(root / "medlydb.mat", made, do_compression=True)


WRITERS: dict[str, Callable[[Path, str, int, int], None]] = {
    "cifar10": cifar,
    "cifar100": cifar,
    "imagenet": imagenet,
    "tiny-imagenet": tiny_imagenet,
    "dvs-cifar10": dvs_cifar10,
    "dvs-gesture": dvs_gesture,
    "shd": shd,
    "japanese-vowels": vowels,
    "mnist": mnist,
    "fashion-mnist": mnist,
    "medlydb": medlydb,
}


def source(table: Mapping[str, Any], folder: Path, train: int, test: int) -> Stored:
    """Return the stored samples that a recipe's table `data` names, of generated files.

    The files are written into `folder` unless they are there. `train` and `test` are the least
    numbers of samples. A set without files (the embedded digits) is what it is.
    """
    name = table["name"]
    options = {k: as_tuples(v) for k, v in table.items() if k not in OF_ALL and v is not None}
    if name not in WRITERS:
        return data.source(name, **options)
    root = folder / f"{name}-{train}-{test}"
    if not root.is_dir():
        root.mkdir(parents=True)
        WRITERS[name](root, name, train, test)
    return replace(data.source(name, root, **options), label="synthetic")
