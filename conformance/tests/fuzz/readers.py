"""Every reader of a stranger's file: good files, how one is read, and which error it may raise."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import snnx
from snnx import checkpoint as checkpoints
from snnx.analysis.rundata import read_run
from snnx.data import DataError
from snnx.data.aedat import read_aedat2, read_aedat3, read_gesture_labels
from snnx.data.cifar import CIFAR10, read_records
from snnx.data.folders import decode
from snnx.data.idx import read_idx
from snnx.data.mat import read_mat
from snnx.data.npz import from_npz
from snnx.data.obtain import unpack
from snnx.data.shd import lists
from snnx.data.ts import read_ts
from snnx.serial import SerialError
from snnx.training.recipe import RecipeError, read_recipe, resolve
from snnx.training.rundir import RunDir
from snnx_conformance import record
from snnx_conformance.record import RecordError
from tests.fuzz import good
from tests.fuzz.fork import FAILED, FULL, Fork
from tests.fuzz.mutate import mutated

SECONDS = 4.0  # of processor time for one input
JSON = (b"1e999", b"NaN", b"-1", b"null", b"[]", b"{}", b'"class"', b"true", b"1" * 400, b'""')
Read = Callable[[Path], Any]


class Accepted(AssertionError):
    """A reader took content that its hash or its folder forbids."""


@dataclass(frozen=True)
class Reader:
    """A reader: `files` are good contents, `read` takes a path and may raise `error`.

    `check`, if any, gets the path and what was read, and raises `Accepted`.
    """

    name: str
    files: Callable[[], Sequence[bytes]]
    read: Read
    error: type[Exception] | tuple[type[Exception], ...]
    words: Sequence[bytes] = ()
    suffix: str = ""
    room: int = 640 << 20  # bytes of address space that an input may take
    ends: ClassVar[tuple[str, ...]] = ("read", "refused")

    def feed(self, program: bytes, folder: Path) -> str:
        """Read the file that a program makes; "read" or "refused"."""
        files = self.files()
        which, steps = (program[0] % len(files), program[1:]) if program else (0, b"")
        path = folder / f"input{self.suffix}"
        path.write_bytes(mutated(files[which], steps, self.words))
        try:
            self.read(path)
        except self.error:
            return "refused"
        return "read"


def _recipe(path: Path) -> None:
    resolve([read_recipe(str(path))])


def _record(path: Path) -> None:
    found = record.read(path)
    record.compare_records(found, found)


def _run(path: Path) -> None:
    """A line of figures and the settings beside it, as `snnx report` and `--resume` read them."""
    folder = path.parent / "run"
    folder.mkdir(exist_ok=True)
    content = path.read_bytes()
    for name in ("metrics.jsonl", "result.json", "env.json", "config.toml"):
        (folder / name).write_bytes(content)
    read_run(folder)
    run = RunDir(folder)
    run.keep_until(3)
    run.rows()


def _archive(path: Path) -> None:
    target = path.parent / "inside" / "target"
    shutil.rmtree(target.parent, ignore_errors=True)
    target.mkdir(parents=True)
    before = sorted(p.name for p in path.parent.iterdir())
    try:
        written = unpack(path, target)
        if any(not p.resolve().is_relative_to(target.resolve()) for p in written):
            raise Accepted(f"written outside of {target}: {written}")
    finally:
        after = sorted(p.name for p in path.parent.iterdir())
        outside = [p for p in target.parent.rglob("*") if not p.is_relative_to(target)]
        links = [
            p
            for p in target.rglob("*")
            if p.is_symlink() or (p.stat().st_mode & 0o111 and p.is_file())
        ]
        if outside or links or before != after:
            raise Accepted(f"outside of {target}: {outside}; links or programs: {links}")


@dataclass(frozen=True)
class CheckpointReader(Reader):
    """Four files of which one is damaged; half of the programs seal it with new hashes."""

    def feed(self, program: bytes, folder: Path) -> str:
        """Read a checkpoint; where it is not sealed, only what was written may come back."""
        files = good.checkpoint_files()
        names = sorted(files)
        head, steps = (program[0], program[1:]) if program else (0, b"")
        name, sealed = names[head % 4], bool(head & 4)
        content = mutated(files[name], steps, self.words)
        changed = {**files, name: content}
        if sealed:
            changed = good.sealed(changed)
        place = folder / "checkpoint"
        place.mkdir(exist_ok=True)
        for part, value in changed.items():
            (place / part).write_bytes(value)
        try:
            found = checkpoints.read(place)
        except checkpoints.CheckpointError:
            return "refused"
        if not sealed and good.digest_of(found) != _wanted():
            raise Accepted(f"{name}: altered content was read: --program {program.hex()}")
        return "read"


@dataclass(frozen=True)
class ApartReader(Reader):
    """A reader that `snnx.data.apart` runs in another process, since a library may loop in it.

    A new interpreter for each input would cost half a second; here a fork of this process reads one
    after another. The product refuses a file whose process is stopped or dies of a signal, so
    neither is a finding; they are counted apart from what the reader itself refused.
    """

    ends: ClassVar[tuple[str, ...]] = (*Reader.ends, "stopped", "died")

    @cached_property
    def fork(self) -> Fork:
        """What reads."""
        feed = super().feed
        return Fork(lambda program, folder: self.ends.index(feed(program, folder)), SECONDS)

    def feed(self, program: bytes, folder: Path) -> str:
        """Read in a fork. Raises: MemoryError, or AssertionError below the fork's traceback."""
        code = self.fork.ask(program, folder)
        if code == FULL:
            raise MemoryError
        if code == FAILED:
            raise AssertionError(f"{self.name}: as printed above: --program {program.hex()}")
        if code < 0:
            return "stopped" if code == -signal.SIGPROF else "died"
        return self.ends[code]


