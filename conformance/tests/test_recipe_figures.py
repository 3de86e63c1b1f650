"""The figures of `make recipes`: every CIFAR and event recipe at full size is in the file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import recipes
from snnx.training import recipe

FILE = Path(recipes.__file__).parent / "results" / "recipes-cpu.json"
FIGURES: dict[str, Any] = json.loads(FILE.read_text("utf-8"))


def test_every_recipe_on_cifar_or_events_was_run() -> None:
    assert set(FIGURES) == set(recipes.names([]))


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_figures_are_those_of_the_recipe_at_full_size(name: str) -> None:
    found, values = FIGURES[name], recipe.resolve([recipe.read_recipe(name)]).values
    assert found["T"] == values["T"]
    assert found["data"].endswith("(synthetic)")
    assert len(found["losses"]) == len(found["step_s"]) == recipes.STEPS
    assert found["finite"] is all(map(math.isfinite, found["losses"])) is True
    assert found["parameters"] > 0
    assert found["peak_memory_gib"] > 0
    assert found["batch"] <= found["batch_of_recipe"] == values["batch_size"]
    assert found["batch"] == found["batch_of_recipe"] or found["batch_reduced"]
    assert "accuracy" not in found
    assert "test_accuracy" not in found


def test_a_batch_is_halved_until_it_fits() -> None:
    assert recipes.fitting(64, recipes.GIB, 8.0) == 8
    assert recipes.fitting(64, recipes.GIB, 1000.0) == 64
    assert recipes.fitting(64, recipes.GIB, 0.1) == 1


def test_a_measurement_names_versions_op_table_and_commit() -> None:
    found = recipes.provenance({"torch": "2.13.0"})
    assert {"snnx", "python", "numpy", "platform", "spec_hash", "commit"} <= set(found)
    assert found["backend"] == {"torch": "2.13.0"}
    assert len(found["spec_hash"]) == 64
    assert found["commit"]
