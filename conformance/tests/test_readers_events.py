"""Readers of event, spike and series files, on small files in the true layout, good and damaged."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnx import data
from snnx.data import Batches, DataError
from snnx.data.aedat import read_aedat2, read_aedat3, read_gesture_labels
from snnx.data.draws import Draws
from snnx.data.recordings import CIFAR10_CLASSES
from snnx.data.shd import lists, read_shd
from snnx.data.ts import read_ts


def aedat2(events: list[tuple[int, int, int, int]]) -> bytes:
    """(t, x, y, p) as the sensor's chip writes them."""
    words = [w for t, x, y, p in events for w in (y << 8 | (127 - x) << 1 | (1 - p), t)]
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# created by a test\r\n"
    return header + struct.pack(f">{len(words)}I", *words)


def aedat3(events: list[tuple[int, int, int, int]], overflow: int = 0) -> bytes:
    """The same as a special packet, and a polarity packet whose last event is invalid."""
    words = [w for t, x, y, p in events for w in (x << 17 | y << 2 | p << 1 | 1, t)]
    words += [5 << 17 | 5 << 2, 9]
    header = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    count = len(words) // 2
    special = struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    polarity = struct.pack("<HHIIIIII", 1, 1, 8, 4, overflow, count + 3, count, count - 1)
    return header + special + polarity + struct.pack(f"<{len(words)}I", *words)


EVENTS = [(0, 0, 0, 1), (10, 127, 0, 0), (20, 3, 127, 1), (30, 64, 65, 0), (40, 35, 35, 1)]


@pytest.mark.parametrize(("write", "read"), [(aedat2, read_aedat2), (aedat3, read_aedat3)])
def test_aedat_bits_are_unpacked(tmp_path: Path, write: Any, read: Any) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(write(EVENTS))
    found = read(path)
    assert list(zip(found.t, found.x, found.y, found.p, strict=True)) == EVENTS
    path.write_bytes(write(EVENTS)[:-3])
    with pytest.raises(DataError, match=r"a\.aedat: is truncated"):
        read(path)
    path.write_bytes(b"#!AER-DAT1.0\r\n")
    with pytest.raises(DataError, match="is no AEDAT"):
        read(path)


def test_aedat3_counts_overflows_of_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat3(EVENTS, overflow=2))
    assert read_aedat3(path).t.tolist() == [t + 2**32 for t, *_ in EVENTS]


def test_impossible_aedat_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat2([(0, 0, 0, 1)])[:-8] + struct.pack(">II", 1 << 20, 0))
    with pytest.raises(DataError, match="address 0x100000"):
        read_aedat2(path)
    path.write_bytes(aedat3([(0, 128, 0, 1)]))
    with pytest.raises(DataError, match="x = 128"):
        read_aedat3(path)
    head = aedat3([]).partition(b"#!END-HEADER\r\n")
    huge = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(head[0] + head[1] + huge)
    with pytest.raises(DataError, match=r"memory|truncated"):
        read_aedat3(path)
    path.write_bytes(head[0] + head[1] + struct.pack("<HHIIIIII", 1, 1, 0, 4, 0, 1, 1, 0))
    with pytest.raises(DataError, match="cannot be"):
        read_aedat3(path)


def write_dvs_cifar10(root: Path, recordings: int) -> None:
    for label, word in enumerate(CIFAR10_CLASSES):
        (root / word).mkdir(parents=True)
        for i in range(recordings):
            events = [(t, (i + t) % 128, label, t % 2) for t in range(40)]
            (root / word / f"cifar10_{word}_{i}.aedat").write_bytes(aedat2(events))


def test_dvs_cifar10_splits_each_class_by_number(tmp_path: Path) -> None:
    write_dvs_cifar10(tmp_path, 11)
    lazy = data.source("dvs-cifar10", root=tmp_path)
    assert isinstance(lazy, data.Lazy)
    assert (lazy.size("train"), lazy.size("test")) == (90, 20)
    assert [path.name for path in lazy.items_test[:2]] == [
        "cifar10_airplane_9.aedat",
        "cifar10_airplane_10.aedat",
    ]
    batch = next(iter(Batches(lazy, "train", 3).epoch(0)))
    assert batch["x"].shape == (10, 3, 48, 48, 2)
    other = data.source("dvs-cifar10", root=tmp_path, framing="dsr_dvs")
    assert other.take("test", Draws(0, 0, np.arange(1), "test"))[0].shape == (20, 1, 48, 48, 2)
    assert other.hash != lazy.hash


