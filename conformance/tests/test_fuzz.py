"""Every reader of a stranger's file, fed damaged files by the thousand; `make fuzz` feeds more."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import good, run
from tests.fuzz.mutate import OPERATIONS, mutated
from tests.fuzz.readers import READERS, Accepted, ApartReader, Reader

EXAMPLES = 2000
EXTRAS = {"shd": "h5py", "image": "PIL", "mat": "scipy.io"}


def planted(read: Any, error: type[Exception] = ValueError) -> Reader:
    return Reader("planted", lambda: (b"good content",), read, error)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS))
def test_damaged_files_are_read_or_refused(name: str) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, "--examples", str(EXAMPLES)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["inputs"] >= EXAMPLES
    assert {"read", "refused"} <= set(found["ends"]) <= set(READERS[name].ends)


def test_a_crash_is_found(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        if path.read_bytes()[:1] != b"g":
            raise IndexError("a crash")

    with pytest.raises(IndexError, match="a crash"):
        run.fuzz(planted(read), 500, 0, tmp_path, shrink=False)
    assert set(run.fuzz(planted(read, IndexError), 200, 0, tmp_path)) == {"read", "refused"}


def test_a_hang_and_a_large_allocation_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(path: Path) -> None:
        while True:
            time.process_time()

    def full(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(run, "SECONDS", 0.1)
    old = signal.signal(signal.SIGPROF, run._hung)
    try:
        with pytest.raises(run.Finding, match=r"no end after 0\.1 s: --program 00"):
            run.one(planted(hang), b"\0", tmp_path)
    finally:
        signal.signal(signal.SIGPROF, old)
    with pytest.raises(run.Finding, match="more than 640 MiB"):
        run.one(planted(full), b"\0", tmp_path)


def test_a_reader_in_a_process_of_its_own_is_stopped_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path) -> None:
        match path.read_bytes()[:1]:
            case b"M":
                raise ValueError
            case b"m":
                raise MemoryError
            case b"e":
                raise IndexError("a crash")
            case b"f":
                while True:
                    time.process_time()
            case b"o":
                os.kill(os.getpid(), signal.SIGSEGV)

    monkeypatch.setattr("tests.fuzz.readers.SECONDS", 0.1)
    apart = ApartReader("planted", lambda: (b"gMmefo",), read, ValueError)
    cuts = [bytes([0, 0, 2, 0, 0, count - 1]) if count else b"" for count in range(6)]
    assert [apart.feed(cuts[i], tmp_path) for i in (0, 1, 4, 5)] == list(apart.ends)
    with pytest.raises(MemoryError):
        apart.feed(cuts[2], tmp_path)
    with pytest.raises(AssertionError, match="planted: as printed above: --program 00"):
        apart.feed(cuts[3], tmp_path)
    assert apart.fork.end() == 0
    assert "a crash" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["checkpoint", "npz"])
def test_altered_content_that_is_accepted_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "checkpoint":
        monkeypatch.setattr("snnx.checkpoint.digest", lambda content: "same")
        good.checkpoint_files.cache_clear()
    else:
        monkeypatch.setattr("zipfile.ZipExtFile._update_crc", lambda self, data: None)
    with pytest.raises(Accepted, match="altered"):
        run.fuzz(READERS[name], 3000, 0, tmp_path, shrink=False)
    if name == "checkpoint":
        good.checkpoint_files.cache_clear()


def test_a_file_outside_of_its_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one place outside, and not where a name says: the names are those of real attacks
    monkeypatch.setattr("snnx.data.obtain._safe", lambda name, archive: Path("../outside"))
    with pytest.raises(Accepted, match="outside of"):
        run.fuzz(READERS["archive"], 3000, 0, tmp_path, shrink=False)


def test_a_program_says_the_same_damage_every_time() -> None:
    content = bytes(range(64))
    for kind in range(len(OPERATIONS)):
        program = bytes([0, kind, 0, 9, 77])
        first = mutated(content, program, (b"word",))
        assert first != content
        assert mutated(content, program, (b"word",)) == first
    assert mutated(content, b"") == content
    assert mutated(b"", bytes([0, 1, 0, 9, 77])) == b"M"
