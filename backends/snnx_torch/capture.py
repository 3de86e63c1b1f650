"""A training step recorded once and replayed: CUDA graphs, behind a seam that a test can fill.

A recording runs nothing: it notes what is to be done with which memory. Everything a replay reads
or writes beside its own scratch memory lies at addresses that stay. See "CUDA semantics" in torch's
manual and the CUDA graphs chapter of NVIDIA's.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from snnx.backend import BackendError
from snnx_torch.net import Net
from snnx_torch.ranks import hold

Work = Callable[[], None]
Found = TypeVar("Found")


class Side(Protocol):
    """Where work goes that nothing waits for until `join`: weight gradients."""

    def run(self, work: Callable[[], Found], *reads: Tensor) -> Found:
        """Return what the work gives, not to be read before `join`; it reads these tensors."""
        ...

    def join(self) -> None:
        """Let what follows wait for all the work."""
        ...


class Capture(Protocol):
    """Records work and replays it; `side` takes part in what is recorded."""

    @property
    def side(self) -> Side:
        """Where the work's weight gradients go."""
        ...

    def warm(self, work: Work) -> None:
        """Run the work as a recording will see it: kernels compile and libraries make room."""
        ...

    def record(self, work: Work) -> Work:
        """Return a function that does the work each time it is called; it is not done yet.

        Raises: RuntimeError where the work cannot be recorded.
        """
        ...


class CudaSide:
    """A second stream while a graph is warmed and recorded; else the work runs where it stands.

    Two streams in eager mode cost the host more than they give, but libraries take room on each
    before a graph is recorded. What the work reads is held until
    the next work joins, so that the allocator gives its memory to nobody in between.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.active = False
        self._last: tuple[Any, Any] | None = None

    def run(self, work: Callable[[], Found], *reads: Tensor) -> Found:
        """See `Side.run`."""
        if not self.active:
            return work()
        self.join()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            found = work()
            self._last = (self.stream.record_event(), (work, reads, found))
        return found

    def join(self) -> None:
        """See `Side.join`."""
        if self._last is not None:
            torch.cuda.current_stream(self.device).wait_event(self._last[0])
            self._last = None


class CudaCapture:
    """CUDA graphs of one session: they share scratch memory, since one runs after the other.

    Safe in any order: all that outlives a replay is allocated before the recording, outside.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.side = device, CudaSide(device)
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm(self, work: Work) -> None:
        """See `Capture.warm`; on the stream that will record, as autograd and cuBLAS want it."""
        main = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream), self._aside():
            work()
        main.wait_stream(self.stream)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Let the side take part, and join it in the end."""
        self.side.active = True
        try:
            yield
            self.side.join()
        finally:
            self.side.active, self.side._last = False, None

    def record(self, work: Work) -> Work:
        """See `Capture.record`."""
        graph = torch.cuda.CUDAGraph()
        main, collects = torch.cuda.current_stream(self.device), gc.isenabled()
        # a graph or a kernel that the collector frees meanwhile would end the recording;
        # other threads (a watchdog of NCCL, a loader that pins memory) must not
        options: Any = {"pool": self.pool, "capture_error_mode": "thread_local"}
        gc.collect()
        gc.disable()
        try:
            with (
                torch.cuda.device(self.device),
                torch.cuda.graph(graph, stream=self.stream, **options),
                self._aside(),
            ):
                work()
        finally:
            torch.cuda.set_stream(main)  # a recording that failed leaves its own behind
            if collects:
                gc.enable()
        hold(graph)
        return graph.replay


def chosen(
    net: Net, graph: bool | None, deterministic: bool, group: Any
) -> tuple[Capture | None, str]:
    """Return what records a session's step, or None and why; `graph` None: where it is safe.

    Raises: BackendError where graphs are asked for and cannot be.
    """
    why = "graph = false" if graph is False else obstacle(net, graph is True, deterministic, group)
    if not why:
        return CudaCapture(net.device), ""
    if graph:
        raise BackendError(
            f'torch: graph = true, but the step cannot be recorded: {why}; give graph = "auto"'
        )
    return None, why


def obstacle(net: Net, asked: bool, deterministic: bool, group: Any) -> str:
    """Return why a session's step cannot be recorded, or nothing.

    `asked`: a user who asks for it vouches for layers of their own.
    """
    if net.device.type != "cuda":
        return f"on {net.device.type}; graphs are CUDA's"
    if deterministic:
        return "torch checks a deterministic step operation by operation"
    if torch.is_anomaly_enabled():
        return "torch's anomaly detection reads every gradient on the host"
    if group is not None and dist.get_backend(group) != "nccl":
        return f"processes joined by {dist.get_backend(group)} exchange on the host"
    own = [step.path for step in net.program.steps if step.op == "array_layer"]
    if own and not asked:
        return f"layer {own[0]} is a user's own and may run code on the host"
    return ""
