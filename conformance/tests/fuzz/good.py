"""Small good files of every kind that a reader takes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import snnx
from snnx import checkpoint as checkpoints
from snnx.backend import Snapshot
from snnx.checkpoint import Checkpoint
from snnx.checkpoint_files import as_text, digest
from snnx.data import Dataset
from snnx.data.cifar import CIFAR10, PIXELS
from snnx.data.npz import to_npz
from snnx.training.recipe import recipe_folder

HEADER = (b"'<f8'", b"'|O'", b"(4, 3)", b"(9999999999999,)", b"(-1, 3)", b"(", b"'", b"\\", b"1")
TABLE = (b",", b"\n", b"-1", b"9" * 30)
TOML = (b"[", b"]", b"=", b"nan", b"1979-05-27", b'"x.npz"', b"[[a]]", b"a.b", b"9" * 400, b"true")
TS = (b":", b",", b"@data", b"@classLabel true", b"nan", b"1e999", b"?", b"@timestamps true")
NAMES = (b"../", b"/etc/", b"..", b"\\", b":", b"\0", b"2", b"1", b"PK\x01\x02", b"PK\x05\x06")
MODEL = snnx.Chain(
    snnx.Input(2, 2, 1),
    snnx.Conv2d(2, 1),
    snnx.BatchNorm(),
    snnx.LIF(threshold=snnx.Learned(1.0, low=0.1), surrogate=snnx.Dspike()),
    snnx.Residual(snnx.Chain(snnx.Conv2d(2, 1), snnx.LIF())),
    snnx.Flatten(),
    snnx.Linear(2),
)


@cache
def models() -> tuple[bytes, ...]:
    """Model files: a net of every kind of number, and a short one."""
    short = snnx.Chain(snnx.Input(4), snnx.Linear(3), snnx.LIF())
    return tuple(snnx.dumps(model).encode() for model in (MODEL, short))


@cache
def recipes() -> tuple[bytes, ...]:
    """Shipped recipes with tables, stages and undetermined sentences."""
    names = ("digits", "tet/cifar10-resnet19-t4", "asgl/dvs-gesture-vggsnn")
    return tuple((recipe_folder() / f"{name}.toml").read_bytes() for name in names)


@cache
def checkpoint() -> Checkpoint:
    """A checkpoint of a small net."""
    weights = {"1.weight": np.arange(6, dtype=np.float32).reshape(3, 2), "1.bias": np.ones(3, "f")}
    moments = {f"{k}.first": v + 1 for k, v in weights.items()}
    model = snnx.Chain(snnx.Input(2), snnx.Linear(3), snnx.LIF())
    snapshot = Snapshot(weights, {}, moments, 3)
    config = {"recipe": {"T": 4}, "place": {"backend": "numpy"}, "data": {"id": "x", "hash": "y"}}
    return Checkpoint(model, snapshot, 1, 2, 3, 7, {"lr": 0.1}, {"loss": 1 / 3}, config)


@cache
def checkpoint_files() -> Mapping[str, bytes]:
    """The four files of the checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "c"
        checkpoints.write(folder, checkpoint())
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def sealed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files with hashes that agree with them, as a forger would write them."""
    found = dict(files)
    with suppress(ValueError, TypeError, AttributeError, RecursionError):  # nothing to be sealed
        state = json.loads(found[checkpoints.STATE])
        state["sha256"] = {k: digest(v) for k, v in found.items() if k != checkpoints.STATE}
        state.pop("own_sha256", None)
        found[checkpoints.STATE] = as_text({**state, "own_sha256": digest(as_text(state))})
    return found


def digest_of(found: Checkpoint) -> str:
    """Return one hash of all that a checkpoint holds."""
    text = hashlib.sha256(snnx.dumps(found.model).encode())
    for arrays in (found.snapshot.parameters, found.snapshot.statistics, found.snapshot.moments):
        for name, value in sorted(arrays.items()):
            text.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    rest = (found.snapshot.count, found.epoch, found.batch, found.step, found.seed)
    tables = [json.dumps(t, sort_keys=True) for t in (found.dials, found.totals, found.config)]
    text.update(repr((rest, tables)).encode())
    return text.hexdigest()


@cache
def records() -> tuple[bytes, ...]:
    """A record of two cases on one backend."""
    case = {"status": "passed", "compared": 3, "total": 3, "error": 0.0, "message": ""}
    cases = {"ops/a": {**case, "digest": "ab"}, "ops/b": {**case, "digest": ""}}
    content: dict[str, Any] = {
        "format": 1,
        "spec": "ab" * 32,
        "quick": False,
        "environment": {"snnx": "0"},
        "backends": {"numpy": {"describe": {"numpy": "2"}, "cases": cases}},
    }
    return (json.dumps(content, indent=1).encode(),)


@cache
def runs() -> tuple[bytes, ...]:
    """Rows of figures."""
    row = {"epoch": 1, "step": 3, "loss": 0.5, "test_accuracy": 0.25, "dials": {"lr": 0.1}}
    lines = [{**row, "epoch": i, "rates": {"2": 0.1}, "seconds": 0.1} for i in range(1, 5)]
    return ("".join(json.dumps(line) + "\n" for line in lines).encode(),)


@cache
def aedat2() -> tuple[bytes, ...]:
    """AEDAT 2, plain and gzipped."""
    words = [w for t in range(9) for w in (t << 8 | (127 - t) << 1 | (1 - t % 2), 10 * t)]
    plain = b"#!AER-DAT2.0\r\n# a test\r\n" + struct.pack(f">{len(words)}I", *words)
    return plain, gzip.compress(plain, mtime=0)


@cache
def aedat3() -> tuple[bytes, ...]:
    """AEDAT 3.1 with a special packet and one of polarity events."""
    words = [w for t in range(5) for w in (t << 17 | t << 2 | t % 2 << 1 | 1, 10 * t)]
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    special = struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    events = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 5, 5, 5) + struct.pack("<10I", *words)
    return (head + special + events,)


def gesture() -> tuple[bytes, ...]:
    """A table of labels."""
    return (b"class,startTime_usec,endTime_usec\n1,0,2000000\n11,2000000,4000000\n",)


@cache
def shd() -> tuple[bytes, ...]:
    """SHD's layout, as lists of their own length, stored plainly and compressed."""
    import h5py

    found = []
    for packed in (False, True):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "a.h5"
            options = {"compression": "gzip", "chunks": (2,)} if packed else {}
            with h5py.File(path, "w") as file:
                for key, kind in (("times", np.float32), ("units", np.uint16)):
                    shape = {"shape": (3,), "dtype": h5py.vlen_dtype(kind)}
                    part = file.create_dataset(f"spikes/{key}", **shape, **options)
                    for i in range(3):
                        part[i] = np.arange(i + 1, dtype=kind)
                file.create_dataset("labels", data=np.arange(3, dtype=np.uint16))
            found.append(path.read_bytes())
    return tuple(found)


