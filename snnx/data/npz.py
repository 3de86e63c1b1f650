"""A user's own arrays in one .npz file, read without trusting it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from snnx.data.arrays import Array, DataError, Dataset
from snnx.data.npz_members import verify

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
WORDS = ("layout", "label", "source", "licence")
OPTIONAL = ("length_train", "length_test", "full_scale", *WORDS)
ZIP_MAGIC = b"PK\x03\x04"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OverflowError, RuntimeError, OSError)
WANTED = (
    "data=FILE.npz is what numpy.savez_compressed(FILE, x_train=..., y_train=..., x_test=..., "
    "y_test=...) writes"
)


def from_npz(path: str | Path) -> Dataset:
    """The data set in a .npz file with the keys x_train, y_train, x_test, y_test.

    Further keys may be length_train and length_test (valid steps [N] of padded sequences), layout
    ("NF", the default: x is [N, *F]; "TNF": x is [T, N, *F]), label (what the data are; see
    `Dataset`), source, licence, and full_scale (what a batch divides x by). The checksum of every
    array is verified, and nothing in the file is executed.

    Raises: DataError if the file is missing, unreadable, no .npz, truncated or damaged, holds
    Python objects, lacks a key, has an unknown one, or fails the checks of `Dataset`.
    """
    path = Path(path)
    arrays = _read(path)
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}. "
            f"{WANTED}"
        )
    unknown = sorted(set(arrays) - {*REQUIRED, *OPTIONAL})
    if unknown:
        raise DataError(
            f"{path}: unknown key {', '.join(unknown)}; known are {', '.join(REQUIRED + OPTIONAL)}"
        )
    return Dataset(
        *(arrays[key] for key in REQUIRED),
        name=path.stem,
        label=_word(path, arrays, "label", "unstated"),  # type: ignore[arg-type]
        layout=_word(path, arrays, "layout", "NF"),  # type: ignore[arg-type]
        lengths_train=arrays.get("length_train"),
        lengths_test=arrays.get("length_test"),
        source=_word(path, arrays, "source", str(path)),
        licence=_word(path, arrays, "licence", ""),
        full_scale=_number(path, arrays, "full_scale", 1.0),
    )


def to_npz(dataset: Dataset, path: str | Path) -> Path:
    """Write a data set as the .npz file that `from_npz` reads; complete, or not at all.

    Raises: DataError if the name does not end in .npz.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise DataError(f"{path}: the name must end in .npz")
    arrays: dict[str, Array] = {key: getattr(dataset, key) for key in REQUIRED}
    for split in ("train", "test"):
        lengths = dataset.arrays(split)[2]
        if lengths is not None:
            arrays[f"length_{split}"] = lengths
    arrays |= {key: np.array(getattr(dataset, key)) for key in (*WORDS, "full_scale")}
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        unfinished.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _read(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            magic = file.read(len(ZIP_MAGIC))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file. {WANTED}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if magic != ZIP_MAGIC:
        raise DataError(f"{path}: is not an .npz archive. {WANTED}")
    try:
        verify(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except MemoryError as error:
        raise DataError(f"{path}: asks for more memory than there is ({error})") from error
    except DataError:
        raise
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: holds Python objects (a pickle), which are never loaded; store plain "
                "arrays of numbers"
            ) from error
        raise DataError(f"{path}: holds an array that cannot be read ({error})") from error
    except DAMAGE as error:
        raise DataError(
            f"{path}: is truncated or damaged ({error}); make or copy the file again"
        ) from error
    for key, value in arrays.items():
        # NumPy returns the bytes of a member that does not begin like an array.
        if not isinstance(value, np.ndarray):
            raise DataError(f"{path}: {key} is no array. {WANTED}")
    return arrays


def _word(path: Path, arrays: dict[str, Array], key: str, default: str) -> str:
    value = arrays.get(key)
    if value is None:
        return default
    if value.ndim != 0 or value.dtype.kind != "U":
        raise DataError(
            f"{path}: {key} must be one word, stored as numpy.array('...'), "
            f"got {value.dtype} of shape {value.shape}"
        )
    return str(value)


def _number(path: Path, arrays: dict[str, Array], key: str, default: float) -> float:
    value = arrays.get(key)
    if value is None:
        return default
    if value.ndim != 0 or value.dtype.kind not in "uif":
        raise DataError(
            f"{path}: {key} must be one number, got {value.dtype} of shape {value.shape}"
        )
    return float(value)
