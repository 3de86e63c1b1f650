"""Image folders and event recordings through a pool of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.generated import source
from snnx.data import Batches, DataError, Streamed
from snnx.training.recipe_data import prepared

pytest.importorskip("PIL.Image", reason="Pillow is not installed")

IMAGES = {"name": "imagenet", "side": 32, "augment": "imagenet"}
EVENTS = {"name": "dvs-cifar10", "framing": "dsr_dvs", "augment": "dsr_dvs", "lazy": True}


@pytest.mark.parametrize("table", [IMAGES, EVENTS], ids=["images", "events"])
def test_files_give_the_same_batches_and_a_damaged_one_is_named(
    tmp_path: Path, table: dict[str, Any]
) -> None:
    stored = source(table, tmp_path, 18, 10)
    plain, streamed = prepared(stored, table), prepared(stored, {**table, "workers": 2})
    assert isinstance(streamed, Streamed)
    try:
        for split in ("train", "test"):
            wanted = list(Batches(plain, split, 4, 1).epoch(3))
            found = list(Batches(streamed, split, 4, 1).epoch(3))
            assert len(found) == len(wanted) >= 3
            for one, two in zip(wanted, found, strict=True):
                assert all(np.array_equal(one[name], two[name]) for name in one)
        damaged = plain.base.items_train[9]  # type: ignore[union-attr]
        damaged.write_bytes(damaged.read_bytes()[:-7])
        for data in (plain, streamed):
            epoch = Batches(data, "train", 4, shuffle=False).epoch(0)
            assert len(next(epoch)["y"]) + len(next(epoch)["y"]) == 8
            with pytest.raises(DataError, match=f"{damaged.name}: "):
                next(epoch)
    finally:
        streamed.close()
