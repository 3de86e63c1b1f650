"""Finding, reading and verifying the data sets of the catalogue."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from snnx.data.arrays import DataError, Dataset
from snnx.data.catalogue import ENTRIES, Entry, cache
from snnx.data.files import raw_md5
from snnx.data.lazy import Lazy, Stored
from snnx.data.npz import from_npz


def entry(name: str) -> Entry:
    """The entry of a name.

    Raises: DataError, with the nearest name, if there is none.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    near = get_close_matches(name, ENTRIES, 1)
    raise DataError(
        f"there is no data set {name!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
        f"Known are {', '.join(sorted(ENTRIES))}, and your own arrays as FILE.npz"
    )


def roots(name: str) -> Iterator[Path]:
    """The folders in which a data set is looked for, in order."""
    given = os.environ.get("SNNX_DATA")
    if given:
        yield Path(given).expanduser() / name
        yield Path(given).expanduser()
    yield cache() / name
    yield from entry(name).places


def where(name: str) -> Path | None:
    """The first folder that holds all files of a data set, or None.

    A set that is made from another is where that one is; an embedded one is in the package.

    Raises: DataError for an unknown name, or where only a refused version of the data is there.
    """
    item = entry(name)
    if item.base:
        return where(item.base)
    if not item.files:
        return Path(__file__).parent
    for root in roots(name):
        if not _recognised(item, root):
            continue
        return root
    return None


def _recognised(item: Entry, root: Path) -> bool:
    if not root.is_dir() or set(item.locate(root)) != set(item.files):
        return False
    # Sets with the same file names share no folder: the checksum of the smallest file tells.
    name, md5 = item.md5[-1] if item.md5 else ("", "")
    return root.name == item.name or not md5 or raw_md5(item.locate(root)[name]) == md5


def missing(name: str) -> DataError:
    """The error of a data set that is nowhere: what is there of it, and the steps to have it."""
    item = entry(name)
    parts = [
        f"{root} lacks {', '.join(part for part in item.files if part not in there)}"
        for root in roots(item.base or name)
        if root.is_dir() and (there := item.locate(root))
    ]
    some = f" ({'; '.join(parts)})" if parts else ""
    return DataError(f"the data set {name!r} is not on this machine{some}.\n{item.steps}")


def source(name: str, root: str | Path | None = None, **options: Any) -> Stored:
    """The data set of a name in `ENTRIES`, or of a path that ends in .npz; in memory or lazy.

    `root` is the folder of its files; without it `roots` are searched. Options are those of the
    reader, for example framing="dsr_dvs", clip=True, train=500.

    Raises: DataError if there is none, if its files are missing (with the steps to get them) or
    damaged; TypeError for an option that the reader does not have.
    """
    if name.endswith(".npz") and name not in ENTRIES:
        return from_npz(name)
    item = entry(name)
    if item.base:
        return item.read(load(item.base, root), **options)
    if not item.files:
        return item.read(root, **options)
    if root is None:
        folder = where(name)
        if folder is None:
            raise missing(name)
        return item.read(folder, **options)
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder.\n{item.steps}")
    found = item.locate(folder)
    lacking = [part for part in item.files if part not in found]
    if lacking:
        raise DataError(f"{folder}: lacks {', '.join(lacking)}.\n{item.steps}")
    return item.read(folder, **options)


def load(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """As `source`, decoded into memory.

    Raises: what `source` raises, and DataError where it does not fit or every epoch draws it anew.
    """
    found = source(name, root, **options)
    return found.in_memory() if isinstance(found, Lazy) else found


def verify(name: str, root: str | Path | None = None) -> list[str]:
    """What was checked, a line each: checksums where they are known, then all of the data's laws.

    Raises: DataError for missing files, or one that has another checksum or cannot be read.
    """
    item = entry(name)
    if item.base:
        return verify(item.base, root)
    folder = Path(root).expanduser() if root is not None else where(name)
    if folder is None:
        raise missing(name)
    lines: list[str] = []
    found = item.locate(folder) if item.md5 else {}
    for part, md5 in item.md5:
        if part not in found:
            raise DataError(f"{folder}: lacks {part}.\n{item.steps}")
        actual = raw_md5(found[part])
        if actual != md5:
            raise DataError(
                f"{found[part]}: has the MD5 {actual} instead of {md5}: it is damaged or another "
                f"version; remove it and get it again.\n{item.steps}"
            )
        lines.append(f"{found[part]}: MD5 {md5}, as expected")
    data = source(name, folder if item.files else None)
    lines.append(
        f"{data.id}: {data.size('train')} training and {data.size('test')} test samples "
        f"of {data.features} in {data.classes} classes"
    )
    if not item.md5 and item.files:
        lines.append("no published checksum is known; sizes and labels were checked")
    if isinstance(data, Lazy):
        lines.append("samples are decoded when they are used; none was decoded now")
    return lines
