"""From the table `data` of a recipe to the samples of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from snnx import data
from snnx.data.arrays import Label
from snnx.data.augmented import Augmented, held_out
from snnx.data.lazy import Lazy, Source, Stored
from snnx.data.streamed import Streamed
from snnx.training.recipe import RecipeError, as_tuples
from snnx.training.recipe_schema import DataFile

OF_ALL = tuple(DataFile.model_fields)


def open_data(table: Mapping[str, Any], root: Any = None) -> Source:
    """Return the data set that a recipe names, read from `root` or the usual places.

    Raises: DataError where it is missing or damaged, RecipeError for an augmentation that does not
    fit.
    """
    options = {k: as_tuples(v) for k, v in table.items() if k not in OF_ALL and v is not None}
    return prepared(data.source(table["name"], root, **options), table)


def prepared(stored: Stored, table: Mapping[str, Any]) -> Source:
    """Return stored samples as the keys of a recipe ask that all data sets have (`DataFile`).

    Samples that every epoch reads anew (random crops, random starts) are always decoded late.
    """
    share, augment = table.get("validation"), table.get("augment")
    name = stored.name
    if share is not None:
        stored = held_out(stored, share)
    if isinstance(stored, Lazy) and not stored.random and not table.get("lazy"):
        stored = stored.in_memory()
    found: Stored | Augmented = stored
    if augment is not None:
        try:
            found = Augmented(stored, data.augmentation(augment, name))
        except ValueError as error:
            raise RecipeError(f"data.augment: {error}") from error
    workers = table.get("workers", 0)
    return Streamed(found, workers, table.get("prefetch", 3)) if workers else found


def labelled(stored: Stored, label: Label) -> Stored:
    """Return the data set with another label; for generated files in a real set's layout."""
    return replace(stored, label=label)
