"""MedleyDB's spikes in their MAT file, and MAT files in general, against SciPy's writer."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnx import data
from snnx.data import DataError
from snnx.data.mat import read_mat
from snnx.data.medlydb import CHANNELS, read_medlydb

scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")


def cells(samples: list[dict[int, list[float]]], channels: int = CHANNELS) -> np.ndarray:
    """Samples as {channel: times} in MATLAB's cells: 1 x n numbers, 0 x 0 where nothing fires."""
    made = np.empty((len(samples), channels), object)
    for i, k in np.ndindex(*made.shape):
        times = samples[i].get(k)
        made[i, k] = np.zeros((0, 0)) if times is None else np.array([times])
    return made


def content(**changes: Any) -> dict[str, Any]:
    """What the MAT file holds; a change is of TrainData."""
    train = {
        "ptn": cells([{0: [0.0, 1.0], 383: [0.499]}, {5: [0.25]}, {}]),
        "Labels": np.array([[10.0, 1.0, 3.0]]),
        "Tmax": np.array([[1.0, 0.5, 1.0]]),
    }
    test = {"ptn": cells([{7: [0.1]}]), "Labels": np.array([[2]], np.uint8), "Tmax": 0.5}
    return {"TrainData": {**train, **changes}, "TestData": test}


@pytest.mark.parametrize("packed", [False, True], ids=["v6", "v7"])
def test_spikes_are_rounded_to_steps_of_0_or_1(tmp_path: Path, packed: bool) -> None:
    scipy_io.savemat(tmp_path / "medlydb.mat", content(), do_compression=packed)
    found = data.load("medlydb", root=tmp_path, steps=11)
    assert (found.layout, found.x_train.shape, found.x_test.shape) == (
        "TNF",
        (11, 3, CHANNELS),
        (11, 1, CHANNELS),
    )
    # the largest Tmax, 1.0, is the last step
    assert [tuple(place) for place in np.argwhere(found.x_train[:, 0])] == [
        (0, 0),
        (5, 383),
        (10, 0),
    ]
    assert np.argwhere(found.x_train[:, 1]).tolist() == [[2, 5]]  # 2.5 rounds to even
    assert found.x_train[:, 2].sum() == 0
    assert found.y_train.tolist() == [9, 0, 2]
    assert np.argwhere(found.x_test[:, 0]).tolist() == [[1, 7]]
    assert found.y_test.tolist() == [1]
    assert found.label == "real"


