"""What every session checks of a batch and of its dials before it computes anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from snnx.backend import COUNTERS, Snapshot
from snnx.objective import Objective
from snnx.optim import Optim
from snnx.program import Program, ShapeError

LARGEST = 2**32 - 1  # what a counter of the random stream holds


def check_batch(
    program: Program, objective: Objective, batch: Mapping[str, Any], steps: int
) -> tuple[np.ndarray, int]:
    """Return x as [T or 1, N, *F] and T; ValueError, TypeError say what is wrong with the batch."""
    for name in ("x", "y", "index"):
        if name not in batch:
            raise ValueError(f"batch: has no {name!r}; it holds x, y, index and maybe length")
    x = np.asarray(batch["x"])
    if x.dtype.kind not in "fiub":
        raise TypeError(f"batch x: expects numbers, gets dtype {x.dtype}")
    shape = program.input_shape
    if x.ndim == len(shape) + 1:
        x = x[None]
    if x.ndim != len(shape) + 2 or x.shape[2:] != shape:
        raise ShapeError(
            f"batch x: the model's Input is {shape}, so x is [N, {_list(shape)}] or "
            f"[T, N, {_list(shape)}], not {np.shape(batch['x'])}"
        )
    static = np.ndim(batch["x"]) == len(shape) + 1
    total = steps if static else x.shape[0]
    if total < 1:
        raise ValueError(f"batch x: T must be at least 1, not {total}")
    n = x.shape[1]
    if n < 1:
        raise ValueError("batch x: holds no sample")
    index = np.asarray(batch["index"])
    if index.shape != (n,):
        raise ShapeError(f"batch index: expects shape ({n},), gets {index.shape}")
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() > LARGEST:
        raise ValueError(f"batch index: expects whole numbers in [0, 2^32), gets {index!r}")
    y = np.asarray(batch["y"])
    if objective.classifies:
        _check_labels(y, n, program)
    elif y.shape != (n, *program.output_shape):
        raise ShapeError(f"batch y: expects {(n, *program.output_shape)}, gets {y.shape}")
    length = batch.get("length")
    if length is not None:
        length = np.asarray(length)
        if length.shape != (n,) or length.min() < 1 or length.max() > total:
            raise ValueError(
                f"batch length: expects ({n},) whole numbers in [1, {total}], gets {length!r}"
            )
    return x, total


def check_input(
    program: Program, shape: Sequence[int], steps: int | None = None
) -> tuple[bool, int]:
    """Return whether an input of this shape is the same at every step, and T.

    Raises: ShapeError where it is no [N, *F] or [T, N, *F]; ValueError where T is 0.
    """
    wanted = program.input_shape
    static = len(shape) == len(wanted) + 1
    if tuple(shape[1 if static else 2 :]) != wanted or len(shape) < len(wanted) + 1:
        raise ShapeError(
            f"x: the model's Input is {wanted}, so x is [N, {_list(wanted)}] or "
            f"[T, N, {_list(wanted)}], not {tuple(shape)}"
        )
    total = (1 if steps is None else steps) if static else shape[0]
    if total < 1:
        raise ValueError(f"x: T must be at least 1, not {total}")
    return static, total


def _check_labels(y: np.ndarray, n: int, program: Program) -> None:
    classes = program.output_shape[-1]
    if y.dtype.kind not in "iu":
        raise TypeError(f"batch y: labels are whole numbers, not {y.dtype}")
    if y.shape != (n,):
        raise ShapeError(f"batch y: expects one label per sample, ({n},), gets {y.shape}")
    if len(program.output_shape) != 1:
        raise ShapeError(
            f"the model's output is {program.output_shape} per step; "
            "a classifier ends with Linear(classes)"
        )
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(
            f"batch y: labels must be in [0, {classes - 1}] for {classes} outputs, "
            f"gets {y.min()} to {y.max()}"
        )


def _list(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def dial_values(program: Program, optim: Optim) -> dict[str, float]:
    """Return every float dial of a session with its initial value."""
    rates = optim.dials(program)
    for name in sorted(set(rates) & set(program.dials)):
        if rates[name] != program.dials[name]:
            raise ValueError(
                f"dial {name!r} is a number of the model and a learning rate, with two "
                "initial values; a dial is shared by its name, give one of them another"
            )
    return {**program.dials, **rates}


def check_dials(known: Mapping[str, float], dials: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every dial and counter; KeyError names an unknown one."""
    unknown = sorted(set(dials) - set(known) - set(COUNTERS))
    if unknown:
        raise KeyError(f"unknown dials {unknown}; there are {sorted({*known, *COUNTERS})}")
    found = {**known, **dict.fromkeys(COUNTERS, 0), **dials}
    check_counters(found)
    return found


def check_counters(values: Mapping[str, Any]) -> None:
    """Raise ValueError for a seed, step or epoch that is no whole number of 32 bits."""
    for name in COUNTERS:
        value = values[name]
        if not isinstance(value, int | np.integer) or not 0 <= value <= LARGEST:
            raise ValueError(f"dial {name!r}: must be a whole number in [0, 2^32), not {value!r}")


