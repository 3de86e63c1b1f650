"""Files read by another process: what comes back, and what a loop or a crash there becomes."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from snnx.data import DataError, apart
from snnx.data.apart import read_apart
from snnx.data.shd import lists, read_shd
from tests.fuzz import good
from tests.fuzz.mutate import mutated


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "LEAST", 2.0)


def planted(path: Path) -> list[NDArray[Any]]:
    content = path.read_bytes()
    while content == b"loop":
        time.process_time()
    if content == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if content == b"refuse":
        raise DataError(f"{path}: refused")
    if content == b"full":
        raise MemoryError
    if content == b"fault":
        raise IndexError("a fault of the code")
    return [np.arange(6, dtype=">u2").reshape(2, 3).T, np.zeros(0, np.float32)]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "a \udcff.h5"  # a name that is no text
    path.write_bytes(content)
    return path


def test_arrays_come_back_as_they_were_read(tmp_path: Path) -> None:
    found = read_apart(planted, written(tmp_path, b"good"), "structure")
    for ours, theirs in zip(found, planted(tmp_path / "a \udcff.h5"), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"refuse", "a \udcff.h5: refused"),
        (b"crash", f"a \udcff.h5: reading it ended its process by signal {signal.SIGSEGV:d}"),
        (b"full", "a \udcff.h5: what it declares does not fit into memory"),
    ],
)
def test_a_refusal_and_a_crash_name_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_apart(planted, written(tmp_path, content), "structure")


def test_a_loop_ends_at_the_deadline(tmp_path: Path, soon: None) -> None:
    with pytest.raises(
        DataError, match=r"its structure does not end: the file is damaged.*after 2 s"
    ):
        read_apart(planted, written(tmp_path, b"loop"), "structure")


def test_a_fault_of_the_code_is_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 1:[\s\S]*IndexError: a fault of the code"):
        read_apart(planted, written(tmp_path, b"fault"), "structure")


def test_a_process_without_its_parent_ends_by_itself(tmp_path: Path) -> None:
    path = written(tmp_path, b"loop")
    child = os.fork()
    if child == 0:
        apart.serve(__name__, "planted", str(path), "1")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGXCPU


def test_the_deadline_grows_with_the_file() -> None:
    assert apart.deadline(0) == 20.0
    assert apart.deadline(400 << 20) == 120.0


def test_a_missing_file_is_refused_without_a_process(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_apart(planted, tmp_path / "none", "structure")


def test_an_shd_file_is_the_same_through_the_other_process(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = written(tmp_path, good.shd()[1])
    for ours, theirs in zip(vars(read_shd(path)).values(), lists(path), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_hdf5_heap_without_an_end_is_refused(tmp_path: Path, soon: None) -> None:
    # a length in the heap, over which HDF5 2.0.0 never ends; one that checks it is free to refuse
    pytest.importorskip("h5py")
    path = written(tmp_path, mutated(good.shd()[1], bytes.fromhex("149c85edec")))
    with pytest.raises(DataError, match=r"\.h5: .* damaged"):
        read_shd(path)
