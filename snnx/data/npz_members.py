"""The members of a .npz archive, checked before NumPy makes arrays of them."""

from __future__ import annotations

import math
import tokenize
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from snnx.data.files import fits

HEADERS = {
    b"\1\0": np.lib.format.read_array_header_1_0,
    b"\2\0": np.lib.format.read_array_header_2_0,
}


def verify(path: Path) -> None:
    """Every member is stored as NumPy stores it, of the size it says, and agrees with its checksum.

    Raises: DataError for more than memory holds, zipfile.BadZipFile and ValueError for damage.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        fits(sum(member.file_size for member in members), str(path), "it is no data set")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{member.filename} has an unknown compression")
            with archive.open(member) as file:
                _check_size(file, member)
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} fails its checksum")


def _check_size(file: IO[bytes], member: zipfile.ZipInfo) -> None:
    """The array that a header declares is what follows it; Python objects are left to NumPy."""
    if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
        return  # no array, which the reader says
    version = file.read(2)
    if version not in HEADERS:
        raise zipfile.BadZipFile(f"{member.filename} is an array of the unknown version {version}")
    try:
        shape, _, dtype = HEADERS[version](file)
    except (tokenize.TokenError, SyntaxError, RecursionError, TypeError, MemoryError) as error:
        raise zipfile.BadZipFile(f"{member.filename} has a damaged header ({error})") from error
    if any(length < 0 for length in shape):
        raise zipfile.BadZipFile(f"{member.filename} has the shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size != member.file_size - file.tell():
        raise zipfile.BadZipFile(
            f"{member.filename} declares {size} bytes and holds {member.file_size - file.tell()}"
        )
