"""A run on the digits moved MLX -> torch -> MLX: what must be equal after each move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import checkpoint
from snnx.backend import load_backend
from snnx.data import Batches, load
from snnx.mode import train_mode
from snnx.ops.levels import FIRST_FLIP
from snnx_conformance.free import first_flip

pytest.importorskip("torch")
pytest.importorskip("mlx.core")

STEPS, STAGE = 4, 6  # T, and optimiser steps on each backend


def model() -> snnx.Chain:
    """Return the digits net at an eighth of its width."""
    from snnx.models.digits import digits

    return digits(width=0.125)


def session(name: str) -> Any:
    """Return a session with the recipe's objective."""
    backend = load_backend(name)
    optim = snnx.Optim(snnx.Adam(lr=0.005))
    return backend.session(snnx.build(model(), name), snnx.TET(), optim, steps=STEPS)


def through_file(snapshot: Any, folder: Any) -> Any:
    """Return the snapshot after a checkpoint was written and read."""
    checkpoint.write(folder, checkpoint.Checkpoint(model(), snapshot))
    return checkpoint.read(folder).snapshot


def test_a_moved_run_goes_on_with_the_same_numbers(tmp_path):
    program = snnx.flatten(model())
    taps = [f"{s.path}.{kind}" for s in program.spiking for kind in ("spike", "potential")]
    batches = list(Batches(load("digits"), "train", 32, seed=0).epoch(0))
    mode, step = train_mode(program), 0
    old = session("mlx")
    for move, name in enumerate(("torch", "mlx")):
        for _ in range(STAGE):
            old.read(old.step([batches[step]], {"seed": 0, "step": step}))
            step += 1
        new = session(name)
        new.load(through_file(old.export(), tmp_path / str(move)))
        batch, dials = batches[step], {"seed": 0, "step": step}

        seen = old.forward(batch, dials, mode, taps)
        imposed = {t.removesuffix(".spike"): v for t, v in seen.taps.items() if t.endswith("spike")}
        loss, gradients = old.grads(batch, dials, mode, impose=imposed)
        got_loss, got = new.grads(batch, dials, mode, impose=imposed)
        assert got_loss == pytest.approx(loss, rel=1e-5)
        for path, g in gradients.items():
            if np.abs(g).max() > 1e-6:  # a bias before a norm has no gradient but rounding
                assert np.abs(got[path] - g).max() <= 1e-5 * np.abs(g).max(), path

        free = new.forward(batch, dials, mode, taps)
        flip = first_flip(dict(seen.taps), dict(free.taps))
        assert flip is None or flip[2] <= FIRST_FLIP
        old = new
    assert np.isfinite(old.read(old.step([batches[step]], {"seed": 0, "step": step}))["loss"])