def write_gesture(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for user in ("user01_led", "user02_lab"):
        events = [(t, t // 1000 % 128, 5, 1) for t in range(0, 4_000_000, 10_000)]
        (root / f"{user}.aedat").write_bytes(aedat3(events))
        (root / f"{user}_labels.csv").write_text(
            "class,startTime_usec,endTime_usec\n1,0,2000000\n11,2000000,4000000\n"
        )
    (root / "trials_to_train.txt").write_text("user01_led.aedat\n\n")
    (root / "trials_to_test.txt").write_text("user02_lab.aedat\n")


def test_dvs_gesture_is_cut_by_its_labels(tmp_path: Path) -> None:
    write_gesture(tmp_path / "DvsGesture")
    lazy = data.source("dvs-gesture", root=tmp_path)
    assert (lazy.size("train"), lazy.size("test"), lazy.classes) == (2, 2, 11)
    x, y, _ = lazy.take("test", Draws(0, 0, np.arange(2), "test"))
    assert x.shape == (60, 2, 128, 128, 2)
    assert y.tolist() == [0, 10]
    # Every 25 ms slice holds an event on two or three pixels.
    assert set(x.sum(axis=(2, 3, 4)).ravel().tolist()) == {2, 3}
    with pytest.raises(DataError, match="draws its samples anew"):
        data.load("dvs-gesture", root=tmp_path)


@pytest.mark.parametrize("row", ["0,1,2", "12,1,2", "1,5,5", "1,2", "x,1,2"])
def test_a_bad_gesture_label_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"class,startTime_usec,endTime_usec\n1,0,5\n{row}\n")
    with pytest.raises(DataError, match="line 3"):
        read_gesture_labels(path)


def write_shd(path: Path, **changes: Any) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    content: dict[str, Any] = {
        "times": [[0.0, 0.0058, 0.006, 1.5], [], [0.1]],
        "units": [[0, 699, 699, 5], [], [3]],
        "labels": [19, 0, 7],
        **changes,
    }
    with h5py.File(path, "w") as file:
        for key, kind in (("times", np.float16), ("units", np.uint16)):
            made = file.create_dataset(f"spikes/{key}", (3,), h5py.vlen_dtype(kind))
            for n, values in enumerate(content[key]):
                made[n] = np.array(values, kind)
        file["labels"] = np.array(content["labels"], np.uint16)


def test_shd_counts_spikes_in_bins(tmp_path: Path) -> None:
    for name in ("shd_train.h5", "shd_test.h5"):
        write_shd(tmp_path / name)
    found = data.load("shd", root=tmp_path)
    assert found.x_train.shape == (250, 3, 700)
    assert found.y_train.tolist() == [19, 0, 7]
    assert found.x_train.sum() == 4  # the spike at 1.5 s lies after the last bin
    assert found.x_train[1, 0, 699] == 2
    assert data.load("shd", root=tmp_path, clip=True).x_train.max() == 1
    assert data.load("shd", root=tmp_path, steps=20, width=0.1).x_train.sum() == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": [[0, 700, 1, 5], [], [3]]}, "699"),
        ({"units": [[0, 1, 5], [], [3]]}, "other numbers"),
        ({"labels": [20, 0, 7]}, r"0 \.\. 19"),
        ({"labels": [1, 0]}, "equally long"),
        ({"times": [[0.0, -1.0, 0.0, 0.0], [], [0.1]]}, "negative"),
        ({"times": [[0.0, float("nan"), 0.0, 0.0], [], [0.1]]}, "not finite"),
    ],
)
def test_bad_shd_content_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "shd_train.h5"
    write_shd(path, **changes)
    with pytest.raises(DataError, match=message):
        lists(path)


def test_a_cut_or_linked_shd_file_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path, other = tmp_path / "a.h5", tmp_path / "b.h5"
    write_shd(path)
    other.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"b\.h5: is no HDF5 file, truncated"):
        read_shd(other)
    with h5py.File(path, "a") as file:
        del file["labels"]
        file["labels"] = h5py.ExternalLink("/etc/passwd", "/labels")
    with pytest.raises(DataError, match="lacks labels, stored in the file itself"):
        read_shd(path)


TS_HEADER = (
    "# JapaneseVowels\n@problemName JapaneseVowels\n@timeStamps false\n@classLabel true a b\n"
)


def write_vowels(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "JapaneseVowels_TRAIN.ts").write_text(
        f"{TS_HEADER}@data\n1,2,3:-1,-2,-3:b\n4,5:0.5,1e-3:a\n"
    )
    (root / "JapaneseVowels_TEST.ts").write_text(f"{TS_HEADER}@data\n1,2,3,4:5,6,7,8:a\n")


def test_vowels_keep_their_lengths(tmp_path: Path) -> None:
    write_vowels(tmp_path)
    found = data.load("japanese-vowels", root=tmp_path)
    assert (found.layout, found.x_train.shape, found.x_test.shape) == ("TNF", (4, 2, 2), (4, 1, 2))
    assert found.lengths_train is not None
    assert found.lengths_train.tolist() == [3, 2]
    assert found.y_train.tolist() == [1, 0]
    assert found.x_train[:, 1].tolist() == [[4, 0.5], [5, np.float32(1e-3)], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2:3:a", "line 7: the dimensions must be equally long"),
        ("1,2:a", "line 7: has 1 dimensions"),
        ("1,?:3,4:a", "line 7: could not convert"),
        ("1,2:3,4:c", "line 7: the class 'c'"),
        ("1,2:3,4", "line 7: the class"),
        ("1,inf:3,4:a", "line 7: holds a value"),
        ("@\n1,2", "line 8: the class '1,2'"),
    ],
)
def test_a_bad_line_of_a_series_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.ts"
    path.write_text(f"{TS_HEADER}@data\n1,2:3,4:a\n{line}\n")
    with pytest.raises(DataError, match=message):
        read_ts(path)
    path.write_text(f"{TS_HEADER}1,2:3,4:a\n")
    with pytest.raises(DataError, match="must follow"):
        read_ts(path)
