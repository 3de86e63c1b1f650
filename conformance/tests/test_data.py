"""Data sets, and the order of batches."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from snnx import data, random
from snnx.data import Batches, DataError, Dataset
from tests.npz_files import ARRAYS, sequences


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