@cache
def _wanted() -> str:
    return good.digest_of(good.checkpoint())


@dataclass(frozen=True)
class ArchiveReader(Reader):
    """Damaged archives, and whole ones whose members have damaged names or are links."""

    def feed(self, program: bytes, folder: Path) -> str:
        """Unpack an archive, and look where its files went."""
        if not program or program[0] & 1 == 0:
            return Reader.feed(self, program[:1] and bytes([program[0] >> 1]) + program[1:], folder)
        names = mutated(b"a/one.txt\ntwo.txt\nb/c.txt", program[1:], self.words)
        path = folder / "input"
        path.write_bytes(good.archive_of(names, program[0] >> 1))
        try:
            _archive(path)
        except self.error:
            return "refused"
        return "read"


@dataclass(frozen=True)
class NpzReader(Reader):
    """Arrays with a checksum each; half of the programs damage one below its checksum."""

    def feed(self, program: bytes, folder: Path) -> str:
        """Read an archive of arrays; what is not sealed comes back as it was written."""
        path = folder / "input.npz"
        sealed, steps = bool(program[:1] and program[0] & 1), program[1:]
        if sealed:
            path.write_bytes(good.npz_with(mutated(good.member(), steps, self.words)))
        else:
            path.write_bytes(mutated(self.files()[0], steps, self.words))
        try:
            found = from_npz(path)
        except DataError:
            return "refused"
        if not sealed and found.hash != _npz_hash():
            raise Accepted(f"altered arrays were read: --program {program.hex()}")
        return "read"


@cache
def _npz_hash() -> str:
    return good.dataset().hash


def _all(*readers: Reader) -> dict[str, Reader]:
    return {reader.name: reader for reader in readers}


READERS = _all(
    Reader("model", good.models, lambda path: snnx.serial.load_file(path), SerialError, JSON),
    Reader("recipe", good.recipes, _recipe, (RecipeError, DataError), good.TOML, ".toml"),
    CheckpointReader("checkpoint", tuple, lambda path: None, ValueError, JSON),
    Reader("record", good.records, _record, RecordError, JSON),
    Reader("run", good.runs, _run, FileNotFoundError, JSON),
    Reader("aedat2", good.aedat2, read_aedat2, DataError),
    Reader("aedat3", good.aedat3, read_aedat3, DataError),
    Reader("gesture", good.gesture, read_gesture_labels, DataError, good.TABLE),
    ApartReader("shd", good.shd, lists, DataError, suffix=".h5"),
    Reader("mat", good.mat, read_mat, DataError),
    Reader("ts", good.ts, read_ts, DataError, good.TS),
    Reader("idx", good.idx, lambda path: read_idx(path, 3), DataError),
    Reader("cifar", good.cifar, lambda path: read_records(path, CIFAR10), DataError),
    NpzReader("npz", good.npz, lambda path: None, DataError, good.HEADER),
    ArchiveReader("archive", good.archives, _archive, DataError, good.NAMES),
    Reader("image", good.images, decode, DataError),
)
