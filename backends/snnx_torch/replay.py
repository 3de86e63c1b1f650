"""A session's training step: made once per form, run eagerly, compiled, or recorded and replayed.

Under capture the first steps of a form are taken eagerly, for real, on the memory that the graph
will read and write; then one is recorded, and each later one is a replay: its inputs are copied to
where the graph reads them, and what it reports is copied from where the graph wrote it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnx.backend import BackendError
from snnx.chunks import spans
from snnx.mode import Mode, Run
from snnx_torch.capture import Capture, Work
from snnx_torch.compiling import compiled
from snnx_torch.net import Net
from snnx_torch.ranks import Share
from snnx_torch.train_step import TrainStep, commit

WARM = 3  # steps of a form before one is recorded, as many as torch's own helper takes
MOST = 4  # graphs of a session: the last batch of an epoch is smaller, sequences differ in length

Form = tuple[Mode, tuple[int, ...], tuple[Share | None, ...]]
Report = tuple[Tensor, list[Tensor]]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a step is given beside its state, as tensors on host or device."""

    parts: list[dict[str, Tensor]]
    dials: Tensor
    imposed: dict[str, Tensor]
    vote: Tensor

    def every(self) -> list[Tensor]:
        """Return all tensors, in one order."""
        arrays = [array for part in self.parts for array in part.values()]
        return [*arrays, self.dials, *self.imposed.values(), self.vote]

    def names(self) -> tuple[Any, ...]:
        """Return what tells two forms apart: names, shapes and dtypes."""
        parts = tuple(tuple(part) for part in self.parts)
        shapes = tuple((tuple(a.shape), a.dtype) for a in self.every())
        return parts, tuple(self.imposed), shapes

    def mapped(self, move: Callable[[Tensor], Tensor]) -> Inputs:
        """Return the same of other tensors."""
        parts = [{k: move(v) for k, v in part.items()} for part in self.parts]
        imposed = {k: move(v) for k, v in self.imposed.items()}
        return Inputs(parts, move(self.dials), imposed, move(self.vote))


@dataclass(slots=True)
class Slot:
    """The memory of one form: where its inputs and its report lie, and the replay once there is."""

    inputs: Inputs
    report: Report | None = None
    taken: int = 0
    replay: Work | None = None


