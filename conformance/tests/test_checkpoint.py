"""Checkpoints: whole or refused, and never only one."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import snnx
from snnx import checkpoint as checkpoints
from snnx import ops
from snnx.backend import Snapshot
from snnx.checkpoint import Checkpoint, CheckpointError
from snnx.checkpoint_files import as_text, digest
from snnx.ops import OPS, hash_of

MODEL = snnx.Chain(snnx.Input(2), snnx.Linear(3), snnx.LIF(threshold=snnx.Learned(1.0, low=0.1)))
FILES = ("model.safetensors", "train_state.safetensors", "config.json", "train_state.json")


def made(step: int = 3) -> Checkpoint:
    weights = {
        "1.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "1.bias": np.full(3, step, np.float32),
        "2.threshold": np.float32(1.5).reshape(()),
    }
    moments = {f"{k}.first": v + 1 for k, v in weights.items()}
    snapshot = Snapshot(weights, {"3.running_mean": np.zeros(3, np.float32)}, moments, step)
    return Checkpoint(
        MODEL, snapshot, 1, 2, step, 7, {"lr": 0.1}, {"loss": 1 / 3}, {"recipe": {"T": 4}}
    )


def refuse(text: str) -> None:
    raise AssertionError(text)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, made())
    found, wanted = checkpoints.load(tmp_path, refuse), made()
    for kind in ("parameters", "statistics", "moments"):
        a, b = getattr(found.snapshot, kind), getattr(wanted.snapshot, kind)
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == np.float32
            assert a[name].shape == b[name].shape
            assert np.array_equal(a[name], b[name])
    assert found.model == MODEL
    assert found.snapshot.count == 3
    for name in ("epoch", "batch", "step", "seed", "dials", "totals", "config"):
        assert getattr(found, name) == getattr(wanted, name)


def test_the_checkpoint_before_is_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, made(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "previous"]
    assert checkpoints.read(tmp_path / "last").step == 3
    assert checkpoints.read(tmp_path / "previous").step == 2


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink])
def test_damage_is_named_and_the_one_before_is_read(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    checkpoints.save(tmp_path, made(1))
    checkpoints.save(tmp_path, made(2))
    damage(tmp_path / "last" / name)
    with pytest.raises(CheckpointError, match=name):
        checkpoints.read(tmp_path / "last")
    said: list[str] = []
    assert checkpoints.load(tmp_path, said.append).step == 1
    assert "previous" in said[0]
    assert name in said[0]


def test_two_damaged_ones_are_an_error(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, made(1))
    checkpoints.save(tmp_path, made(2))
    for folder in ("last", "previous"):
        flip(tmp_path / folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="previous"):
        checkpoints.load(tmp_path, lambda text: None)


@pytest.mark.parametrize("start", [b"\x80\x04\x95\x10", b"PK\x03\x04archive"])
def test_a_pickle_is_refused_by_name(tmp_path: Path, start: bytes) -> None:
    checkpoints.save(tmp_path, made())
    (tmp_path / "last" / "model.safetensors").write_bytes(start)
    with pytest.raises(CheckpointError, match="is a pickle or an archive of one"):
        checkpoints.load(tmp_path, refuse)


def test_safetensors_that_begin_like_a_pickle_are_read(tmp_path: Path) -> None:
    # the first byte is the low one of the header's length, which may be 0x80
    begun = set()
    for length in range(1, 260, 4):
        snapshot = Snapshot({"w" * length: np.zeros(1, np.float32)}, {})
        last = checkpoints.save(tmp_path, Checkpoint(MODEL, snapshot))
        begun.add((last / "model.safetensors").read_bytes()[:1])
        checkpoints.read(last)
    assert b"\x80" in begun


def rewrite_state(folder: Path, **changes: object) -> None:
    path = folder / "train_state.json"
    state = {**json.loads(path.read_text()), **changes}
    state.pop("own_sha256")
    own = digest(as_text(state))
    path.write_bytes(as_text({**state, "own_sha256": own}))


def test_other_ops_are_refused_with_both_hashes(tmp_path: Path) -> None:
    last = checkpoints.save(tmp_path, made())
    rewrite_state(last, spec_hash="0123abc")
    here = hash_of(["linear", "neuron"])
    with pytest.raises(CheckpointError, match=f"0123abc.*linear, neuron.*{here}"):
        checkpoints.read(last)


def test_an_op_that_is_gone_is_named(tmp_path: Path) -> None:
    last = checkpoints.save(tmp_path, made())
    rewrite_state(last, ops=["linear", "fold"])
    with pytest.raises(CheckpointError, match=r"uses the ops \['fold'\]"):
        checkpoints.read(last)


def test_a_checkpoint_outlives_an_op_that_it_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(tmp_path, replace(made(), ops=frozenset({"tet_loss"})))

    def coarser(name: str) -> None:
        other = {k: replace(t, forward=2 * t.forward) for k, t in OPS[name].tolerance.items()}
        monkeypatch.setitem(OPS, name, replace(OPS[name], tolerance=other))
        ops._hash_of.cache_clear()

    coarser("conv2d")
    assert checkpoints.load(tmp_path, refuse).step == 3
    coarser("tet_loss")
    with pytest.raises(CheckpointError, match="linear, neuron, tet_loss"):
        checkpoints.load(tmp_path, refuse)
    monkeypatch.undo()
    ops._hash_of.cache_clear()


def test_format_1_carries_the_hash_of_the_whole_table(tmp_path: Path) -> None:
    last = checkpoints.save(tmp_path, made())
    rewrite_state(last, format=1, ops=None, spec_hash=checkpoints.spec_hash())
    assert checkpoints.read(last).step == 3
    rewrite_state(last, format=1, ops=None, spec_hash="0123abc")
    with pytest.raises(CheckpointError, match=r"0123abc.*whole op table"):
        checkpoints.read(last)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    last = checkpoints.save(tmp_path, made())
    rewrite_state(last, format=9)
    with pytest.raises(CheckpointError, match="format 9 is newer"):
        checkpoints.read(last)


def test_an_empty_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoints.load(tmp_path, refuse)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(tmp_path, made(1))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(tmp_path, made(2))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["last"]
    assert checkpoints.load(tmp_path, refuse).step == 1
