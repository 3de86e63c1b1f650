"""A CUDA graph imitated on a CPU, to be put behind `snnx_torch.capture.Capture`.

Recording takes the work apart into torch's operations with the very tensors they were given. It
undoes what it changed outside, as a graph that is recorded computes nothing. A replay first spoils
every byte that the recording allocated, then runs the operations again, each result written to
where the first one lay. Refused, as by CUDA: reading a value on the host, shapes that depend on
values, tensors made of Python's numbers; and draws of torch's own generators, which a seed dial
could not turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Call = tuple[Any, tuple[Any, ...], dict[str, Any], Any]
READS = frozenset(
    f"Tensor.{name}"
    for name in ("item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__float__", "__int__")
)
TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
DRAWS = torch.Tag.nondeterministic_seeded
MADE = ("aten::lift_fresh", "aten::lift_fresh_copy")  # a tensor of Python's numbers


class NotRecorded(RuntimeError):
    """What a CUDA graph cannot hold."""


def tensors(values: Any) -> list[Tensor]:
    """Return the tensors of nested values."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def place(tensor: Tensor) -> int:
    """Return what tells storages apart."""
    return tensor.untyped_storage()._cdata


def bytes_of(tensor: Tensor) -> Tensor:
    """Return all bytes of a tensor's storage."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def masks(args: Any) -> bool:
    return any(t.dtype in (torch.bool, torch.uint8) for t in tensors(args[1:]))


class _Hosts(TorchFunctionMode):
    """Refuses methods that read a tensor on the host without an operation of torch's."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__qualname__", "").replace("TensorBase", "Tensor")
        if name in READS and not self.tape.inside:
            raise NotRecorded(f"{name} reads a value on the host")
        return func(*args, **(kwargs or {}))


class Tape(TorchDispatchMode):
    """Records operations; `inside` one of them everything is its own affair."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.inside = False
        self.own: dict[int, Tensor] = {}  # by storage, what the recording allocated
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # what it changed outside, as it was
        self._met: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._check(func, args)
        given = tensors((args, kwargs))
        self._met |= {place(t) for t in given} - self.own.keys()
        for tensor in self._changed(func, args, kwargs):
            if place(tensor) not in self.own and place(tensor) not in self.before:
                whole = bytes_of(tensor)
                self.before[place(tensor)] = (whole, whole.clone())
        outer, self.inside = self.inside, True
        try:
            found = func(*args, **kwargs)
        finally:
            self.inside = outer
        for tensor in tensors(found):
            if place(tensor) not in self._met:
                self.own.setdefault(place(tensor), tensor)
        self.calls.append((func, args, kwargs, found))
        return found

    @staticmethod
    def _check(func: Any, args: Any) -> None:
        name = func.name()
        if name.startswith(("aten::index.", "aten::_index")):
            if masks(args):
                raise NotRecorded(f"{name}: a mask's shape depends on values")
        elif any(tag in func.tags for tag in TAGS):
            raise NotRecorded(f"{name} reads a value on the host")
        if DRAWS in func.tags:
            raise NotRecorded(f"{name} draws from torch's own generator")
        if name in MADE:
            raise NotRecorded(f"{name}: a tensor of Python's numbers is copied from the host")

    @staticmethod
    def _changed(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        found: list[Tensor] = []
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[i] if i < len(args) else kwargs.get(argument.name)
                found += tensors(value)
        return found


@contextmanager
def taped(tape: Tape) -> Iterator[None]:
    """Record what is done inside."""
    with _Hosts(tape), tape:
        yield


class DelayedSide:
    """A second stream at its slowest: its results are there at `join` and NaN before."""

    def __init__(self) -> None:
        self.active, self.forks, self.joins = False, 0, 0
        self._waiting: list[tuple[Callable[[], Any], list[Tensor]]] = []

    def run(self, work: Callable[[], Any], *reads: Tensor) -> Any:
        """See `snnx_torch.capture.Side`."""
        if not self.active:
            return work()
        self.forks += 1
        found = work()
        outputs = [torch.full_like(t, torch.nan) for t in tensors(found)]
        self._waiting.append((work, outputs))
        return outputs[0] if isinstance(found, Tensor) else type(found)(outputs)

    def join(self) -> None:
        """See `snnx_torch.capture.Side`."""
        self.joins += bool(self._waiting)
        for work, outputs in self._waiting:
            for ours, theirs in zip(outputs, tensors(work()), strict=True):
                ours.copy_(theirs)
        self._waiting = []


class Recorder:
    """See `snnx_torch.capture.Capture`."""

    def __init__(self) -> None:
        self.side, self.tapes, self.warmed, self.replays = DelayedSide(), [], 0, 0

    def warm(self, work: Callable[[], None]) -> None:
        """Run the work."""
        self.warmed += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work, leaving everything as it was."""
        tape = Tape()
        self.side.active = True
        try:
            with taped(tape):
                work()
                self.side.join()
        finally:
            self.side.active = False
            for whole, old in tape.before.values():
                whole.copy_(old)
        self.tapes.append(tape)
        self._spoil(tape)
        return lambda: self._replay(tape)

    @staticmethod
    def _spoil(tape: Tape) -> None:
        for tensor in tape.own.values():
            bytes_of(tensor).fill_(255)

    @torch.no_grad()
    def _replay(self, tape: Tape) -> None:
        self.replays += 1
        self._spoil(tape)
        for func, args, kwargs, old in tape.calls:
            found = func(*args, **kwargs)
            given = {place(t) for t in tensors((args, kwargs))}
            for ours, theirs in zip(tensors(old), tensors(found), strict=True):
                if place(ours) in tape.own and place(theirs) not in given:
                    ours.copy_(theirs)