class StepTaker:
    """Takes steps on the parameters, statistics and moments it is given, in place."""

    def __init__(
        self,
        net: Net,
        pure: TrainStep,
        state: tuple[Mapping[str, Tensor], Mapping[str, Tensor], Tensor],
        compile: bool | str,
        recompute: int | None,
        capture: Capture | None,
        insists: bool,
    ) -> None:
        """`state`: parameters, moments and count. `insists`: no step may be eager in the end."""
        self.net, self.pure = net, pure
        self.parameters, self.moments, self.count = state
        self.compile, self.recompute = compile, recompute
        self.capture, self.insists = capture, insists
        if capture is not None and not compile:  # the compiler orders one stream only
            pure.side = capture.side
        self.compilations, self._failed = 0, ""
        self._forms: dict[Form, Callable[..., Any]] = {}
        self._slots: dict[Any, Slot] = {}

    @property
    def captures(self) -> int:
        """How many graphs were recorded."""
        return sum(slot.replay is not None for slot in self._slots.values())

    def described(self, why: str) -> str:
        """Return how a step runs; `why` it is not recorded."""
        name = "inductor" if self.compile is True else self.compile
        made = f"compiled by {name}, " if name else ""
        if self.capture is not None:
            return f"{made}recorded as a CUDA graph after {WARM} steps and replayed"
        return f"{made}eager, because {self._failed or why}"

    def __call__(self, form: Form, inputs: Inputs) -> Report:
        """Take a step; return report and losses in memory of their own."""
        if self.capture is not None:
            slot = self._slot(form, inputs)
            if slot is not None:
                return self._recorded(form, inputs, slot)
        device = self.net.device
        return self._take(form, inputs.mapped(lambda a: a.to(device, non_blocking=True)))

    def _slot(self, form: Form, inputs: Inputs) -> Slot | None:
        kind = self.net.device.type
        cast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        key = (form, inputs.names(), cast)
        if key not in self._slots and len(self._slots) == MOST:
            warnings.warn(
                f"torch: a step of a {MOST + 1}th form (its shapes differ) runs eagerly: a session "
                f"keeps {MOST} graphs; give batches of equal shapes, or graph = false",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        if key not in self._slots:
            device = self.net.device
            self._slots[key] = Slot(inputs.mapped(lambda a: torch.empty_like(a, device=device)))
        return self._slots[key]

    def _recorded(self, form: Form, inputs: Inputs, slot: Slot) -> Report:
        assert self.capture is not None
        for ours, theirs in zip(slot.inputs.every(), inputs.every(), strict=True):
            ours.copy_(theirs, non_blocking=True)
        if slot.replay is None and slot.taken >= WARM:
            try:
                slot.replay = self.capture.record(lambda: self._write(form, slot))
            except RuntimeError as error:
                # the end of a recording that failed raises for itself, over the first error
                first = error.__context__ or error
                if isinstance(first, torch.OutOfMemoryError):
                    raise first from None
                self._refused(first)
                return self._take(form, slot.inputs)
        if slot.replay is None:
            self.capture.warm(lambda: self._write(form, slot))
        else:
            slot.replay()
        slot.taken += 1
        assert slot.report is not None
        report, losses = slot.report
        return report.clone(), [each.clone() for each in losses]

    def _write(self, form: Form, slot: Slot) -> None:
        """Take a step and leave its report where the slot has it."""
        report, losses = self._take(form, slot.inputs)
        if slot.report is None:  # in the first step, before anything is recorded
            slot.report = torch.empty_like(report), [torch.empty_like(each) for each in losses]
        place, places = slot.report
        place.copy_(report)
        for ours, theirs in zip(places, losses, strict=True):
            ours.copy_(theirs)

    def _refused(self, error: BaseException) -> None:
        """Go on eagerly and say so; raise where graphs were asked for or several must agree."""
        text = (
            f"torch: the step could not be recorded as a CUDA graph: {str(error).splitlines()[0]}"
        )
        ranks = self.pure.ranks
        if self.insists or (ranks is not None and ranks.size > 1):
            raise BackendError(f"{text}; give graph = false") from error
        self.capture, self._slots, self._failed = None, {}, str(error).splitlines()[0]
        warnings.warn(f"{text}; the run goes on eagerly", RuntimeWarning, stacklevel=2)

    def _take(self, form: Form, inputs: Inputs) -> Report:
        if form not in self._forms:
            self._forms[form] = self._made(*form)
        before = (self.parameters, self.net.statistics(), self.moments)
        given = (inputs.parts, inputs.dials, inputs.imposed, inputs.vote)
        *after, count, report, losses = self._forms[form](*before, self.count, *given)
        commit(before, after)
        self.count.copy_(count)
        return report, losses

    def _made(
        self, mode: Mode, totals: Sequence[int], shares: Sequence[Share | None]
    ) -> Callable[..., Any]:
        """Return the step of micro-batches of these numbers of steps, compiled if wanted."""
        pure, pieces = self.pure, [len(spans(n, self.pure.chunk)) for n in totals]
        if self.compile and self.recompute is not None and sum(pieces) > 1:
            raise BackendError(
                "torch: a compiled step computes ranges again for one part and one chunk only, and "
                f"this one has {sum(pieces)}; give compile=False, or leave recompute out"
            )
        form = {"recompute": self.recompute, "side": pure.side}
        prepared = self.net.prepared(Run(mode, 1), **form, hand_over=max(pieces) > 1)

        def step(*arrays: Any) -> Any:
            return pure(prepared, totals, shares, *arrays)

        if not self.compile:
            return step
        name = "inductor" if self.compile is True else self.compile
        return compiled(step, name, self._count)

    def _count(self) -> None:
        self.compilations += 1
