"""Laws of the order in which a recorded step uses streams, over a stand-in for torch.cuda."""

from __future__ import annotations

import gc
from typing import Any, ClassVar

import pytest

torch = pytest.importorskip("torch")

from snnx_torch import ranks  # noqa: E402
from snnx_torch.capture import CudaCapture  # noqa: E402

CUDA = torch.device("cuda")


class Stream:
    """A stream that writes down who waits for whom."""

    names = ("side", "record")

    def __init__(self, log: Log, name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")

    def record_event(self) -> str:
        return f"{self.name}'s event {self.log.events()}"


class Log(list[str]):
    """What stands in for torch.cuda, and what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.current = Stream(self, "main")
        self.made, self.told, self.fails = 0, 0, False

    def events(self) -> int:
        self.told += 1
        return self.told

    def stream_of(self, device: Any = None) -> Stream:
        self.made += 1
        return Stream(self, Stream.names[self.made - 1])

    def use(self, stream: Stream) -> _Use:
        return _Use(self, stream)

    def set_stream(self, stream: Stream) -> None:
        self.current = stream

    def graph(self, graph: Any, stream: Stream, pool: str, capture_error_mode: str) -> _Use:
        assert pool == "pool"
        assert capture_error_mode == "thread_local"
        self.append("recording begins")
        return _Use(self, stream, ends=True)


class _Use:
    def __init__(self, log: Log, stream: Stream, ends: bool = False) -> None:
        self.log, self.stream, self.ends, self.before = log, stream, ends, log.current

    def __enter__(self) -> None:
        self.before, self.log.current = self.log.current, self.stream

    def __exit__(self, *_: object) -> None:
        if self.ends and self.log.fails:
            raise RuntimeError("the recording is invalid")  # and the stream stays, as torch's does
        self.log.current = self.before
        if self.ends:
            self.log.append("recording ends")


class Graph:
    told: ClassVar[list[str]] = []

    def replay(self) -> None:
        """Do nothing."""

    def reset(self) -> None:
        self.told.append("graph let go")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log()
    stand_ins = {
        "Stream": found.stream_of,
        "stream": found.use,
        "set_stream": found.set_stream,
        "current_stream": lambda device=None: found.current,
        "graph_pool_handle": lambda: "pool",
        "graph": found.graph,
        "CUDAGraph": Graph,
        "device": lambda device: _Use(found, found.current),
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return found


def layers(capture: CudaCapture, log: Log) -> None:
    for layer in "ab":
        log.append(f"{log.current.name}: input of {layer}")
        capture.side.run(lambda layer=layer: log.append(f"{log.current.name}: weight of {layer}"))


def test_weight_gradients_are_joined_one_layer_later_and_in_the_end(log: Log) -> None:
    capture = CudaCapture(CUDA)
    replay = capture.record(lambda: layers(capture, log))
    assert log == [
        "recording begins",
        "record: input of a",
        "side waits for record",
        "side: weight of a",
        "record: input of b",
        "record waits for side's event 1",
        "side waits for record",
        "side: weight of b",
        "record waits for side's event 2",
        "recording ends",
    ]
    assert callable(replay)
    assert log.current.name == "main"
    log.clear()
    capture.side.run(lambda: log.append(log.current.name))
    assert log == ["main"]  # outside of a recording work runs where it stands


def test_warm_steps_run_on_the_stream_that_records(log: Log) -> None:
    capture = CudaCapture(CUDA)
    capture.warm(lambda: layers(capture, log))
    assert log[0] == "record waits for main"
    assert log[1] == "record: input of a"
    assert log[-2:] == ["record waits for side's event 2", "main waits for record"]


def test_a_recording_that_fails_gives_stream_and_collector_back(log: Log) -> None:
    capture, log.fails = CudaCapture(CUDA), True
    during: list[bool] = []
    with pytest.raises(RuntimeError, match="invalid"):
        capture.record(lambda: during.append(gc.isenabled()))
    assert during == [False]
    assert gc.isenabled()
    assert log.current.name == "main"
    assert not capture.side.active


def test_graphs_that_live_are_let_go_before_a_group_is_left(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Graph, "told", told)
    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: told.append("group left"))
    capture = CudaCapture(CUDA)
    replays = [capture.record(lambda: layers(capture, log)) for _ in range(2)]
    ranks.leave()
    assert told == ["graph let go", "graph let go", "group left"]
    told.clear()
    del replays
    gc.collect()
    ranks.leave()
    assert told == ["group left"]
