"""The finite difference gradient of the first layer with weights, many perturbed copies at a time.

    G[o, j] = (L(W + eps E[o, j]) - L(W - eps E[o, j])) / (2 eps)

Moving one weight of a linear map moves one channel of its output by eps times what that weight
sees. So the layer runs once, its output is moved, and the rest of the network runs on P copies.
Losses are those of training with every noise held: batch statistics per copy, running ones
untouched, masks shared by all copies. They are averaged in float64 on the host, since at small eps
the quotient magnifies their last digits. Source: Dspike 4.2, Eq. 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from snnx.backend import Batch, Dials, Session
from snnx.mode import Mode, train_mode
from snnx.program import Program, Step

ELEMENTS = 2**22  # of the moved layer's outputs in one call, unless `copies` says otherwise


def held_mode(program: Program) -> Mode:
    """Return the mode of training in which nothing is committed: batch statistics, same noise."""
    return replace(train_mode(program), norm="frozen_batch")


def first_layer(program: Program) -> Step:
    """Return the first convolution or linear layer. Raises: ValueError where there is none."""
    for step in program.steps:
        if step.op in ("conv2d", "linear"):
            return step
    raise ValueError("the model has no Conv2d and no Linear whose gradient could be differenced")


def finite_differences(
    session: Session,
    program: Program,
    batch: Batch,
    dials: Dials,
    eps: float,
    *,
    copies: int | None = None,
    steps: int | None = None,
) -> np.ndarray:
    """Return the gradient of the mean loss by the first layer's weight, in the weight's shape.

    eps is absolute. `copies` bounds how many perturbed copies run at once. Nothing is committed.
    Raises: ValueError for eps that is not positive, or a model without weights.
    """
    if not eps > 0:
        raise ValueError(f"finite_differences: eps must be above 0, not {eps}")
    layer, mode = first_layer(program), held_mode(program)
    taps = (layer.inputs["x"], layer.output)
    found = session.forward(batch, dials, mode, taps, steps=steps).taps
    x, y = (np.asarray(found[tap], np.float64) for tap in taps)
    shape = program.parameter(layer.inputs["weight"]).shape
    seen = _seen(layer, x, shape[1])
    per_output = int(np.prod(shape[1:]))
    moves = [(j, s) for j in range(shape[0] * per_output) for s in (1.0, -1.0)]
    chunk = max(1, copies or ELEMENTS // y.size)
    losses = np.empty(len(moves))
    for start in range(0, len(moves), chunk):
        some = moves[start : start + chunk]
        values = np.repeat(y[:, None], len(some), axis=1)  # [T, P, N, *F]
        for p, (j, sign) in enumerate(some):
            o, inside = divmod(j, per_output)
            values[:, p, ..., o] += sign * eps * seen(o, inside)
        values = values.reshape(len(y), -1, *y.shape[2:])
        got = session.loss(
            batch,
            dials,
            mode,
            at=layer.output,
            values=values,
            copies=len(some),
            steps=steps,
        )
        losses[start : start + len(some)] = np.asarray(got, np.float64).mean(1)
    up, down = losses.reshape(-1, 2).T
    return ((up - down) / (2.0 * eps)).reshape(shape)


def one_by_one(
    session: Session,
    program: Program,
    batch: Batch,
    dials: Dials,
    eps: float,
    parameters: Mapping[str, np.ndarray],
    path: str,
    *,
    steps: int | None = None,
) -> np.ndarray:
    """Return the same gradient by its definition, for any parameter: two whole runs per element."""
    mode, weight = held_mode(program), np.array(parameters[path])
    gradient = np.empty(weight.shape)
    for place in np.ndindex(weight.shape):
        loss = []
        for sign in (1.0, -1.0):
            moved = weight.copy()
            moved[place] += sign * eps
            got = session.loss(batch, dials, mode, {path: moved}, steps=steps)
            loss.append(np.asarray(got, np.float64).mean())
        gradient[place] = (loss[0] - loss[1]) / (2.0 * eps)
    return gradient


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return <a, b> / (|a| |b|) in float64; 0 where one of them is 0, which points nowhere."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 0.0


def _seen(layer: Step, x: np.ndarray, kernel: int) -> Callable[[int, int], np.ndarray]:
    """Return a function of (output channel, index into its weights): the inputs a weight sees."""
    if layer.op == "linear":
        return lambda o, j: x[..., j]
    stride, pad = layer.attributes["stride"], layer.attributes["padding"]
    height, width, outputs = layer.shape
    inside = x.shape[-1] // layer.attributes["groups"]
    per_group = outputs // layer.attributes["groups"]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)))

    def plane(o: int, j: int) -> np.ndarray:
        place, i = divmod(j, inside)
        row, column = divmod(place, kernel)
        rows = slice(row, row + (height - 1) * stride + 1, stride)
        columns = slice(column, column + (width - 1) * stride + 1, stride)
        return padded[:, :, rows, columns, o // per_group * inside + i]

    return plane
