"""Killed at random moments: the same bits as unbroken, on one backend and moved between all."""

import os
from pathlib import Path

import pytest

from snnx import checkpoint as checkpoints
from snnx import random
from snnx.backend import installed, load_backend
from snnx.rotation import by_age
from snnx_conformance.training import ROUNDED, ROUNDED_STEPS, prove, rounded_session
from tests import kills

EVERY = 7  # updates between checkpoints


@pytest.mark.slow
def test_killed_runs_end_in_the_bits_of_the_unbroken_one(tmp_path: Path) -> None:
    found = kills.kill_runs(6, "numpy", 1, tmp_path)
    assert found["seen"]["kills at an operation"] >= 3
    assert found["seen"]["kills by time"] >= 1
    assert found["unbroken"]["operations"] > 100


def test_a_run_that_ends_otherwise_is_found(tmp_path: Path) -> None:
    file = kills.small_data(tmp_path)
    whole = kills.whole_run("numpy", tmp_path, file)
    folder = tmp_path / "other"
    command = ["train", *kills.words("numpy", file), "--no-plots", "--seed", "1", "-o", str(folder)]
    assert kills.attempt(command, folder, tmp_path / "r", die_at=None, die_after=None) == 0
    assert kills.left(folder) != whole["found"]
    path = folder / "checkpoints" / "last" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(kills.Lost, match=r"a kill left a damaged checkpoint: .*model.safetensors"):
        kills._check_newest(folder, kills.Counter())


def _rounded(backend: str, root: str, die_at: int | None) -> None:
    """Be a process that trains the exact network on, from the newest checkpoint to the end."""
    kills._count(root, die_at)
    net, proof = ROUNDED[0][0], prove(0)
    session, step = rounded_session(load_backend(backend), 0, proof.program), 0
    if by_age(Path(root)):
        found = checkpoints.load(root, kills._damaged)
        session.load(found.snapshot)
        step = found.step
    while step < ROUNDED_STEPS:
        session.read(session.step([net.batch(proof.program, step)], {"step": step}))
        step += 1
        if step % EVERY == 0 or step == ROUNDED_STEPS:
            checkpoints.save(
                Path(root), checkpoints.Checkpoint(net.model, session.export(), step=step)
            )
    os._exit(0)


@pytest.mark.slow
def test_an_exact_network_killed_and_moved_has_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if not installed("mlx"):
        pytest.skip("mlx is absent")
    root = tmp_path / "checkpoints"
    drawn = 10 + random.integers(50, 5, "kill", "exact", 0, [0], [0], 3).reshape(-1)
    lives = ["mlx", "torch", "numpy", "mlx"]
    for backend, die_at in zip(lives, [*map(int, drawn), None], strict=True):
        process = kills.CONTEXT.Process(target=_rounded, args=(backend, str(root), die_at))
        process.start()
        process.join(kills.LONGEST)
        assert process.exitcode == (0 if die_at is None else -9)
    found = checkpoints.load(root, kills._damaged)
    assert found.step == ROUNDED_STEPS
    wanted = prove(0).weights[-1]
    assert wanted.keys() == found.snapshot.parameters.keys()
    for path, value in wanted.items():
        assert (found.snapshot.parameters[path] == value).all(), path
