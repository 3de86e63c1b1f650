"""What a run directory's files say, read without trusting them.

A killed run leaves files missing or cut off, and they are wanted then too: what cannot be read is
left out and named in `notes`, which the page shows.
"""

from __future__ import annotations

import json
import math
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnx.data.npz_members import verify

DATA_FILE = Path("plots") / "data.npz"
LANDSCAPE_FILE = Path("plots") / "landscape.npz"
MOST_TEXT = 1 << 28
MOST_EPOCHS = 1_000_000_000
LARGEST = float(np.finfo(np.float32).max)
# arrays that fix an axis' length
_RULERS = {"L": "layers", "P": "step_path", "S": "sample_y", "G": "landscape_grid"}
# name: kinds of dtype, axes (L layers, P steps of the program, S samples, d dials, G a grid)
_FORMS = {
    "layers": ("U", "L"),
    "neurons": ("i", "L"),
    "rate": ("f", "L"),
    "dead": ("f", "L"),
    "saturated": ("f", "L"),
    "rate_over_time": ("f", "LT"),
    "rate_bounds": ("f", "2"),
    "rate_samples": ("i", ""),
    "steps": ("i", ""),
    "spikes": ("f", ""),
    "accuracy_over_time": ("f", "T"),
    "accuracy_of_step": ("f", "T"),
    "landscape_grid": ("f", "G"),
    "landscape_sdt": ("f", "GG"),
    "landscape_tet": ("f", "GG"),
    "dials": ("U", "d"),
    "input_shape": ("U", ""),
    "step_path": ("U", "P"),
    "step_layer": ("U", "P"),
    "step_shape": ("U", "P"),
    "step_parameters": ("i", "P"),
    "step_macs": ("i", "P"),
    "step_binary": ("b", "P"),
    "sample_index": ("iu", "S"),
    "sample_y": ("iu", "S"),
    "sample_length": ("iu", "S"),
    "sample_x": ("f", "SHWC"),
    "logits": ("f", "TSK"),
    "raster": ("u", "TSN"),
}
_DAMAGE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class RunData:
    """A run as read: `rows` of metrics.jsonl, JSON files as dicts, `arrays` of plots/data.npz."""

    folder: Path
    rows: tuple[Mapping[str, Any], ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_text: str = ""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def series(self, *keys: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return epochs and values of the first of these keys that any row holds.

        Rows of single steps (no epoch, or an older row of the same epoch) are left out: the last
        row that holds the key speaks for its epoch. What is no finite float32 is NaN.
        """
        for key in keys:
            found: dict[float, float] = {}
            for place, row in enumerate(self.rows):
                epoch = number(row.get("epoch", place + 1))
                value = _look(row, key)
                if value is not None and epoch is not None and 0 <= epoch <= MOST_EPOCHS:
                    found[epoch] = value
            if found:
                epochs = sorted(found)
                values = np.array([found[e] for e in epochs])
                return np.array(epochs), np.where(np.abs(values) <= LARGEST, values, np.nan)
        return np.zeros(0), np.zeros(0)

    def names(self, prefix: str) -> list[str]:
        """Return the numbers' keys under a prefix ("dials." or a dict named so), in order."""
        found: dict[str, None] = {}
        for row in self.rows:
            for key, value in _flat(row):
                if key.startswith(prefix) and number(value) is not None:
                    found[key] = None
        return list(found)

    def found(self, *names: str) -> Any:
        """Return the first value of these names: in the result, the environment, the settings."""
        for source in (self.result, self.env, self.config):
            leaves = flat(source)
            for name in names:
                for key, value in leaves.items():
                    if key == name or key.endswith(f".{name}"):
                        return value
        return None

    def last(self, *names: str) -> float | None:
        """Return the first of these numbers as it was at the end: found, or of the last epoch."""
        value = number(self.found(*names))
        if value is None:
            y = self.series(*names)[1]
            value = float(y[-1]) if len(y) else None
        return value

    def text(self, name: str) -> str:
        """Return a string kept in data.npz, or "" where it is not there."""
        array = self.arrays.get(name)
        return "" if array is None or array.ndim else str(array[()])


def read_run(folder: Path) -> RunData:
    """Read a run directory.

    Raises: FileNotFoundError if the directory does not exist or has neither metrics nor data.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such run directory")
    notes: list[str] = []
    rows = tuple(_rows(folder / "metrics.jsonl", notes))
    arrays = {**_arrays(folder / DATA_FILE, notes), **_arrays(folder / LANDSCAPE_FILE, notes)}
    if not rows and not arrays:
        raise FileNotFoundError(
            f"{folder}: has neither metrics.jsonl nor {DATA_FILE.as_posix()}; "
            "give the directory that snnx train wrote"
        )
    text = _text(folder / "config.toml", notes)
    try:
        config = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        notes.append(f"config.toml is not TOML: {error}")
        config = {}
    return RunData(
        folder=folder,
        rows=rows,
        result=_json(folder / "result.json", notes),
        env=_json(folder / "env.json", notes),
        config=config,
        config_text=text,
        arrays=arrays,
        notes=tuple(notes),
    )


def number(value: object) -> float | None:
    """Return the value as a float, or None if it is no number (true and false are none)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested tables by dotted key."""
    return dict(_flat(tree))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _look(row: Mapping[str, Any], key: str) -> float | None:
    """Return a row's number by its key, or by its dotted place in nested tables."""
    if key in row:
        return number(row[key])
    return number(flat(row).get(key)) if "." in key else None


def _text(path: Path, notes: list[str]) -> str:
    if not path.is_file():
        return ""
    try:
        if path.stat().st_size > MOST_TEXT:
            notes.append(f"{path.name} is larger than {MOST_TEXT >> 20} MiB and was not read")
            return ""
        return path.read_text("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        notes.append(f"{path.name} could not be read: {error}")
        return ""


def _rows(path: Path, notes: list[str]) -> Iterator[Mapping[str, Any]]:
    bad = []
    for place, line in enumerate(_text(path, notes).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield row
        else:
            bad.append(place)
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        notes.append(f"metrics.jsonl: {len(bad)} lines could not be read ({shown})")


def _json(path: Path, notes: list[str]) -> Mapping[str, Any]:
    text = _text(path, notes)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.name} is not JSON: {error}")
        return {}
    if isinstance(value, dict):
        return value
    notes.append(f"{path.name} holds no table")
    return {}


def _arrays(path: Path, notes: list[str]) -> Mapping[str, NDArray[Any]]:
    if not path.is_file():
        return {}
    try:
        verify(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        notes.append(f"{path.name} could not be read: {error}")
        return {}
    kept = {name: array for name, array in arrays.items() if _fits(name, array, arrays)}
    wrong = sorted(set(arrays) - set(kept))
    if wrong:
        notes.append(f"{path.name}: {', '.join(wrong)} do not fit and are left out")
    return kept


def _fits(name: str, array: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Tell whether an array has the type, axes and length that the pictures count on."""
    if name.startswith("data_"):
        return array.dtype.kind == "U" and array.ndim == 0
    kinds, axes = _FORMS.get("raster" if name.startswith("raster.") else name, ("", ""))
    if array.dtype.kind not in kinds or array.ndim != len(axes):
        return False
    for axis, size in zip(axes, array.shape, strict=True):
        ruler = arrays.get(_RULERS.get(axis, name), array)
        if not ruler.ndim or (axis in _RULERS and len(ruler) != size):
            return False
        if size < 1 and axis not in "Ld":
            return False
    return True
