"""Several runs on the same data, side by side: what they share, what differs, and which are seeds.

Runs whose settings differ by the seed alone are one group; its figures are the mean over the runs
and their standard deviation.
"""

from __future__ import annotations

import math
import statistics
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnx.analysis.rundata import RunData, flat, number, read_run

NOT_SET = "not set"
PLAIN = "plain"  # the method of a run without one


class ComparisonError(ValueError):
    """Runs that cannot be compared; the message names the run and says what to do."""


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ by their seed alone. `key` is a letter by which pictures name them."""

    key: str
    name: str
    runs: tuple[RunData, ...]
    settings: Mapping[str, Any]

    def values(self, number_of: Callable[[RunData], float | None]) -> list[float]:
        """Return a figure of every run that recorded it."""
        found = map(number_of, self.runs)
        return [value for value in found if value is not None and math.isfinite(value)]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a run: its heading, how it is read and how it is written."""

    title: str
    read: Callable[[RunData], float | None]
    form: str
    scale: float = 1.0

    def shown(self, values: Sequence[float]) -> str:
        """Return one value, or the mean and standard deviation of several; "" for none."""
        scaled = [value * self.scale for value in values]
        if len(scaled) < 2:
            return self.form.format(*scaled) if scaled else ""
        mean, deviation = statistics.fmean(scaled), statistics.stdev(scaled)
        return f"{self.form.format(mean)} ± {self.form.format(deviation)}"


def _energy(run: RunData) -> float | None:
    return run.last("microjoules", "energy_microjoules", "energy_uJ")


FIGURES = (
    Figure("parameters", lambda run: number(run.found("parameters")), "{:,.0f}"),
    Figure("accuracy, %", lambda run: run.last("test_accuracy"), "{:.2f}", 100.0),
    Figure("spike rate", lambda run: run.last("spikes_per_neuron_step"), "{:.4f}"),
    Figure("energy, µJ", _energy, "{:.4g}"),
    Figure("time, s", lambda run: number(run.found("seconds")), "{:,.1f}"),
)


def read_runs(folders: Sequence[Path]) -> list[RunData]:
    """Read finished runs on the same data.

    Raises: ComparisonError for fewer than two, one named twice, a folder that is no run, a run
    that did not end or whose files are damaged, and for runs on different data.
    """
    if len(folders) < 2:
        raise ComparisonError("a comparison takes two runs or more")
    places = [folder.resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise ComparisonError(f"{place}: is named twice; name every run once")
    runs = [_read(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        if run.result["data"]["hash"] != first.result["data"]["hash"]:
            raise ComparisonError(
                f"{run.folder}: was run on {_data(run)}, but {first.folder} on {_data(first)}; "
                "compare runs on the same data"
            )
    return runs


def _data(run: RunData) -> str:
    data = run.result["data"]
    return str(data.get("id", data["hash"]))


def _read(folder: Path) -> RunData:
    try:
        run = read_run(folder)
    except FileNotFoundError as error:
        raise ComparisonError(str(error)) from error
    if run.notes:
        raise ComparisonError(f"{folder}: {run.notes[0]}; leave this run out, or train it anew")
    if not run.result:
        raise ComparisonError(
            f"{folder}: has no result.json, for the run did not end; go on with it by "
            f"`snnx train --resume {folder}`, or leave it out"
        )
    data = run.result.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("hash"), str):
        raise ComparisonError(f"{folder}: result.json does not name its data (data.hash)")
    if number(run.result.get("test_accuracy")) is None or not run.rows:
        raise ComparisonError(f"{folder}: holds no test_accuracy or no epochs; leave it out")
    return run


def settings_of(run: RunData) -> dict[str, Any]:
    """Return what was asked of a run, without the seed."""
    return {key: value for key, value in flat(run.config).items() if key != "seed"}


def groups_of(runs: Sequence[RunData]) -> list[Group]:
    """Return the groups in the order of their first runs."""
    found: list[list[RunData]] = []
    for run in runs:
        same = (group for group in found if settings_of(group[0]) == settings_of(run))
        group = next(same, None)
        if group is None:
            found.append([run])
        else:
            group.append(run)
    return [
        Group(letters(place), _name(group), tuple(group), settings_of(group[0]))
        for place, group in enumerate(found)
    ]


def letters(place: int) -> str:
    """Return A, B, ..., Z, AA, AB, ..."""
    rest, place = divmod(place, 26)
    return (letters(rest - 1) if rest else "") + string.ascii_uppercase[place]


def _name(runs: Sequence[RunData]) -> str:
    names = [name_of(run) for run in runs]
    if len(names) == 1:
        return names[0]
    common = names[0]
    while not all(name.startswith(common) for name in names):
        common = common[:-1]
    return common.rstrip("-_. 0123456789") or method_of(runs[0])


def name_of(run: RunData) -> str:
    """Return the name of a run's folder."""
    return run.folder.resolve().name


def method_of(run: RunData) -> str:
    """Return the methods of a run, or its objective where it has none."""
    methods = run.result.get("methods")
    words = [str(m) for m in methods if m != PLAIN] if isinstance(methods, list) else []
    return ", ".join(words) or str(run.found("objective") or "")


def differences(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Return the settings that are not the same in all groups, with each group's value."""
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    tables = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    found = {}
    for key in sorted(keys, key=lambda key: (key.count("."), tables.index(key.rpartition(".")[0]))):
        values = [_setting(group.settings.get(key)) for group in groups]
        if len(set(values)) > 1:
            found[key] = values
    return found


def _setting(value: Any) -> str:
    if value is None or value == "":
        return NOT_SET
    return str(value).lower() if isinstance(value, bool) else str(value)
