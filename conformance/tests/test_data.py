"""Data sets, a user's .npz files, and the order of batches."""

import dataclasses
import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnx import data, random
from snnx.data import Batches, DataError, Dataset

ARRAYS: dict[str, Any] = {
    "x_train": np.arange(24, dtype=np.uint8).reshape(6, 2, 2),
    "y_train": np.array([0, 1, 2, 0, 1, 2]),
    "x_test": np.ones((2, 2, 2), np.uint8),
    "y_test": np.array([0, 3], np.int8),
}
SEQUENCES: dict[str, Any] = {
    "x_train": np.arange(5 * 4 * 3, dtype=np.float64).reshape(5, 4, 3),
    "y_train": np.array([0, 1, 0, 1]),
    "length_train": np.array([5, 1, 3, 2], np.uint8),
    "x_test": np.zeros((7, 2, 3)),
    "y_test": np.array([1, 0]),
    "length_test": np.array([7, 7]),
    "layout": np.array("TNF"),
}


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def sequences() -> Dataset:
    return Dataset(
        **{k: v for k, v in SEQUENCES.items() if k[:6] not in ("length", "layout")},
        name="sequences",
        layout="TNF",
        lengths_train=SEQUENCES["length_train"],
        lengths_test=SEQUENCES["length_test"],
    )


def test_digits_are_the_uci_images_with_their_split() -> None:
    digits = data.load("digits")
    assert digits.x_train.shape == (1347, 8, 8, 1)
    assert digits.x_test.shape == (450, 8, 8, 1)
    assert digits.x_train.dtype == np.float32
    values = np.concatenate([digits.x_train, digits.x_test])
    assert np.array_equal(np.unique(values), np.arange(17) / 16)
    classes = np.bincount(np.concatenate([digits.y_train, digits.y_test]))
    assert classes.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.abs(np.bincount(digits.y_test) - classes / 4).max() < 1
    assert (digits.label, digits.layout, digits.features, digits.classes) == (
        "real",
        "NF",
        (8, 8, 1),
        10,
    )
    assert "CC BY 4.0" in digits.licence
    assert digits.hash == "811562d0bec30dec88a90c14508a9bf1f58ad816ff147c6087eb6c8d21330a2f"
    assert digits.id == "digits@811562d0bec3"


def test_the_digits_file_is_small_and_holds_plain_arrays() -> None:
    path = Path(data.__file__).with_name("digits.npz")
    assert path.stat().st_size < 60_000
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["test", "x", "y"]
        assert archive["x"].dtype == np.uint8


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no data set 'digts'; did you mean 'digits'\?"):
        data.load("digts")


def test_hash_changes_with_any_value_dtype_or_layout_and_not_with_memory_order() -> None:
    made = Dataset(**ARRAYS, name="a")
    fortran = {**ARRAYS, "x_train": np.asfortranarray(ARRAYS["x_train"])}
    assert Dataset(**fortran, name="b").hash == made.hash
    big = {**ARRAYS, "y_train": ARRAYS["y_train"].astype(">i8")}
    assert Dataset(**big, name="b").hash == made.hash
    value = ARRAYS["x_train"].copy()
    value[5, 1, 1] += 1
    others = [
        Dataset(**{**ARRAYS, "x_train": value}, name="a"),
        Dataset(**{**ARRAYS, "x_train": ARRAYS["x_train"].astype(np.int16)}, name="a"),
        Dataset(**{**ARRAYS, "y_test": np.array([1, 3], np.int8)}, name="a"),
    ]
    assert len({made.hash, *(other.hash for other in others)}) == 4


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


def test_dataset_takes_numpy_arrays_only() -> None:
    with pytest.raises(DataError, match="y_test must be a NumPy array, got list"):
        Dataset(**{**ARRAYS, "y_test": [0, 1]}, name="a")
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'valid'"):
        Dataset(**ARRAYS, name="a").arrays("valid")  # type: ignore[arg-type]


def test_an_epoch_takes_each_sample_once_in_the_stream_s_order() -> None:
    digits = data.load("digits")
    batches = Batches(digits, "train", 100, seed=3)
    taken = list(batches.epoch(2))
    assert len(taken) == len(batches) == 14
    assert [len(batch["y"]) for batch in taken] == [100] * 13 + [47]
    order = np.concatenate([batch["index"] for batch in taken])
    assert np.array_equal(order, random.permutation(3, "shuffle", "train", 1347, 2))
    batch = taken[1]
    assert (batch["x"].dtype, batch["y"].dtype, batch["index"].dtype) == (
        np.float32,
        np.int64,
        np.uint32,
    )
    assert np.array_equal(batch["x"], digits.x_train[order[100:200]])
    assert np.array_equal(batch["y"], digits.y_train[order[100:200]])
    assert "length" not in batch


def test_a_batch_depends_on_seed_epoch_and_index_only() -> None:
    digits = data.load("digits")

    def indices(seed: int, epoch: int, start: int = 0) -> list[bytes]:
        batches = Batches(digits, "train", 128, seed=seed)
        return [batch["index"].tobytes() for batch in batches.epoch(epoch, start)]

    assert indices(0, 5) == indices(0, 5)
    assert indices(0, 5, 7) == indices(0, 5)[7:]
    assert indices(0, 5, 11) == []
    assert indices(0, 5) != indices(0, 6)
    assert indices(0, 5) != indices(1, 5)


def test_the_order_of_the_digits_never_changes() -> None:
    order = Batches(data.load("digits"), "train", 64).order(0).astype("<i8")
    assert hashlib.sha256(order.tobytes()).hexdigest() == ORDER_DIGEST


ORDER_DIGEST = "03e281ae918311d3826bb64b98006e6ed460d8e3a27dc8e9963ee90fabe2502d"


def test_unshuffled_batches_keep_the_order_of_the_data() -> None:
    batches = Batches(data.load("digits"), "test", 200, shuffle=False)
    order = np.concatenate([batch["index"] for batch in batches.epoch(9)])
    assert np.array_equal(order, np.arange(450))


def test_drop_last_leaves_the_short_batch_out() -> None:
    batches = Batches(data.load("digits"), "test", 200, drop_last=True)
    assert [len(batch["y"]) for batch in batches.epoch(0)] == [200, 200]
    assert len(batches) == 2


def test_sequences_keep_time_on_the_first_axis() -> None:
    dataset = sequences()
    (batch,) = Batches(dataset, "train", 4, seed=1).epoch(0)
    assert batch["x"].shape == (5, 4, 3)
    assert batch["x"].dtype == np.float32
    assert batch["x"].flags.c_contiguous
    assert np.array_equal(batch["x"], dataset.x_train[:, batch["index"]].astype(np.float32))
    assert dataset.lengths_train is not None
    assert "length" in batch
    assert np.array_equal(batch["length"], dataset.lengths_train[batch["index"]])


def test_batches_refuse_sizes_that_make_no_batch() -> None:
    dataset = Dataset(**ARRAYS, name="a")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Batches(dataset, "train", 0)
    with pytest.raises(ValueError, match="drop_last leaves no batch"):
        Batches(dataset, "test", 3, drop_last=True)
    with pytest.raises(ValueError, match=r"start must lie in 0 .. 2, got 3"):
        Batches(dataset, "train", 3).epoch(0, 3)


def test_more_data_sets_are_registered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataclasses.replace(sequences(), label="synthetic")
    mine = data.Entry(
        name="mine", title="mine", label="synthetic", licence="", read=lambda root: made
    )
    monkeypatch.setitem(data.DATASETS, "mine", mine)
    assert data.load("mine") is made


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
