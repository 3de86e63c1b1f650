"""Checkpoints: a folder of safetensors and JSON that any backend writes and reads.

    model.safetensors          weights and statistics by path, in the canonical layout
    train_state.safetensors    moments of the optimiser, named PATH.MOMENT
    config.json                the model and how it is trained
    train_state.json           position in the run, dials, spec hash, SHA-256 of the other files

A checkpoint is written into a temporary folder, flushed, and renamed; the one before it is kept as
`previous`. So a run that is killed, or a disk that is full, leaves one that can be read. Arrays are
float32 (float64 from the oracle, whose bits are kept). Reading executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snnx import serial
from snnx.backend import Snapshot
from snnx.serial import SerialError

FORMAT = 1
LAST, PREVIOUS = "last", "previous"
MODEL, MOMENTS, CONFIG, STATE = (
    "model.safetensors",
    "train_state.safetensors",
    "config.json",
    "train_state.json",
)


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not one of this model and this snnx."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run needs to go on: the model, the session's snapshot, the place in the run.

    epoch and batch are those that come next, step the count of updates; `totals` are sums of the
    running epoch. `config` is what made the run, as JSON values.
    """

    model: Any
    snapshot: Snapshot
    epoch: int = 0
    batch: int = 0
    step: int = 0
    seed: int = 0
    dials: Mapping[str, float] = field(default_factory=dict)
    totals: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def spec_hash() -> str:
    """Return the identity of the op table by which this snnx computes."""
    from snnx import ops

    return ops.SPEC_HASH


def save(root: Path, checkpoint: Checkpoint) -> Path:
    """Write `root/last` in one rename and keep the old one as `root/previous`; return `last`.

    Raises: OSError, with what was there before untouched.
    """
    root.mkdir(parents=True, exist_ok=True)
    fresh = root / f".writing-{os.getpid()}"
    last, previous = root / LAST, root / PREVIOUS
    try:
        write(fresh, checkpoint)
        if last.exists():
            if previous.exists():
                shutil.rmtree(previous)
            last.rename(previous)
        fresh.rename(last)
        _flush_folder(root)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return last


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the files of a checkpoint into a new folder and flush them to the disk."""
    from safetensors.numpy import save as to_bytes

    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    snapshot = checkpoint.snapshot
    header = {"spec_hash": spec_hash()}  # one key: safetensors gives several no fixed order
    arrays = {**snapshot.parameters, **snapshot.statistics}
    config = {
        "format": FORMAT,
        "model": serial.encode(checkpoint.model),
        "parameters": sorted(snapshot.parameters),
        "statistics": sorted(snapshot.statistics),
        "run": dict(checkpoint.config),
    }
    contents = {
        MODEL: to_bytes(_stored(arrays), header),
        MOMENTS: to_bytes(_stored(snapshot.moments), header),
        CONFIG: _text(config),
    }
    state = {
        "format": FORMAT,
        "spec_hash": spec_hash(),
        "count": snapshot.count,
        "epoch": checkpoint.epoch,
        "batch": checkpoint.batch,
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "dials": dict(checkpoint.dials),
        "totals": dict(checkpoint.totals),
        "sha256": {name: _digest(content) for name, content in contents.items()},
    }
    contents[STATE] = _text({**state, "own_sha256": _digest(_text(state))})
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _flush_folder(folder)


def load(place: str | Path, warn: Callable[[str], None]) -> Checkpoint:
    """Return the newest checkpoint that is whole, of a run, its `checkpoints` or one folder.

    Where `last` is damaged, `previous` is read and `warn` is told. Raises: CheckpointError.
    """
    place = Path(place)
    if (place / MODEL).exists() or (place / STATE).exists():
        return read(place)
    root = place / "checkpoints" if (place / "checkpoints").is_dir() else place
    found = [root / name for name in (LAST, PREVIOUS) if (root / name).is_dir()]
    if not found:
        raise CheckpointError(
            f"{place}: holds no checkpoint; name a run like runs/latest, or a folder with {MODEL}"
        )
    for older in found[1:]:
        try:
            return read(found[0])
        except CheckpointError as error:
            warn(f"{error}; going on with the checkpoint before it, {older}")
            return read(older)
    return read(found[0])


def read(folder: Path) -> Checkpoint:
    """Return the checkpoint of one folder. Raises: CheckpointError that says what is wrong."""
    state = _state(folder)
    files = {name: _verified(folder / name, state) for name in (MODEL, MOMENTS, CONFIG)}
    config = _parsed(folder / CONFIG, files[CONFIG])
    try:
        model = serial.decode(config["model"])
        arrays = _arrays(folder / MODEL, files[MODEL])
        snapshot = Snapshot(
            {name: arrays[name] for name in config["parameters"]},
            {name: arrays[name] for name in config["statistics"]},
            _arrays(folder / MOMENTS, files[MOMENTS]),
            int(state["count"]),
        )
        return Checkpoint(
            model,
            snapshot,
            int(state["epoch"]),
            int(state["batch"]),
            int(state["step"]),
            int(state["seed"]),
            dict(state["dials"]),
            dict(state["totals"]),
            dict(config["run"]),
        )
    except SerialError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder}: lacks what a checkpoint holds: {error!r}") from error


def _state(folder: Path) -> dict[str, Any]:
    """Return train_state.json after its own hash, its format and its spec hash were checked."""
    path = folder / STATE
    state = _parsed(path, _bytes(path))
    written = state.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise CheckpointError(
            f"{path}: format {written} is newer than {FORMAT}, the newest this snnx reads"
        )
    own = state.pop("own_sha256", None)
    if own != _digest(_text(state)):
        raise CheckpointError(f"{path}: does not agree with its own hash; it was altered or cut")
    if state.get("spec_hash") != spec_hash():
        raise CheckpointError(
            f"{path}: was written under the op table {state.get('spec_hash')}, this snnx has "
            f"{spec_hash()}: the same weights would compute other numbers. Read it with the "
            "version of snnx that wrote it"
        )
    return state


def _verified(path: Path, state: Mapping[str, Any]) -> bytes:
    content = _bytes(path)
    if _is_pickle(content):
        raise CheckpointError(
            f"{path}: is a pickle or an archive of one, which is never loaded; a checkpoint of "
            "snnx holds safetensors"
        )
    stated = state.get("sha256", {}).get(path.name)
    if _digest(content) != stated:
        raise CheckpointError(
            f"{path}: does not agree with the hash in {STATE}; the file is truncated or damaged"
        )
    return content


def _is_pickle(content: bytes) -> bool:
    """Tell a bare pickle and the zip of torch.save from safetensors, whose ninth byte is {."""
    bare = content.startswith(b"\x80") and content[8:9] != b"{"
    return bare or content.startswith(b"PK\x03\x04")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; the checkpoint is not whole") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return serial.parse(content)
    except SerialError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        arrays = from_bytes(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: is no safetensors file that snnx reads: {error}") from error
    for name, array in arrays.items():
        if array.dtype not in (np.float32, np.float64):
            raise CheckpointError(f"{path}: {name} is {array.dtype}; checkpoints hold float32")
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite")
    return arrays


def _stored(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = {k: np.asarray(v) for k, v in arrays.items()}
    return {
        k: np.array(v, np.float64 if v.dtype == np.float64 else np.float32, order="C")
        for k, v in kept.items()
    }


def _text(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
