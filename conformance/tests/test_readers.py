"""Readers of image files, on small files in the true layout, good and damaged."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from snnx import data
from snnx.data import Batches, DataError
from snnx.data.cifar import CIFAR10
from snnx.data.draws import Draws
from snnx.data.idx import PARTS, read_idx

PIXELS = (np.arange(5 * 28 * 28) % 251).astype(np.uint8).reshape(5, 28, 28)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, suffix: str = "", dotted: bool = False) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    arrays = (PIXELS[:3], np.array([0, 9, 1]), PIXELS[3:], np.array([2, 3]))
    for part, array in zip(PARTS.values(), arrays, strict=True):
        name = part.replace("-idx", ".idx") if dotted else part
        content = gzip.compress(idx(array), mtime=0) if suffix else idx(array)
        (root / f"{name}{suffix}").write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("suffix", "dotted", "folder"), [("", False, ""), (".gz", False, "raw"), ("", True, "data")]
)
def test_mnist_is_read_from_any_folder_gzipped_or_not(
    tmp_path: Path, suffix: str, dotted: bool, folder: str
) -> None:
    write_mnist(tmp_path / folder, suffix, dotted)
    found = data.load("mnist", root=tmp_path)
    assert np.array_equal(found.x_train[..., 0], PIXELS[:3])
    assert found.y_train.tolist() == [0, 9, 1]
    assert found.y_test.tolist() == [2, 3]
    assert (found.label, found.features, found.full_scale) == ("real", (28, 28, 1), 255.0)
    batch = next(iter(Batches(found, "train", 3, shuffle=False).epoch(0)))
    assert np.array_equal(batch["x"][..., 0], PIXELS[:3] / np.float32(255))


def damaged(content: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "truncated": (content[:-1], "truncated"),
        "longer": (content + b"\0", "goes on"),
        "no header": (content[:3], "truncated"),
        "other magic": (b"\1" + content[1:], "no IDX file"),
        "floats": (content[:2] + b"\x0d" + content[3:], "unsigned bytes"),
        "other axes": (content[:3] + b"\1" + content[4:], "3 axes"),
        "empty axis": (content[:4] + bytes(4) + content[8:], "empty"),
        "huge": (content[:4] + b"\xff\xff\xff\xff" * 3, "memory"),
        "cut gzip": (gzip.compress(content)[:-12], "truncated or damaged"),
        "broken gzip": (b"\x1f\x8b" + content, "truncated or damaged"),
    }


@pytest.mark.parametrize("damage", list(damaged(idx(PIXELS))))
def test_a_damaged_idx_file_is_named(tmp_path: Path, damage: str) -> None:
    content, message = damaged(idx(PIXELS))[damage]
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)


def test_mnist_checks_labels_and_counts(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = tmp_path / PARTS["y_train"]
    labels.write_bytes(idx(np.array([0, 10, 1])))
    with pytest.raises(DataError, match=r"0 \.\. 9, got 10 at 1"):
        data.load("mnist", root=tmp_path)
    labels.write_bytes(idx(np.array([0, 1])))
    with pytest.raises(DataError, match="2 labels for the 3 images"):
        data.load("mnist", root=tmp_path)


def write_cifar(root: Path, names: tuple[str, ...], label_bytes: int = 1) -> np.ndarray:
    root.mkdir(parents=True, exist_ok=True)
    planes = (np.arange(2 * 3 * 32 * 32) % 253).astype(np.uint8).reshape(2, 3, 32, 32)
    for i, name in enumerate(names):
        rows = [bytes([7] * (label_bytes - 1) + [i + n]) + planes[n].tobytes() for n in range(2)]
        (root / name).write_bytes(b"".join(rows))
    return planes


def test_cifar10_is_read_with_its_planes_last(tmp_path: Path) -> None:
    planes = write_cifar(tmp_path / "cifar-10-batches-bin", CIFAR10.train + CIFAR10.test)
    found = data.load("cifar10", root=tmp_path)
    assert found.x_train.shape == (10, 32, 32, 3)
    assert np.array_equal(found.x_train[:2], planes.transpose(0, 2, 3, 1))
    assert found.y_train.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert found.y_test.tolist() == [5, 6]


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    write_cifar(tmp_path, ("train.bin", "test.bin"), 2)
    found = data.load("cifar100", root=tmp_path)
    assert found.y_train.tolist() == [0, 1]
    assert found.y_test.tolist() == [1, 2]


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-py"])
def test_the_python_version_of_cifar_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "data_batch_1").write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(DataError, match=r"never loaded.*cifar-10-binary\.tar\.gz"):
        data.load("cifar10", root=tmp_path)


def test_a_cut_or_mislabelled_cifar_file_is_named(tmp_path: Path) -> None:
    write_cifar(tmp_path, CIFAR10.train + CIFAR10.test)
    path = tmp_path / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: must be records of 3073 bytes"):
        data.load("cifar10", root=tmp_path)
    path.write_bytes(bytes([10]) + whole[1:])
    with pytest.raises(DataError, match=r"0 \.\. 9, got 10 in record 0"):
        data.load("cifar10", root=tmp_path)


def save_image(path: Path, value: int, size: tuple[int, int] = (64, 64)) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(np.full((*size, 3), value, np.uint8)).save(path, "PNG")


def write_tiny(root: Path) -> None:
    for wnid, value in (("n02", 20), ("n01", 10)):
        for i in range(2):
            save_image(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", value + i)
    save_image(root / "val" / "images" / "val_0.JPEG", 77)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t62\t62\n")
    (root / "wnids.txt").write_text("n02\nn01\n")


def test_tiny_imagenet_is_read_lazily_and_whole(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny-imagenet-200")
    lazy = data.source("tiny-imagenet", root=tmp_path)
    assert isinstance(lazy, data.Lazy)
    assert lazy.features == (64, 64, 3)
    batch = next(iter(Batches(lazy, "train", 4, shuffle=False).epoch(0)))
    assert (batch["x"][:, 0, 0, 0] * 255).round().tolist() == [10, 11, 20, 21]
    assert batch["y"].tolist() == [0, 0, 1, 1]
    whole = data.load("tiny-imagenet", root=tmp_path)
    assert whole.y_test.tolist() == [1]
    assert whole.x_test[0, 0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_0.JPEG\tn09\t0\n", "line 1"),
        ("../x.JPEG\tn01\n", "line 1"),
        ("a.JPEG\tn01\n", "missing"),
    ],
)
def test_bad_val_annotations_are_named(tmp_path: Path, line: str, message: str) -> None:
    write_tiny(tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text(line)
    with pytest.raises(DataError, match=message):
        data.load("tiny-imagenet", root=tmp_path)


def write_imagenet(root: Path) -> None:
    for part in ("train", "val"):
        for i, wnid in enumerate(("n01", "n02")):
            save_image(root / part / wnid / "a.JPEG", 10 * i + 5, (40, 60))


def test_imagenet_crops_by_draws_in_training_only(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    lazy = data.source("imagenet", root=tmp_path, side=28)
    assert lazy.hash == data.source("imagenet", root=tmp_path, side=28).hash
    x, y, _ = lazy.take("test", Draws(0, 0, np.arange(2), "test"))
    assert x.shape == (2, 28, 28, 3)
    assert x.dtype == np.uint8
    assert y.tolist() == [0, 1]
    assert set(x[1].ravel()) == {15}
    batches = Batches(lazy, "train", 2, seed=3, augment=data.augmentation("imagenet", "imagenet"))
    assert next(iter(batches.epoch(0)))["x"].shape == (2, 28, 28, 3)
    with pytest.raises(DataError, match="draws its samples anew"):
        data.load("imagenet", root=tmp_path)


def test_folders_that_are_no_imagenet_are_named(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    save_image(tmp_path / "val" / "n07" / "a.JPEG", 0)
    with pytest.raises(DataError, match="train has no class 'n07'"):
        data.source("imagenet", root=tmp_path)
    (tmp_path / "val" / "n07" / "a.JPEG").unlink()
    (tmp_path / "val" / "n07").rmdir()
    (tmp_path / "val" / "n02" / "a.JPEG").write_bytes(b"\xff\xd8\xff\xe0 no image")
    lazy = data.source("imagenet", root=tmp_path)
    with pytest.raises(DataError, match=r"n02.*a\.JPEG: cannot be decoded"):
        lazy.take("test", Draws(0, 0, np.arange(2), "test"))