def ts() -> tuple[bytes, ...]:
    """Two series of two dimensions."""
    return (b"@problemName a\n@classLabel true 1 2\n@data\n1,2,3:4,5,6:1\n7,8:9,1:2\n",)


@cache
def mat() -> tuple[bytes, ...]:
    """MAT files with numbers, text, cells and a struct, plain and compressed."""
    from scipy.io import savemat

    cells = np.empty((2, 2), object)
    cells[:] = [[np.arange(3.0), np.zeros((0, 0))], [np.array([[1.5]]), np.arange(2, dtype="u1")]]
    content = {"a": {"ptn": cells, "Labels": np.array([[1.0, 2.0]]), "Tmax": 3.0}, "b": "text"}
    found = []
    for packed in (False, True):
        file = io.BytesIO()
        savemat(file, content, do_compression=packed)
        found.append(file.getvalue())
    return tuple(found)


@cache
def idx() -> tuple[bytes, ...]:
    """Two images, plain and gzipped."""
    plain = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4) + bytes(range(24))
    return plain, gzip.compress(plain, mtime=0)


def cifar() -> tuple[bytes, ...]:
    """Two records."""
    return (bytes([3]) + bytes(PIXELS) + bytes([CIFAR10.classes - 1]) + bytes(PIXELS),)


@cache
def dataset() -> Dataset:
    """Four samples."""
    x, y = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4) % 2
    return Dataset(x, y, x + 1, y, name="input", label="synthetic")


@cache
def member() -> bytes:
    """The array x_train as its member of the archive."""
    with zipfile.ZipFile(io.BytesIO(npz()[0])) as file:
        return file.read("x_train.npy")


def npz_with(content: bytes) -> bytes:
    """Return the archive with another x_train, under a checksum that agrees."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz()[0])) as old, zipfile.ZipFile(found, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == "x_train.npy" else old.read(name))
    return found.getvalue()


@cache
def npz() -> tuple[bytes, ...]:
    """The same in a file."""
    with tempfile.TemporaryDirectory() as name:
        return (to_npz(dataset(), Path(name) / "input.npz").read_bytes(),)


@cache
def archives() -> tuple[bytes, ...]:
    """Archives of two files: zip, tar, tar.gz, tar.bz2, tar.xz, and a zip of each compression."""
    content = {"a/one.txt": b"1" * 40, "two.txt": b"2"}
    found = []
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as file:
            for name, data in content.items():
                file.writestr(zipfile.ZipInfo(name), data, method)
        found.append(packed.getvalue())
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode=mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
            for name, data in {**content, "n" * 120: b"3"}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        found.append(packed.getvalue())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("g" * 120))
    return (*found, packed.getvalue())


def archive_of(names: bytes, kind: int) -> bytes:
    """Return a whole archive of files of these names: zip, tar, tar.gz, or a tar of links."""
    lines = [line[: 2**15 - 1] for line in names.decode("latin-1").split("\n") if line]  # a zip's
    packed = io.BytesIO()
    if kind % 4 == 0:
        with zipfile.ZipFile(packed, "w") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a name that comes twice
            for i, name in enumerate(lines):
                info = zipfile.ZipInfo(name)
                info.filename = name  # as it is, which the constructor would mend
                info.external_attr = (0o100777 if i else 0o100644) << 16
                file.writestr(info, b"x" * i)
        return packed.getvalue()
    mode: Any = "w:gz" if kind % 4 == 1 else "w"
    with tarfile.open(fileobj=packed, mode=mode, format=tarfile.GNU_FORMAT) as tar:
        for i, name in enumerate(lines):
            info = tarfile.TarInfo(name)
            info.mode = 0o777
            if kind % 4 == 3 and i:
                info.type = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)[i % 3]
                info.linkname = lines[0]
                tar.addfile(info)
            else:
                info.size = i
                tar.addfile(info, io.BytesIO(b"x" * i))
    return packed.getvalue()


@cache
def images() -> tuple[bytes, ...]:
    """A small picture as PNG and as JPEG."""
    from PIL import Image

    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    found = []
    for form in ("PNG", "JPEG"):
        packed = io.BytesIO()
        picture.save(packed, form)
        found.append(packed.getvalue())
    return tuple(found)
