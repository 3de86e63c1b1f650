"""What a training step allocates, found by running it on tensors that hold no numbers.

The step is the session's own, eager, on torch's "meta" device, which has shapes and no memory;
every storage is counted from its allocation to its release. A device adds to that what its
libraries use (the workspace of convolutions, rounding of the allocator), and a compiled step may
need less: neither is in these figures.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snnx.backend import COUNTERS, Footprint
from snnx.mode import Run
from snnx.objective import Objective
from snnx.optim import Optim
from snnx.program import Program
from snnx_torch import core
from snnx_torch.kernels.implementation import Choice
from snnx_torch.net import Net
from snnx_torch.prepare import Play
from snnx_torch.session import TorchSession


class Ledger(TorchDispatchMode):
    """Counts the bytes of living storages: `now` and the highest so far, `peak`.

    `owners` tells under which label, set by `label`, the bytes alive now were allocated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak, self.label = 0, 0, ""
        self.owners: dict[str, int] = {}
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self.enter(tensor)
        return found

    def enter(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it is released, once."""
        storage = tensor.untyped_storage()
        key, size, label = storage._cdata, storage.nbytes(), self.label
        known = self._known.get(key)
        if known is not None and known() is not None:
            return

        def leave(_: Any) -> None:
            self.now -= size
            self.owners[label] -= size
            if self._known.get(key) is reference:
                del self._known[key]

        reference = weakref.ref(storage, leave)
        self._known[key] = reference
        self.now += size
        self.owners[label] = self.owners.get(label, 0) + size
        self.peak = max(self.peak, self.now)


def footprint(
    program: Program,
    objective: Objective,
    optim: Optim,
    *,
    steps: int,
    samples: int,
    dtype: torch.dtype,
    low: torch.dtype | None,
    lean: bool,
    chunk: int | None = None,
    recompute: int | None = None,
    device: str = "meta",
    kernels: Choice = "generic",
) -> Footprint:
    """Return the bytes of one step for a batch of `samples`; `device` "cpu" runs it for real.

    `kernels` are those of `Backend.build`; "auto" on "meta" is what CUDA gets.
    """
    net = Net(program, _weights(program), torch.device(device), dtype, low, lean, kernels)
    form = {"compile": False, "deterministic": False, "group": None}
    session = TorchSession(net, objective, optim, steps, **form, chunk=chunk, recompute=recompute)
    batch: Any = {
        "x": np.zeros((samples, *program.input_shape), np.float32),
        "y": _targets(program, objective, samples),
        "index": np.arange(samples),
    }
    ledger = Ledger()
    held = [*net.parameters(), *net.buffers(), *session.moments.values()]
    with ledger:
        for tensor in held:
            ledger.enter(tensor)
        standing = ledger.now
        session.step([batch], {})
    return Footprint(ledger.peak, standing, _kept(session, samples))


def _weights(program: Program) -> dict[str, np.ndarray]:
    return {p.path: np.ones(p.shape, np.float32) for p in program.parameters}


def _targets(program: Program, objective: Objective, samples: int) -> np.ndarray:
    if objective.classifies:
        return np.zeros(samples, np.int64)
    return np.zeros((samples, *program.output_shape), np.float32)


def _kept(session: TorchSession, samples: int) -> dict[str, int]:
    """Return the bytes alive after the forward pass, by the path of the step that made them."""
    net, ledger = session.net, Ledger()
    prepared = net.prepared(Run(session.train, 1))
    plays = tuple(_labelled(play, ledger) for play in prepared.plays)
    x = torch.zeros((1, samples, *net.program.input_shape), dtype=net.dtype, device=net.device)
    dials = {n: torch.zeros((), device=net.device) for n in (*session.names, *COUNTERS)}
    index = torch.arange(samples, device=net.device)
    arrays = (dict(net.named_parameters()), net.statistics(), x, None, dials, index)
    with ledger:
        out = core.play(replace(prepared, plays=plays), *arrays, session.steps)
        y = out.y
        del out
    found = {path: size for path, size in ledger.owners.items() if path and size}
    del y  # until here it held what the backward pass would need
    return found


def _labelled(play: Play, ledger: Ledger) -> Play:
    rule = play.rule
    if rule is None:
        return play

    def run(inputs: Any, attributes: Any) -> Any:
        ledger.label = play.path
        try:
            return rule(inputs, attributes)
        finally:
            ledger.label = ""

    return replace(play, rule=run)
