"""Losses and gradients of one part of a step, whole or in chunks of time: see `snnx.chunks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snnx.backend import Batch
from snnx.batch import check_batch
from snnx.chunks import piece, share, spans
from snnx.mode import Mode
from snnx_numpy import core

if TYPE_CHECKING:
    from snnx_numpy.session import NumpySession


Learnt = tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]


def learnt(
    session: NumpySession, batch: Batch, dials: Mapping[str, Any], mode: Mode, total: int
) -> Learnt:
    """Return losses [N], gradients of their sum / `total`, and y; the net's statistics move."""
    x, steps = check_batch(session.net.program, session.objective, batch, session.steps)
    if len(spans(steps, session.chunk)) > 1:
        return _truncated(session, batch, dials, mode, total, x, steps)
    losses, grads, out = session.value_and_grad(batch, dials, mode, total)
    session.net.statistics = out.statistics
    return losses, grads, out.y


def _truncated(
    session: NumpySession,
    batch: Batch,
    dials: Mapping[str, Any],
    mode: Mode,
    total: int,
    x: np.ndarray,
    steps: int,
) -> Learnt:
    plain: Any = {k: v for k, v in batch.items() if k != "length"}
    cuts = spans(steps, session.chunk)

    def play(use: Callable[[core.Result, int, int], None]) -> np.ndarray:
        """Run chunk after chunk, hand each to `use`, and return the whole output."""
        state, outputs = None, []
        for start, stop in cuts:
            part: Any = {**plain, "x": x[0] if len(x) == 1 else piece(x, start, stop)}
            out = session.run(part, dials, mode, stop - start, state=state)
            use(out, start, stop)
            state = out.state
            outputs.append(out.y)
        return np.concatenate(outputs)

    losses = np.zeros(x.shape[1], session.net.dtype)
    g_whole = None
    if not session.objective.per_step:
        y = play(lambda out, start, stop: None)
        losses, g_whole = session.loss_and_gradient(batch, y, 1.0 / total)
    grads: dict[str, np.ndarray] = {}

    def learn(out: core.Result, start: int, stop: int) -> None:
        if g_whole is not None:
            g_y = g_whole[start:stop]
        else:
            part: Any = dict(plain)
            if "length" in batch:
                weight, part["length"] = share(np.clip, np.asarray(batch["length"]), start, stop)
            else:
                weight = (stop - start) / steps
            each, g_y = session.loss_and_gradient(part, out.y, weight / total)
            losses[...] += np.asarray(weight, out.y.dtype) * each
        for path, g in session.pulled(out, g_y).items():
            grads[path] = grads[path] + g if path in grads else g
        session.net.statistics = out.statistics

    y = play(learn)
    return losses, grads, y
