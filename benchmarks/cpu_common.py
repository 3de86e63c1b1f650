"""What a contender of the CPU benchmark is, how it meets the reference, and how it is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

T = 4
Clocks = tuple[float, float]  # wall, processor


@dataclass(frozen=True)
class Answer:
    """What is compared: 0/1 spikes, and gradients by name."""

    spikes: tuple[np.ndarray, ...]
    gradients: dict[str, np.ndarray]


@dataclass(frozen=True)
class Contender:
    """A way to do the work; `answer` is judged first, `run` is timed."""

    name: str
    whose: Literal["snnx", "plain", "peer"]
    run: Callable[[], object]
    answer: Callable[[], Answer]


def verdict(found: Answer, wanted: Answer, allowed: float, free: Sequence[Any]) -> dict[str, Any]:
    """Return how far a contender is from the reference, and why it has no time, if it has none.

    free: by spike array, where the reference lies so near a threshold that either spike is right.
    A neuron's own gradient is left out with it; in a network no such place may exist. A peer that
    returns H - h + h for a spike is within 1e-6 of 0 or 1.
    """
    wrong = 0
    for have, want, where in zip(found.spikes, wanted.spikes, free, strict=True):
        wrong += int(np.sum(~(np.abs(have - want) <= 1e-6) & ~where))  # a NaN is wrong
    errors = [0.0]
    for name, want in wanted.gradients.items():
        difference = np.abs(found.gradients[name] - want)
        if name == "x":
            difference = np.where(np.any(free[0], axis=0), 0.0, difference)
        errors.append(float(np.max(difference) / np.max(np.abs(want))))
    error = float(np.max(errors))
    refused = ""
    if wrong:
        refused = f"{wrong} spikes are not those of the reference"
    elif not error <= allowed:
        refused = f"a gradient is off by {error:.1e} of its largest value, above {allowed:.0e}"
    row = {"spikes_that_differ": wrong, "gradient_error": error}
    return {**row, "refused": refused} if refused else row


def clocked(run: Callable[[], object]) -> Clocks:
    """Return the wall and processor seconds of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def interleaved(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[Clocks]]:
    """Time the runs in turn, A B C A B C ..., after two calls of each that are not counted."""
    for run in (*runs, *runs):
        run()
    found: list[list[Clocks]] = [[] for _ in runs]
    for i in range(rounds):
        for at in range(len(runs)):
            at = (at + i) % len(runs)  # nobody is always first
            found[at].append(clocked(runs[at]))
    return found


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def measured(
    contenders: Sequence[Contender],
    wanted: Answer,
    allowed: float,
    free: Sequence[Any],
    rounds: int,
) -> dict[str, Any]:
    """Return the rows of a case, with times of those that agree, and the ratios among these."""
    rows: list[dict[str, Any]] = []
    for one in contenders:
        row = {"name": one.name, "whose": one.whose}
        rows.append({**row, **verdict(one.answer(), wanted, allowed, free)})
    agreed = [i for i, row in enumerate(rows) if "refused" not in row]
    times = dict(zip(agreed, interleaved([contenders[i].run for i in agreed], rounds), strict=True))
    for i, spans in times.items():
        rows[i]["wall_ms"] = quartiles([1e3 * wall for wall, _ in spans])
        rows[i]["processor_ms"] = quartiles([1e3 * processor for _, processor in spans])
    return {"rounds": rounds, "contenders": rows, "ratios": ratios(rows, times)}


def ratios(rows: Sequence[dict[str, Any]], times: dict[int, list[Clocks]]) -> dict[str, Any]:
    """Return how often each row of ours goes into the best peer's time, round by round.

    Where no peer is among those that agree, the plain loop takes its place.
    """
    found: dict[str, Any] = {}
    for kind in ("peer", "plain"):
        others = [i for i in times if rows[i]["whose"] == kind]
        if others:
            break
    else:
        return found
    best = min(others, key=lambda i: rows[i]["processor_ms"][1])
    for i, spans in times.items():
        if rows[i]["whose"] == "snnx":
            pairs = list(zip(times[best], spans, strict=True))
            found[rows[i]["name"]] = {
                "beside": rows[best]["name"],
                "wall": quartiles([a[0] / b[0] for a, b in pairs]),
                "processor": quartiles([a[1] / b[1] for a, b in pairs]),
            }
    return found
