"""A user's .npz files: what they may hold, and what of them is refused."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from snnx import data
from snnx.data import DataError, Dataset
from tests.npz_files import ARRAYS, SEQUENCES, sequences, write


def test_npz_holds_static_arrays(tmp_path: Path) -> None:
    made = data.load(str(write(tmp_path / "mine.npz", ARRAYS)))
    assert (made.name, made.label, made.layout) == ("mine", "unstated", "NF")
    assert (made.features, made.classes) == ((2, 2), 4)
    assert made.hash == Dataset(**ARRAYS, name="other").hash


def test_npz_holds_padded_sequences(tmp_path: Path) -> None:
    made = data.from_npz(
        write(tmp_path / "mine.npz", {**SEQUENCES, "label": np.array("synthetic")})
    )
    assert (made.layout, made.label, made.features) == ("TNF", "synthetic", (3,))
    assert made.hash == sequences().hash
    assert (made.size("train"), made.size("test")) == (4, 2)


NAN = np.ones((6, 2, 2))
NAN[4, 1, 0] = np.nan
BAD_ARRAYS = {
    "object": ({"x_train": np.array([[None]] * 6)}, r"Python objects \(a pickle\)"),
    "text": ({"x_train": np.array([["a"]] * 6)}, "x_train must hold real numbers, got dtype <U1"),
    "complex": ({"x_test": np.ones((2, 2, 2), complex)}, "x_test must hold real numbers"),
    "nan": ({"x_train": NAN}, r"x_train holds nan at position \(4, 1, 0\)"),
    "infinity": ({"x_test": np.full((2, 2, 2), -np.inf)}, r"holds -inf at position \(0, 0, 0\)"),
    "beyond float32": ({"x_test": np.full((2, 2, 2), 1e39)}, "not a finite float32"),
    "one axis": ({"x_train": np.ones(6)}, r"must be \[N, \*F\] with at least 2 axes"),
    "no samples": (
        {"x_test": np.ones((0, 2, 2)), "y_test": np.ones(0, int)},
        r"x_test is empty: shape \(0, 2, 2\)",
    ),
    "no features": ({"x_test": np.ones((2, 0))}, "x_test is empty"),
    "no steps": (
        {"x_test": np.ones((0, 2, 2)), "layout": np.array("TNF")},
        "x_t.* is empty|one label",
    ),
    "other features": ({"x_test": np.ones((2, 3))}, r"features \(2, 2\) and x_test \(3,\)"),
    "too few labels": ({"y_train": np.zeros(5, int)}, r"y_train must be \[6\], one label for each"),
    "one-hot labels": ({"y_test": np.eye(2, dtype=int)}, r"y_test must be \[2\]"),
    "float labels": ({"y_test": np.zeros(2)}, "y_test must hold integer class labels, got dtype"),
    "negative label": ({"y_test": np.array([0, -1])}, "negative label -1 at position 1"),
    "lengths of static data": ({"length_test": np.ones(2, int)}, "static layout 'NF'"),
    "layout": ({"layout": np.array("NTF")}, "layout must be 'NF'"),
    "layout as list": ({"layout": np.array(["NF"])}, "layout must be one word"),
    "label": ({"label": np.array("made up")}, "label must be one of real"),
    "unknown key": ({"lenght_train": np.ones(6)}, "unknown key lenght_train; known are"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_npz_names_what_is_wrong_with_an_array(name: str, tmp_path: Path) -> None:
    change, message = BAD_ARRAYS[name]
    path = write(tmp_path / "bad.npz", {**ARRAYS, **change})
    with pytest.raises(DataError, match=message):
        data.from_npz(path)


BAD_LENGTHS = {
    "zero": np.array([0, 7]),
    "too long": np.array([7, 8]),
    "wrong number": np.array([7]),
    "floats": np.array([1.0, 2.0]),
}


@pytest.mark.parametrize("name", BAD_LENGTHS)
def test_lengths_must_fit_their_sequences(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.npz", {**SEQUENCES, "length_test": BAD_LENGTHS[name]})
    with pytest.raises(DataError, match="lengths_test must"):
        data.from_npz(path)


def test_npz_names_missing_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.npz", {"x_train": ARRAYS["x_train"], "y_test": ARRAYS["y_test"]})
    with pytest.raises(DataError, match="lacks y_train, x_test; it has x_train, y_test"):
        data.from_npz(path)


def test_npz_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        data.from_npz(tmp_path / "absent.npz")
    with pytest.raises(DataError, match="cannot be read"):
        data.from_npz(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip", pickle.dumps({"x_train": 1})])
def test_npz_must_be_an_archive(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is not an \.npz archive"):
        data.from_npz(path)


def test_npz_with_a_pickle_inside_is_refused_and_not_run(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.npz", ARRAYS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("layout.npy", pickle.dumps("NF"))
    with pytest.raises(DataError, match="layout is no array"):
        data.from_npz(path)


def test_npz_with_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.npz", ARRAYS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"readme\.txt is no array"):
        data.from_npz(path)


def test_npz_that_claims_an_absurd_shape_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.npz", ARRAYS)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("layout.npy", content)
    with pytest.raises(DataError, match=r"bad\.npz"):
        data.from_npz(path)


def test_npz_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.npz", ARRAYS).read_bytes()
    path = tmp_path / "cut.npz"
    for size in range(4, len(content), 37):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="truncated or damaged"):
            data.from_npz(path)


def test_npz_with_a_flipped_bit_is_refused_or_unchanged(tmp_path: Path) -> None:
    whole = data.from_npz(write(tmp_path / "whole.npz", ARRAYS))
    content = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "flipped.npz"
    refused = 0
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            made = data.from_npz(path)
        except DataError:
            refused += 1
        else:  # a bit of a time stamp or of another field that carries no data
            assert made.hash == whole.hash
    assert refused > len(content) / 3 / 2


def test_a_data_set_written_as_npz_comes_back(tmp_path: Path) -> None:
    bytes_of_images = Dataset(
        **ARRAYS, name="a", label="real", full_scale=255.0, source="there", licence="CC0"
    )
    for made in (sequences(), bytes_of_images):
        found = data.from_npz(data.to_npz(made, tmp_path / "made.npz"))
        assert found.hash == made.hash
        assert (found.label, found.layout) == (made.label, made.layout)
        assert (found.source, found.licence) == (made.source, made.licence)
    with pytest.raises(DataError, match=r"must end in \.npz"):
        data.to_npz(made, tmp_path / "made.txt")
    with pytest.raises(DataError, match="full_scale must be one number"):
        data.from_npz(write(tmp_path / "a.npz", {**ARRAYS, "full_scale": np.ones(2)}))
    with pytest.raises(DataError, match="full_scale must be a positive number"):
        data.from_npz(write(tmp_path / "a.npz", {**ARRAYS, "full_scale": np.array(0.0)}))
