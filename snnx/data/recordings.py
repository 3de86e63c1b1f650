"""Data sets of event recordings: DVS-CIFAR10 and DVS128 Gesture, framed while they are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from snnx.data.aedat import SIDE, read_aedat2, read_aedat3, read_gesture_labels
from snnx.data.arrays import Array, DataError
from snnx.data.draws import Draws
from snnx.data.events import Events
from snnx.data.events import framing as framing_rule
from snnx.data.files import reading
from snnx.data.lazy import Lazy

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
TRAIN_SHARE = 0.9

# A file of DVS128 Gesture holds about ten gestures; in file order each file is decoded once.
_latest = lru_cache(maxsize=2)(read_aedat3)


@dataclass(frozen=True, slots=True)
class Framed:
    """One whole recording as frames [T, H, W, 2]."""

    rule: Callable[[Events, Draws], Array]

    def __call__(self, item: Path, draws: Draws) -> Array:
        return self.rule(read_aedat2(item), draws)


@dataclass(frozen=True, slots=True)
class FramedPart:
    """The part of a recording from start to end, in microseconds, as frames [T, H, W, 2]."""

    rule: Callable[[Events, Draws], Array]

    def __call__(self, item: tuple[Path, int, int], draws: Draws) -> Array:
        path, start, end = item
        return self.rule(_latest(path).between(start, end), draws)


def dvs_cifar10(root: Path, name: str, source: str, licence: str, framing: str = "tet_dvs") -> Lazy:
    """ROOT/CLASS/*.aedat as frames x [T, N, H, W, 2] by a rule of `snnx.data.events.FRAMINGS`.

    Of each class, in the order of the numbers in the file names, the first nine tenths are the
    training split (900 of 1000).

    Raises: DataError if a class is missing or has fewer than two recordings.
    """
    rule = framing_rule(framing)
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    for label, word in enumerate(CIFAR10_CLASSES):
        paths = sorted((root / word).glob("*.aedat"), key=_number) if (root / word).is_dir() else []
        if len(paths) < 2:
            raise DataError(
                f"{root / word}: must hold the .aedat files of a class, holds {len(paths)}"
            )
        first = min(len(paths) - 1, max(1, int(len(paths) * TRAIN_SHARE)))
        train += [(path, label) for path in paths[:first]]
        test += [(path, label) for path in paths[first:]]
    side = rule.side or SIDE
    return Lazy(
        [path for path, _ in train],
        np.array([label for _, label in train]),
        [path for path, _ in test],
        np.array([label for _, label in test]),
        read=Framed(rule.rule),
        name=name,
        features=(side, side, 2),
        version=f"dvs-cifar10 1 {framing}",
        label="real",
        layout="TNF",
        random=rule.random,
        source=f"{source}; frames by {framing}; first nine tenths of each class for training",
        licence=licence,
    )


def dvs_gesture(
    root: Path, name: str, source: str, licence: str, framing: str = "asgl_gesture"
) -> Lazy:
    """DVS128 Gesture as frames x [T, N, H, W, 2] by a rule of `snnx.data.events.FRAMINGS`.

        ROOT/trials_to_train.txt, ROOT/trials_to_test.txt    one name of a recording on each line
        ROOT/USER.aedat, ROOT/USER_labels.csv                events, and class,start,end of gestures

    Every line of a label file is one sample; counts differ between published versions. Two
    recordings are kept decoded, so order decides the speed; `in_memory` reads each file once.

    Raises: DataError if a file is missing or damaged.
    """
    rule = framing_rule(framing)
    if not (root / "trials_to_train.txt").is_file() and (root / "DvsGesture").is_dir():
        root = root / "DvsGesture"
    splits: list[tuple[list[tuple[Path, int, int]], Array]] = []
    for table in (root / "trials_to_train.txt", root / "trials_to_test.txt"):
        items: list[tuple[Path, int, int]] = []
        labels: list[int] = []
        with reading(table) as file:
            names = file.read(1 << 20).decode("utf-8", "replace").split()
        for recording in names:
            path = root / recording
            if Path(recording).name != recording or not path.is_file():
                raise DataError(f"{table}: names {recording[:60]!r}, which is no file beside it")
            for label, start, end in read_gesture_labels(root / f"{path.stem}_labels.csv"):
                items.append((path, start, end))
                labels.append(label)
        splits.append((items, np.array(labels, np.int64)))
    side = rule.side or SIDE
    return Lazy(
        *splits[0],
        *splits[1],
        read=FramedPart(rule.rule),
        name=name,
        features=(side, side, 2),
        version=f"dvs-gesture 1 {framing}",
        label="real",
        layout="TNF",
        random=rule.random,
        source=f"{source}; frames by {framing}",
        licence=licence,
    )


def _number(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else -1, path.name)
