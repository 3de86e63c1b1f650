"""Time series as .ts text: JapaneseVowels.

After lines that begin with # or @, each line is one series: its dimensions separated by ":", the
values of a dimension by ",", and the class after the last ":".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnx.data.arrays import DataError, Dataset
from snnx.data.files import find, fits, reading, upto

FOLDERS = ("", "JapaneseVowels", "aeon/datasets/data/JapaneseVowels")
FILES = ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts")
MOST_TEXT = 1 << 28
FLOAT32_MAX = float(np.finfo(np.float32).max)


def locate(root: Path) -> dict[str, Path]:
    """The two files, where they are in `root` or a usual folder below it."""
    found = {name: find(root, (name,), FOLDERS) for name in FILES}
    return {name: path for name, path in found.items() if path is not None}


def read_ts(path: Path) -> tuple[list[NDArray[np.float32]], NDArray[np.int64], tuple[str, ...]]:
    """Series [T_n, F], labels [N] (positions in the classes) and the classes of the header.

    Raises: DataError, with the line, for a missing or damaged file, series without classes, an
    unknown class, missing values or time stamps, or dimensions that differ in number or length.
    """
    with reading(path) as file:
        data = upto(file, MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise DataError(f"{path}: is larger than {MOST_TEXT >> 20} MiB, too large for this reader")
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no .ts text: {error.reason} at byte {error.start}") from error
    classes: tuple[str, ...] = ()
    series: list[NDArray[np.float32]] = []
    labels: list[int] = []
    begun = False
    for number, text in enumerate(lines, 1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            key, *words = line[1:].lower().split() or [""]
            begun = begun or key == "data"
            if key == "classlabel" and words[:1] == ["true"]:
                classes = tuple(line.split()[2:])
            if key == "timestamps" and words[:1] == ["true"]:
                raise DataError(f"{path}: line {number}: series with time stamps are not read")
            continue
        if not begun or not classes:
            raise DataError(
                f"{path}: line {number}: series must follow @classLabel true ... and @data"
            )
        *dimensions, word = line.split(":")
        label = word.strip()
        if label not in classes:
            raise DataError(
                f"{path}: line {number}: the class {label[:20]!r} is none of "
                f"{', '.join(classes)}; the line may be cut off"
            )
        series.append(_series(dimensions, series, path, number))
        labels.append(classes.index(label))
    if not series:
        raise DataError(f"{path}: holds no series; the file is empty or cut off")
    return series, np.array(labels), classes


def _series(
    dimensions: list[str], before: list[NDArray[np.float32]], path: Path, number: int
) -> NDArray[np.float32]:
    try:
        values = [[float(word) for word in text.split(",")] for text in dimensions]
    except ValueError as error:
        raise DataError(f"{path}: line {number}: {error}; missing values are not read") from error
    steps = {len(v) for v in values}
    if len(steps) != 1:
        raise DataError(
            f"{path}: line {number}: the dimensions must be equally long, got {sorted(steps)} steps"
        )
    if before and before[0].shape[1] != len(values):
        raise DataError(
            f"{path}: line {number}: has {len(values)} dimensions, and those before have "
            f"{before[0].shape[1]}"
        )
    array = np.array(values).T
    if not (np.abs(array) <= FLOAT32_MAX).all():
        raise DataError(f"{path}: line {number}: holds a value that is not a finite float32 number")
    return array.astype(np.float32)


def japanese_vowels(root: Path, name: str, source: str, licence: str) -> Dataset:
    """270 and 370 utterances of 7 to 29 steps, x [29, N, 12] (12 cepstral values), 9 speakers.

    Both splits are padded with zeros to the longest series of either.

    Raises: DataError for a missing or damaged file, or if the two differ in classes or dimensions.
    """
    found = locate(root)
    missing = [part for part in FILES if part not in found]
    if missing:
        raise DataError(f"{root}: lacks {', '.join(missing)}")
    (train, y_train, classes), (test, y_test, others) = (read_ts(found[part]) for part in FILES)
    if classes != others or train[0].shape[1] != test[0].shape[1]:
        raise DataError(
            f"{found[FILES[1]]}: has other classes or dimensions than {FILES[0]}: "
            f"{', '.join(others)} and {test[0].shape[1]}, against {', '.join(classes)} and "
            f"{train[0].shape[1]}"
        )
    steps = max(len(s) for s in train + test)
    x_train, lengths_train = _pad(train, steps, found[FILES[0]])
    x_test, lengths_test = _pad(test, steps, found[FILES[1]])
    return Dataset(
        x_train,
        y_train,
        x_test,
        y_test,
        name=name,
        label="real",
        layout="TNF",
        lengths_train=lengths_train,
        lengths_test=lengths_test,
        source=source,
        licence=licence,
    )


def _pad(
    series: list[NDArray[np.float32]], steps: int, path: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    shape = (steps, len(series), series[0].shape[1])
    fits(4 * int(np.prod(shape)), f"{path} padded to {shape}", "one series is far longer than all")
    x = np.zeros(shape, np.float32)
    for n, one in enumerate(series):
        x[: len(one), n] = one
    return x, np.array([len(one) for one in series])
