"""The files of a checkpoint: what is read from them and written into them, and never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from snnx import serial
from snnx.data.arrays import DataError
from snnx.data.files import fits
from snnx.serial import SerialError

MOST = 2**32 - 1  # counters are uint32 dials


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not one of this model and this snnx."""


def is_pickle(content: bytes) -> bool:
    """Tell a bare pickle and the zip of torch.save from safetensors, whose ninth byte is {."""
    bare = content.startswith(b"\x80") and content[8:9] != b"{"
    return bare or content.startswith(b"PK\x03\x04")


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises: CheckpointError that says why it cannot be read."""
    try:
        fits(
            path.stat().st_size, str(path), "it is no checkpoint of a model that this machine holds"
        )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; the checkpoint is not whole") from error
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def parsed(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object of a file's content. Raises: CheckpointError."""
    try:
        return serial.parse(content)
    except SerialError as error:
        raise CheckpointError(f"{path}: {error}") from error


def arrays_in(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """Return the finite arrays of a safetensors file's content. Raises: CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        arrays = from_bytes(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: is no safetensors file that snnx reads: {error}") from error
    for name, array in arrays.items():
        if array.dtype not in (np.float32, np.float64):
            raise CheckpointError(f"{path}: {name} is {array.dtype}; checkpoints hold float32")
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite")
    return arrays


def counter(state: Mapping[str, Any], name: str) -> int:
    """Return a count of a state. Raises: ValueError unless it is one that can be."""
    value = state[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST:
        raise ValueError(f"{name} is {value!r}, expects a whole number in 0 .. {MOST}")
    return value


def numbers(state: Mapping[str, Any], name: str) -> dict[str, float]:
    """Return a table of numbers of a state. Raises: ValueError for anything else."""
    found = dict(state[name])
    for key, value in found.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{name}.{key} is {value!r}, expects a number")
    return found


def tables(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a table of tables of a config. Raises: ValueError for anything else."""
    found = dict(config[name])
    for key, value in found.items():
        if not isinstance(value, dict):
            raise ValueError(f"{name}.{key} is {value!r}, expects a table")
    return found


def stored(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays as they are written: float64 stays, all else is float32, C order."""
    kept = {k: np.asarray(v) for k, v in arrays.items()}
    return {
        k: np.array(v, np.float64 if v.dtype == np.float64 else np.float32, order="C")
        for k, v in kept.items()
    }


def as_text(content: Mapping[str, Any]) -> bytes:
    """Return JSON values as the bytes that are written."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the path that was written: a full disk fails a write, which knows none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(handle)
    finally:
        os.close(handle)
