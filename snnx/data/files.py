"""Files of others, read without trusting them: every size is checked before memory is asked for."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import os
import zlib
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

from snnx.data.arrays import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP_MAGIC = b"\x1f\x8b"
PART = 1 << 22


def extra(module: str, purpose: str) -> ModuleType:
    """A module of the optional extra `data`, imported when it is first needed.

    Raises: DataError that says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{purpose} needs {module.partition('.')[0]}, which is not installed: "
            'pip install "snnx[data]"'
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """The raw bytes of a file, unpacked if it is gzipped; the content decides, not the name.

    Raises: DataError if the file is missing, unreadable or a damaged gzip stream.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as stream:
                    yield stream  # type: ignore[misc]
            else:
                yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is truncated or damaged ({error}); get the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def exactly(file: IO[bytes], count: int, path: Path, what: str) -> bytes:
    """The next `count` bytes.

    Raises: DataError if the file ends before.
    """
    data = upto(file, count)
    if len(data) != count:
        raise DataError(
            f"{path}: is truncated: {what} needs {count} bytes and {len(data)} are left; "
            "get the file again"
        )
    return data


def upto(file: IO[bytes], most: int) -> bytes:
    """The next `most` bytes, or all that are left; memory is asked for as they come."""
    parts: list[bytes] = []
    while most > 0 and (part := file.read(min(most, PART))):
        parts.append(part)
        most -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def at_end(file: IO[bytes], path: Path, what: str) -> None:
    """Nothing follows.

    Raises: DataError if something does.
    """
    if file.read(1):
        raise DataError(f"{path}: goes on after {what}; it is another file or a damaged one")


def raw_md5(path: Path) -> str:
    """MD5, in hex, of the unpacked bytes, which do not depend on who packed them."""
    digest = hashlib.md5(usedforsecurity=False)
    with reading(path) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def find(root: Path, names: Iterable[str], folders: Iterable[str] = ("",)) -> Path | None:
    """The first of `names` that is a file in one of the `folders` below `root`."""
    for folder in folders:
        for name in names:
            path = root / folder / name
            if path.is_file():
                return path
    return None


def fits(size: int, what: str, remedy: str) -> None:
    """An array of `size` bytes leaves half of the machine's memory free.

    Raises: DataError with the remedy.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory // 2:
        raise DataError(
            f"{what} would take {size / 2**30:.1f} GiB of {memory / 2**30:.1f} GiB of memory; "
            f"{remedy}"
        )
