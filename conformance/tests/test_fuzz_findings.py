"""What fuzzing found, one test for each fault that was mended."""

import io
import json
import lzma
import struct
import tarfile
import time
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest

import snnx
from snnx import checkpoint as checkpoints
from snnx.analysis.rundata import read_run
from snnx.checkpoint import CheckpointError
from snnx.data import DataError
from snnx.data.aedat import read_aedat2, read_aedat3
from snnx.data.files import PART, upto
from snnx.data.folders import decode
from snnx.data.idx import read_idx
from snnx.data.mat import read_mat
from snnx.data.npz import from_npz
from snnx.data.obtain import unpack
from snnx.data.shd import read_shd
from snnx.serial import SerialError
from snnx.training.recipe import RecipeError, read_recipe
from snnx.training.rundir import RunDir
from snnx_conformance import record
from snnx_conformance.record import RecordError
from tests.fuzz import good


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


class Greedy(io.BytesIO):
    """A file that notes how much is asked for at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        self.most = max(self.most, size if size >= 0 else 1 << 62)
        return super().read(size)


def test_a_size_that_a_header_claims_is_not_asked_for_at_once() -> None:
    file = Greedy(b"abc" * 5)
    assert upto(cast(IO[bytes], file), 1 << 40) == b"abc" * 5
    assert file.most == PART
    assert upto(cast(IO[bytes], Greedy(bytes(2 * PART + 5))), 2 * PART + 3) == bytes(2 * PART + 3)


@pytest.mark.parametrize("name", ["idx", "aedat2", "aedat3"])
def test_readers_ask_for_no_more_than_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sizes: list[int] = []

    def noted(file: Any, most: int) -> bytes:
        sizes.append(most)
        return upto(file, most)

    huge = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 1 << 28, 1 << 28, 0)
    path = {
        "idx": lambda: written(tmp_path, "a", struct.pack(">BBBBIII", 0, 0, 8, 3, 1 << 20, 32, 32)),
        "aedat2": lambda: written(tmp_path, "a", good.aedat2()[0]),
        "aedat3": lambda: written(tmp_path, "a", good.aedat3()[0][:42] + huge),
    }[name]()
    monkeypatch.setattr("snnx.data.files.upto", noted)
    monkeypatch.setattr("snnx.data.aedat.upto", noted)
    if name == "aedat2":
        assert len(read_aedat2(path)) == 9
    else:
        with pytest.raises(DataError, match="truncated"):
            read_idx(path, 3) if name == "idx" else read_aedat3(path)
    assert max(sizes) > 1 << 29


def test_a_recipe_nested_too_deeply_or_too_large_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a.toml", b"a = " + b"[" * 10_000)
    with pytest.raises(RecipeError, match="nested too deeply"):
        read_recipe(str(path))
    path.write_bytes(b"#" * (1 << 19))
    with pytest.raises(RecipeError, match="too large for a recipe"):
        read_recipe(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80",
        b"[" * 100_000,
        b'{"spec": 1, "backends": {}}',
        b'{"spec": "a", "backends": []}',
        b'{"spec": "a", "backends": {"numpy": 1}}',
        b'{"spec": "a", "backends": {"numpy": {"cases": {"a": {"status": 1}}}}}',
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RecordError, match=r"is no (JSON|record)"):
        record.read(written(tmp_path, "a.json", content))
    with pytest.raises(RecordError, match="cannot be read"):
        record.read(tmp_path)


def test_a_number_beyond_float64_is_no_number_of_a_model() -> None:
    text = snnx.dumps(snnx.Chain(snnx.Input(2), snnx.LIF())).replace("0.5", "1e999")
    with pytest.raises(SerialError, match="1e999 is no number"):
        snnx.loads(text)


def test_a_repeated_key_among_many_is_found_in_time() -> None:
    keys = ",".join(f'"{i}":0' for i in range(300_000))
    began = time.process_time()
    with pytest.raises(SerialError, match="stands twice"):
        snnx.loads(f'{{{keys},"299999":1}}')
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", -1),
        ("step", "3"),
        ("batch", True),
        ("count", 10**30),
        ("seed", 1.5),
        ("dials", {"lr": "fast"}),
        ("totals", {"loss": None}),
        ("dials", [1]),
        ("ops", 3),
    ],
)
def test_a_forged_state_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    files = dict(good.checkpoint_files())
    state = json.loads(files[checkpoints.STATE])
    files[checkpoints.STATE] = json.dumps({**state, name: value}).encode()
    for part, content in good.sealed(files).items():
        written(tmp_path, part, content)
    with pytest.raises(CheckpointError, match="lacks what a checkpoint holds"):
        checkpoints.read(tmp_path)


def test_a_forged_config_is_refused(tmp_path: Path) -> None:
    files = dict(good.checkpoint_files())
    config = json.loads(files[checkpoints.CONFIG])
    for run in ([], {"recipe": 1}, {"data": "x"}):
        files[checkpoints.CONFIG] = json.dumps({**config, "run": run}).encode()
        for part, content in good.sealed(files).items():
            written(tmp_path, part, content)
        if run:
            with pytest.raises(CheckpointError, match="expects a table"):
                checkpoints.read(tmp_path)


@pytest.mark.parametrize("row", [b"[" * 100_000, b'{"epoch": "x", "loss": 1, "test_accuracy": 1}'])
def test_a_row_that_is_none_is_left_out(tmp_path: Path, row: bytes) -> None:
    written(tmp_path, "metrics.jsonl", good.runs()[0] + row + b"\n")
    run = RunDir(tmp_path)
    assert [r["epoch"] for r in run.rows()] == [1, 2, 3, 4]
    run.keep_until(2)
    assert [r["epoch"] for r in run.rows()] == [1, 2]


def test_settings_nested_too_deeply_are_left_out(tmp_path: Path) -> None:
    written(tmp_path, "metrics.jsonl", good.runs()[0])
    written(tmp_path, "config.toml", b"a = " + b"[" * 10_000)
    assert any("config.toml is not TOML" in note for note in read_run(tmp_path).notes)


def test_lzma_which_takes_what_memory_it_says_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a", bytes(range(256)) * 8)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="packed by LZMA"):
        unpack(written(tmp_path, "a.zip", packed.getvalue()), tmp_path / "out")
    with pytest.raises(DataError, match="packed by LZMA"):
        unpack(written(tmp_path, "a.tar.xz", lzma.compress(bytes(4096))), tmp_path / "out")


def test_a_gzip_header_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    path = written(tmp_path, "a.tar.gz", b"\x1f\x8b\x08\x04" + bytes(6))
    with pytest.raises(DataError, match=r"truncated or damaged|is no tar"):
        unpack(path, tmp_path / "out")


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a", b"1")
    content = packed.getvalue().replace(b"a1", b"\0" + b"1").replace(b"a", b"\0")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError):
        unpack(written(tmp_path, "a.zip", content), tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, 1 << 32
    (tmp_path / "out").mkdir()
    path = written(tmp_path, "a.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match=r"a\.tar: a header of 4294967296 bytes is too long"):
        unpack(path, tmp_path / "out")


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "out").mkdir()
    path = written(tmp_path, "a.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match="is a sparse file"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("shape", [b"(9, 3)", b"(-4,3)", b"(4, 4)"])
def test_an_array_of_another_size_than_it_says_is_refused(tmp_path: Path, shape: bytes) -> None:
    content = good.npz_with(good.member().replace(b"(4, 3)", shape))
    with pytest.raises(DataError, match=r"declares|has the shape|cannot be read"):
        from_npz(written(tmp_path, "a.npz", content))


def test_an_array_too_large_for_memory_is_refused_before_it_is_made(tmp_path: Path) -> None:
    content = bytearray(good.npz()[0])
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)  # the size in the directory
    with pytest.raises(DataError):
        from_npz(written(tmp_path, "a.npz", bytes(content)))


def test_a_matrix_without_flags_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    content = bytearray(good.mat()[0])
    content[140:144] = bytes(4)  # the size of the flags of the first matrix
    with pytest.raises(DataError, match="truncated or damaged"):
        read_mat(written(tmp_path, "a.mat", bytes(content)))


def test_a_matrix_that_is_empty_and_too_wide_for_numpy_is_refused(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    file = io.BytesIO()
    savemat(file, {"a": np.zeros((1, 0, 1))})
    content, most = file.getvalue(), 2**31 - 1
    damaged = content.replace(struct.pack("<3i", 1, 0, 1), struct.pack("<3i", most, 0, most))
    assert damaged != content
    assert read_mat(written(tmp_path, "a.mat", content))
    with pytest.raises(DataError, match="has the shape"):
        read_mat(written(tmp_path, "b.mat", damaged))


def test_an_image_far_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    content = bytearray(good.images()[1])
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 8000, 8000)
    with pytest.raises(DataError, match="8000 x 8000 pixels, too many"):
        decode(written(tmp_path, "a.jpeg", bytes(content)))


def test_a_list_far_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for key, kind in (("times", np.float32), ("units", np.uint16)):
            file.create_dataset(
                f"spikes/{key}", shape=(10**8,), dtype=h5py.vlen_dtype(kind), chunks=(1024,)
            )
        file.create_dataset("labels", shape=(10**8,), dtype="u2", chunks=(1024,))
    with pytest.raises(DataError, match="far larger than what is stored"):
        read_shd(path)


@pytest.mark.parametrize("kind", ["references", "numbers", "words"])
def test_spikes_that_are_no_lists_of_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    h5py = pytest.importorskip("h5py")
    types = {"references": h5py.ref_dtype, "numbers": np.float32, "words": h5py.string_dtype()}
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for key in ("times", "units"):
            file.create_dataset(f"spikes/{key}", shape=(3,), dtype=types[kind])
        file.create_dataset("labels", data=np.arange(3, dtype=np.uint16))
    with pytest.raises(DataError, match=r"spikes/times must hold lists of numbers"):
        read_shd(path)
