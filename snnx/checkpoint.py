"""Checkpoints: a folder of safetensors and JSON that any backend writes and reads.

    model.safetensors          weights and statistics by path, in the canonical layout
    train_state.safetensors    moments of the optimiser, named PATH.MOMENT
    config.json                the model and how it is trained
    train_state.json           position in the run, dials, ops and their hash, SHA-256 of the others

A checkpoint is written into a temporary folder, flushed, and renamed; those before it are kept as
`snnx.rotation` says. So a run that is killed, or a disk that is full, leaves one that can be read.
Arrays are float32 (float64 from the oracle, whose bits are kept). Reading executes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from snnx import serial
from snnx.backend import Snapshot
from snnx.checkpoint_files import CheckpointError as CheckpointError
from snnx.checkpoint_files import (
    arrays_in,
    as_text,
    counter,
    digest,
    flush_folder,
    is_pickle,
    naming,
    numbers,
    parsed,
    read_bytes,
    stored,
    tables,
)
from snnx.ops import OPS, hash_of
from snnx.program import flatten
from snnx.rotation import ARCHIVED, DAMAGED, WRITING, Retention, by_age, promote, remove
from snnx.rotation import LAST as LAST
from snnx.serial import SerialError

FORMAT = 2
MODEL, MOMENTS, CONFIG, STATE = (
    "model.safetensors",
    "train_state.safetensors",
    "config.json",
    "train_state.json",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run needs to go on: the model, the session's snapshot, the place in the run.

    epoch and batch are those that come next, step the count of updates; `totals` are sums of the
    running epoch. `config` is what made the run, as JSON values. `ops` names what the training
    computes with beside the model's own ops: the loss, the updates, what a method puts in.
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
    ops: frozenset[str] = frozenset()


def spec_hash() -> str:
    """Return the identity of the whole op table by which this snnx computes."""
    from snnx import ops

    return ops.SPEC_HASH


def save(root: Path, checkpoint: Checkpoint, retention: Retention = Retention()) -> Path:  # noqa: B008  (frozen)
    """Write `root/last` in one rename and keep older ones as `retention` says; return `last`.

    Raises: OSError, with what was there before untouched; FileNotFoundError where the run's folder
    has vanished, which is not made anew.
    """
    root.mkdir(exist_ok=True)
    fresh = root / f"{WRITING}{os.getpid()}"
    try:
        name = retention.archived(checkpoint.epoch, checkpoint.batch)
        if name is not None and not (root / name).exists():
            write(fresh, checkpoint)
            fresh.rename(root / name)
        write(fresh, checkpoint)
        last = promote(root, fresh, retention.keep)
        flush_folder(root)
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
    used = sorted(
        {*checkpoint.ops, *(step.op for step in flatten(checkpoint.model).steps)} & {*OPS}
    )
    spec = hash_of(used)
    header = {"spec_hash": spec}  # one key: safetensors gives several no fixed order
    arrays = {**snapshot.parameters, **snapshot.statistics}
    config = {
        "format": FORMAT,
        "model": serial.encode(checkpoint.model),
        "parameters": sorted(snapshot.parameters),
        "statistics": sorted(snapshot.statistics),
        "run": dict(checkpoint.config),
    }
    contents = {
        MODEL: to_bytes(stored(arrays), header),
        MOMENTS: to_bytes(stored(snapshot.moments), header),
        CONFIG: as_text(config),
    }
    state = {
        "format": FORMAT,
        "ops": used,
        "spec_hash": spec,
        "count": snapshot.count,
        "epoch": checkpoint.epoch,
        "batch": checkpoint.batch,
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "dials": dict(checkpoint.dials),
        "totals": dict(checkpoint.totals),
        "sha256": {name: digest(content) for name, content in contents.items()},
    }
    contents[STATE] = as_text({**state, "own_sha256": digest(as_text(state))})
    for name, content in contents.items():
        with naming(folder / name), (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    flush_folder(folder)


def load(place: str | Path, warn: Callable[[str], None]) -> Checkpoint:
    """Return the newest checkpoint that is whole, of a run, its `checkpoints` or one folder.

    Where the newest is damaged, the one before it is read and `warn` is told. Raises:
    CheckpointError.
    """
    place = Path(place)
    if (place / MODEL).exists() or (place / STATE).exists():
        return read(place)
    root = place / "checkpoints" if (place / "checkpoints").is_dir() else place
    found = by_age(root)
    if not found:
        raise CheckpointError(
            f"{place}: holds no checkpoint; name a run like runs/latest, or a folder with {MODEL}"
        )
    for newer, older in pairwise(found):
        try:
            return read(newer)
        except CheckpointError as error:
            warn(f"{error}; going on with the checkpoint before it, {older}")
    try:
        return read(found[-1])
    except CheckpointError as error:
        archived = sorted(path.name for path in root.glob(f"{ARCHIVED}*"))
        remedy = f"; rename {root / archived[-1]} to {LAST} to go on from there" if archived else ""
        raise CheckpointError(f"{error}; {root} holds no other of its newest{remedy}") from error


def set_aside(root: Path) -> None:
    """Rename the newest checkpoints that are damaged, until one is whole.

    Left in their places, they would push the whole one out when the next is written, and a kill
    between the two would leave none.
    """
    for path in by_age(root):
        try:
            read(path)
            return
        except CheckpointError:
            aside = root / f"{DAMAGED}{path.name}"
            if aside.exists():
                remove(aside)
            path.rename(aside)


def read(folder: Path) -> Checkpoint:
    """Return the checkpoint of one folder. Raises: CheckpointError that says what is wrong."""
    state = _state(folder)
    files = {name: _verified(folder / name, state) for name in (MODEL, MOMENTS, CONFIG)}
    config = parsed(folder / CONFIG, files[CONFIG])
    try:
        model = serial.decode(config["model"])
        arrays = arrays_in(folder / MODEL, files[MODEL])
        snapshot = Snapshot(
            {name: arrays[name] for name in config["parameters"]},
            {name: arrays[name] for name in config["statistics"]},
            arrays_in(folder / MOMENTS, files[MOMENTS]),
            counter(state, "count"),
        )
        epoch, batch, step, seed = (counter(state, n) for n in ("epoch", "batch", "step", "seed"))
        return Checkpoint(
            model,
            snapshot,
            epoch,
            batch,
            step,
            seed,
            dials=numbers(state, "dials"),
            totals=numbers(state, "totals"),
            config=tables(config, "run"),
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
    state = parsed(path, read_bytes(path))
    written = state.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise CheckpointError(
            f"{path}: format {written} is newer than {FORMAT}, the newest this snnx reads"
        )
    own = state.pop("own_sha256", None)
    if own != digest(as_text(state)):
        raise CheckpointError(f"{path}: does not agree with its own hash; it was altered or cut")
    _check_ops(path, state)
    return state


def _check_ops(path: Path, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless this snnx has the ops of the checkpoint as they were.

    Format 1 names no ops: it carries the hash of the whole table.
    """
    used = state.get("ops")
    if not (used is None or isinstance(used, list)) or not isinstance(state.get("sha256"), dict):
        raise CheckpointError(f"{path}: lacks what a checkpoint holds: a list of ops, and hashes")
    missing = [name for name in used or () if str(name) not in OPS]
    if missing:
        raise CheckpointError(
            f"{path}: uses the ops {missing}, which this snnx does not have. Read it with the "
            "version of snnx that wrote it"
        )
    here = spec_hash() if used is None else hash_of(used)
    if state.get("spec_hash") != here:
        raise CheckpointError(
            f"{path}: was written under {state.get('spec_hash')}, the hash of the "
            f"{'whole op table' if used is None else 'ops ' + ', '.join(used)}, which here is "
            f"{here}: the same weights would compute other numbers. Read it with the version of "
            "snnx that wrote it"
        )


def _verified(path: Path, state: Mapping[str, Any]) -> bytes:
    content = read_bytes(path)
    if is_pickle(content):
        raise CheckpointError(
            f"{path}: is a pickle or an archive of one, which is never loaded; a checkpoint of "
            "snnx holds safetensors"
        )
    stated = state["sha256"].get(path.name)
    if digest(content) != stated:
        raise CheckpointError(
            f"{path}: does not agree with the hash in {STATE}; the file is truncated or damaged"
        )
    return content