def check_share(batch: Mapping[str, Any], processes: int | None) -> tuple[int, int] | None:
    """Return a batch's (samples that count, samples of the whole batch); None where it is whole.

    `processes` is the size of the session's group, None without one.
    Raises: ValueError for a share that cannot be one, or a whole batch where a share belongs.
    """
    n, share = len(batch["index"]), batch.get("share")
    if share is None:
        if processes in (None, 1):
            return None
        raise ValueError(
            f"batch: {processes} processes train together, and this batch does not say what it is "
            'a share of; give batch["share"] = (its samples, those of the whole batch), or let '
            "snnx.data.Batches(..., world=) cut it"
        )
    count, total = share
    if count not in (0, n) or total < max(count, 1) or (count == 0 and n != 1):
        raise ValueError(
            f"batch share: {share!r} is not (samples that count, samples of the whole batch) for "
            f"{n} samples; the first is {n}, or 0 for one sample that stands in"
        )
    if processes in (None, 1) and count != total:
        raise ValueError(
            f"batch share: {count} of {total} samples, but the session has no other process; "
            "give it the group of the processes that train together"
        )
    return int(count), int(total)


def check_parts(parts: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError where a step has nothing to train on."""
    if not parts:
        raise ValueError("step: give at least one batch")


def check_gradients(program: Program, gradients: Mapping[str, Any] | None) -> None:
    """Raise KeyError, ShapeError, TypeError for an imposed gradient that fits no parameter."""
    check_names(program, gradients=gradients)
    for path, given in (gradients or {}).items():
        array, shape = np.asarray(given), program.parameter(path).shape
        if array.dtype.kind not in "fiu":
            raise TypeError(f"gradient of {path}: expects real numbers, gets dtype {array.dtype}")
        if array.shape != shape:
            raise ShapeError(
                f"gradient of {path}: expects the parameter's canonical shape {shape}, "
                f"gets {array.shape}"
            )


def check_hand_over(state: Any, hand_over: bool) -> None:
    """Refuse a state for a sequence that is run whole."""
    if state is not None and not hand_over:
        raise ValueError(
            "hand_over=False runs a sequence whole, and takes no state; a chunk of one needs "
            "hand_over=True"
        )


def check_names(
    program: Program,
    *,
    taps: Iterable[str] = (),
    impose: Iterable[str] | None = None,
    state: Iterable[str] | None = None,
    parameters: Iterable[str] | None = None,
    gradients: Iterable[str] | None = None,
    at: str | None = None,
) -> None:
    """Raise KeyError for what the program does not have: nothing given is left out in silence."""
    spiking = {s.path for s in program.spiking}
    seen = {f"{path}.{kind}" for path in spiking for kind in ("spike", "potential")}
    weights = {p.path for p in program.parameters}
    given = (
        ("taps", taps, {*program.edges, *seen}),
        ("imposed spikes", impose, spiking),
        ("states", state, {"t", *(s.path for s in program.steps if s.states)}),
        ("parameters", parameters, weights),
        ("imposed gradients", gradients, weights),
        ("edges", None if at is None else (at,), set(program.edges)),
    )
    for what, names, known in given:
        unknown = sorted(set(names or ()) - known)
        if unknown:
            raise KeyError(f"unknown {what} {unknown}; there are {sorted(known)}")


def check_state(known: Mapping[str, int], state: Mapping[str, Any] | None) -> None:
    """Raise KeyError for the state of a layer that has none, ValueError for one of other parts.

    `known` maps the path of every layer with a state to the number of its arrays. A layer that
    `state` leaves out is at rest.
    """
    for path, arrays in (state or {}).items():
        if path == "t":
            continue
        if path not in known:
            raise KeyError(f"unknown states ['{path}']; there are {sorted(['t', *known])}")
        if len(arrays) != known[path]:
            raise ValueError(
                f"state {path}: expects {known[path]} arrays, gets {len(arrays)}; give what the "
                "network returned, or leave the layer out to begin at rest"
            )


def check_snapshot(program: Program, optim: Optim, snapshot: Snapshot) -> None:
    """Raise ValueError naming every path that is missing, unknown or misshapen."""
    shapes = {p.path: p.shape for p in program.parameters}
    stats = {s.path: s.shape for s in program.statistics}
    moments = {f"{p.path}.{m}": p.shape for p in program.parameters for m in optim.rule(p).moments}
    wanted = [
        ("parameters", shapes, snapshot.parameters),
        ("statistics", stats, snapshot.statistics),
    ]
    if snapshot.moments:
        wanted.append(("moments", moments, snapshot.moments))
    wrong: list[str] = []
    for kind, expected, given in wanted:
        wrong += [f"{kind}: {k} is missing" for k in expected if k not in given]
        wrong += [f"{kind}: {k} is unknown" for k in given if k not in expected]
        wrong += [
            f"{kind}: {k} has shape {given[k].shape}, the model {shape}"
            for k, shape in expected.items()
            if k in given and given[k].shape != shape
        ]
    if wrong:
        raise ValueError("the checkpoint does not fit the model: " + "; ".join(wrong))


def not_taken(step: int, loss: float, norm: float) -> str:
    """Return why a step changed nothing: it, or one before it, was not finite."""
    if np.isfinite(loss) and np.isfinite(norm):
        return f"step {step}: was not taken, since a step before it was not finite"
    return f"step {step}: loss {loss}, gradient norm {norm}; weights were left as they were"
