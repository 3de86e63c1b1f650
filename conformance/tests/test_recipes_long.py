"""Every recipe takes two optimiser steps on torch and on MLX: small, on generated files.

Width 1/8, images of 16 or 32 pixels, T = 2 and batches of 2 (sequences without an image keep 16
steps, since two leave a recurrent net silent). The files have the true on-disk layout and hold
noise; data that need no files (the embedded digits) are real.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from benchmarks.generated import source
from snnx.commands.header import facts, open_choices
from snnx.data import Batches, Dataset
from snnx.data.arrays import Split
from snnx.data.augmented import Augmented
from snnx.data.draws import Draws
from snnx.data.lazy import Source, Stored
from snnx.mode import train_mode
from snnx.training import loop, recipe
from snnx.training.recipe_data import prepared
from snnx.training.recipe_plan import make_plan

pytestmark = pytest.mark.long

WIDTH, STEPS, LONG, BATCH = 0.125, 2, 16, 2
SAMPLES = 4
SIDE = {"torch": 32, "mlx": 16}  # MLX convolutions are slow on a CPU
POOLED = 32  # five pools of 2, or crops, need this side on every backend


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


def small(stored: Stored, side: int) -> Dataset:
    """Return a few samples with every k-th pixel and step, in memory."""
    arrays: list[Any] = []
    for split in get_args(Split):
        count = SAMPLES if split == "train" else BATCH
        chosen = np.linspace(0, stored.size(split) - 1, count).astype(
            np.int64
        )  # the last class too
        x, y, lengths = stored.take(split, Draws(0, 0, chosen, split))
        if len(stored.features) == 3:
            by = max(1, x.shape[-2] // side)
            x = x[..., ::by, ::by, :][..., :side, :side, :]
        if stored.layout == "TNF":
            steps = STEPS if len(stored.features) == 3 else LONG
            x = x[:: max(1, len(x) // steps)][:steps]
            lengths = None if lengths is None else np.minimum(lengths, len(x))
        arrays.append((x, y, lengths))
    (x_train, y_train, train), (x_test, y_test, test) = arrays
    return Dataset(
        x_train,
        y_train,
        x_test,
        y_test,
        name=stored.name,
        label=stored.label,
        layout=stored.layout,
        lengths_train=train,
        lengths_test=test,
        full_scale=stored.full_scale,
    )


def steps_of(stage: Mapping[str, Any]) -> int:
    """Return the T of a small stage: 2, 6 in place of 50, 1 for an ANN."""
    return min(stage["T"], max(STEPS, stage["T"] // 8))


def reduced(name: str, backend: str) -> dict[str, Any]:
    """Return a recipe at small width, T and batch, each of its stages one epoch long."""
    given = recipe.read_recipe(name)
    full = recipe.resolve([given]).values
    stages, method = full["stages"], {}
    if full["method"].get("threshold"):
        # chosen for a larger T; two steps would leave the layers silent
        method["threshold"] = full["method"]["threshold"] / 6
    if "samples" in full["method"]:
        method["samples"] = 1  # one sample for the finite differences
    smaller: dict[str, Any] = {
        "T": STEPS,
        "epochs": 1,
        "batch_size": BATCH,
        "backend": backend,
        "compile": False,
        "model": {"width": WIDTH},
        "method": method,
        "stages": [
            {**stage, "T": steps_of(stage), "epochs": 1, "batch_size": BATCH} for stage in stages
        ],
    }
    return recipe.resolve([given, (smaller, "small")]).values


class Seen(loop.Nobody):
    """Keeps the rows of the epochs."""

    def __init__(self) -> None:
        self.rows: list[loop.Row] = []

    def epoch(self, row: loop.Row) -> None:
        self.rows.append(row)


def samples(values: Mapping[str, Any], folder: Path, backend: str) -> Source:
    side = SIDE[backend]
    if values["model"]["name"] in ("vgg16_imagenet", "vgg11_dsr", "mnist_toy"):
        side = POOLED
    table = values["data"]
    found = prepared(small(source(table, folder, SAMPLES, BATCH), side), table)
    if isinstance(found, Augmented):
        assert isinstance(found.base, Dataset)
    return found


def gradients(training: loop.Training) -> dict[str, np.ndarray]:
    """Return the gradient of every parameter on one batch, every neuron emitting H(x).

    With spikes, the weights behind neurons that are silent on so few samples have none.
    """
    batches = Batches(training.dataset, "train", SAMPLES)
    batch: Any = next(iter(batches.epoch(0)))
    dials = {**training.dials, "seed": 0, "step": 9, "epoch": 9}
    wanted = [p.path for p in training.program.parameters]
    mode = replace(train_mode(training.program), fire="smooth")
    _, found = training.session.grads(batch, dials, mode, wanted)
    return {path: np.asarray(value) for path, value in found.items()}


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("name", recipe.recipe_names())
def test_a_recipe_trains(name: str, backend: str, folder: Path) -> None:
    values = reduced(name, backend)
    plan = make_plan(values, samples(values, folder, backend))
    training = loop.start(plan, samples(values, folder, backend))
    printed = "\n".join([*facts(training, "").values(), *open_choices(plan.config)])
    for text in (values["paper"], *values["undetermined"]):
        assert text in printed

    seen = Seen()
    loop.run(training, seen)
    assert training.step == 2 * max(1, len(plan.stages))
    assert all(np.isfinite(row["loss"]) and row["gradient_norm"] > 0 for row in seen.rows)
    found = gradients(training)
    assert all(np.isfinite(value).all() for value in found.values())
    reached = {path for path, value in found.items() if value.any()}
    # a DSR threshold has a gradient only where the mean input is above it: not in every layer
    bounds = {p.path for p in training.program.parameters if p.role == "threshold"}
    assert set(found) - bounds <= reached
    assert not bounds or bounds & reached