def test_the_width_of_a_step_may_be_given(tmp_path: Path) -> None:
    scipy_io.savemat(tmp_path / "medlydb.mat", content())
    found = data.load("medlydb", root=tmp_path, steps=4, width=0.1)
    assert found.x_train.shape == (4, 3, CHANNELS)
    assert found.x_train.sum() == 2  # later spikes are left out
    assert data.load("medlydb", root=tmp_path).x_train.shape == (500, 3, CHANNELS)
    for steps, width in ((1, None), (4, 0.0)):
        with pytest.raises(DataError, match="steps is at least 2 and width above 0"):
            data.load("medlydb", root=tmp_path, steps=steps, width=width)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ptn": cells([{}, {}, {}], 383)}, r"ptn is \(3, 383\), not N x 384 cells"),
        ({"ptn": np.zeros((3, CHANNELS))}, "not N x 384 cells"),
        ({"Labels": np.array([[1.0, 2.0]])}, "3 samples, 2 Labels and 3 Tmax"),
        ({"Labels": np.array([[0.0, 1.0, 2.0]])}, r"whole numbers in 1 \.\. 10"),
        ({"Labels": np.array([[1.5, 1.0, 2.0]])}, r"whole numbers in 1 \.\. 10"),
        ({"Labels": "abc"}, "Labels must be a row or column of numbers"),
        ({"Tmax": np.array([[1.0, 2.0]])}, "3 samples, 3 Labels and 2 Tmax"),
        ({"Tmax": -1.0}, "Tmax must be above 0"),
        ({"Tmax": 0.5}, r"a time outside of 0 \.\. Tmax \(0.5\)"),
        ({"ptn": cells([{0: [-0.1]}, {}, {}])}, "a time outside"),
        ({"ptn": cells([{0: [float("nan")]}, {}, {}])}, "a time outside"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "medlydb.mat"
    scipy_io.savemat(path, content(**changes))
    with pytest.raises(DataError, match=message):
        read_medlydb(path)


def test_a_file_without_the_structs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "medlydb.mat"
    scipy_io.savemat(path, {"TrainData": content()["TrainData"]})
    with pytest.raises(DataError, match="has no struct TestData of ptn, Labels and Tmax; expects"):
        read_medlydb(path)
    with pytest.raises(DataError, match=r"ask the authors.*medlydb\.mat: it expects structs"):
        data.load("medlydb", root=tmp_path / "nowhere")


# MAT files


def test_numbers_text_cells_and_structs_are_read_as_scipy_writes_them(tmp_path: Path) -> None:
    made = {
        f"n_{kind}": np.arange(6).reshape(2, 3).astype(kind)
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    }
    nested = np.empty((2, 2), object)
    nested[:] = [[np.array([[1.0]]), "two"], [np.zeros((0, 3)), np.array([[4, 5]])]]
    for packed in (False, True):
        path = tmp_path / f"{packed}.mat"
        scipy_io.savemat(
            path, {**made, "cell": nested, "inner": {"a": {"b": 7.0}}}, do_compression=packed
        )
        found = read_mat(path)
        for name, value in made.items():
            assert found[name].shape == (2, 3)
            assert np.array_equal(found[name], value)
        assert found["cell"].shape == (2, 2)
        assert found["cell"][0, 1] == "two"
        assert found["cell"][1, 0].shape == (0, 3)
        assert found["cell"][1, 1].tolist() == [[4, 5]]
        assert found["inner"]["a"]["b"].tolist() == [[7.0]]


def test_a_big_endian_file_is_read(tmp_path: Path) -> None:
    body = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 1, 1)
    body += struct.pack(">HH4s", 1, 1, b"x") + struct.pack(">IId", 9, 8, 2.5)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H2s", 0x0100, b"MI")
    path = tmp_path / "a.mat"
    path.write_bytes(head + struct.pack(">II", 14, len(body)) + body)
    assert read_mat(path)["x"].tolist() == [[2.5]]


@pytest.mark.parametrize("packed", [False, True], ids=["v6", "v7"])
def test_no_cut_of_a_mat_file_is_read(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, content(), do_compression=packed)
    whole = path.read_bytes()
    for size in (200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"a\.mat: is truncated or damaged|has no struct"):
            read_medlydb(path)


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    for start, message in (
        (b"MATLAB 7.3 MAT-file".ljust(512), "version 7.3"),
        (b"\x89HDF".ljust(512), "no MAT file of level 5"),
        (b"", "no MAT file of level 5"),
    ):
        path.write_bytes(start)
        with pytest.raises(DataError, match=message):
            read_mat(path)
    with pytest.raises(DataError, match="no such file"):
        read_mat(tmp_path / "absent.mat")


def test_what_is_no_number_text_cell_or_struct_is_refused(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    path = tmp_path / "a.mat"
    for value in (sparse.csc_matrix(np.eye(2)), np.array([[1j]]), np.zeros(2, [("a", "f8")])):
        scipy_io.savemat(path, {"x": value})
        with pytest.raises(DataError, match="the matrix 'x'"):
            read_mat(path)


def test_a_compressed_matrix_tells_its_size_truly(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, {"x": np.zeros((100, 100))}, do_compression=True)
    content = path.read_bytes()
    inner = bytearray(zlib.decompress(content[136:]))
    inner[4:8] = struct.pack("<I", 80)
    bad = zlib.compress(bytes(inner))
    path.write_bytes(content[:128] + struct.pack("<II", 15, len(bad)) + bad)
    with pytest.raises(DataError, match="longer than it says"):
        read_mat(path)
