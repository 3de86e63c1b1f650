"""Laws of what cannot be recorded: it is found, said, and run eagerly or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import snnx
from snnx.backend import BackendError, load_backend
from snnx.building import initial_parameters
from snnx.cli import main

torch = pytest.importorskip("torch")

from snnx_torch import backend  # noqa: E402
from tests.captured_nets import ADAM, MODELS, SHAPE, WARM, dials_of, made, same  # noqa: E402
from tests.recorded import NotRecorded, Recorder  # noqa: E402
from tests.torch_nets import Ruled, batch, tiny  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["lr", "temperature", "seed", "step"])
def test_a_number_that_is_baked_in_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["dspike"] if name == "temperature" else MODELS["asgl"]
    from snnx_torch import train_step

    ours, eager = made(model, Recorder()), made(model)
    real, given = train_step.unpack, batch(SHAPE)

    def baked(buffer: Any, names: Any, dtype: Any) -> Any:
        found = real(buffer, names, dtype)
        return {**found, name: torch.full_like(found[name], now[name])}

    same_so_far = True
    for k in range(WARM + 3):
        now = dials_of(ours, k)
        eager.step([given], now)
        with monkeypatch.context() as planted:
            planted.setattr(train_step, "unpack", baked)
            ours.step([given], now)
        same_so_far = same(ours.export(), eager.export())
        assert same_so_far == (k <= WARM), k  # true to the step whose number was recorded
    assert not same_so_far


FAULTS: dict[str, Any] = {
    "host read": lambda loss: loss * float(loss.detach().sum()),
    "numpy": lambda loss: loss * loss.detach().numpy().sum(),
    "mask": lambda loss: loss[loss > 0.0],
    "constant": lambda loss: loss * torch.tensor(2.0),
    "draw": lambda loss: loss * torch.rand_like(loss),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_graph_cannot_hold_is_said_and_the_step_taken_eagerly(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snnx_torch.train_step import TrainStep

    ours, eager = made(MODELS["lif"], Recorder()), made(MODELS["lif"])
    insistent = made(MODELS["lif"], Recorder(), graph=True)
    real = TrainStep.losses
    monkeypatch.setattr(TrainStep, "losses", lambda *given: FAULTS[fault](real(*given)))
    given = batch(SHAPE)
    for k in range(WARM):
        for s in (ours, eager, insistent):
            torch.manual_seed(k)
            s.step([given], {"step": k})
    torch.manual_seed(WARM)
    with pytest.warns(RuntimeWarning, match="could not be recorded .* the run goes on eagerly"):
        ours.step([given], {"step": WARM})
    assert "eager, because" in ours.step_form()
    torch.manual_seed(WARM)
    eager.step([given], {"step": WARM})
    if fault != "draw":  # the attempt drew once
        assert same(ours.export(), eager.export())
    before = insistent.export()
    with pytest.raises(BackendError, match=r"could not be recorded .*; give graph = false"):
        insistent.step([given], {"step": WARM})
    assert same(insistent.export(), before)


def test_memory_that_runs_out_in_a_recording_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(Recorder):
        def record(self, work: Any) -> Any:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            finally:  # as the end of a recording that failed does
                raise RuntimeError("operation failed due to a previous error during capture")

    ours = made(MODELS["lif"], Full())
    given = batch(SHAPE)
    for _ in range(WARM):
        ours.step([given], {})
    with pytest.raises(MemoryError, match="out of memory"):
        ours.step([given], {})


def test_what_is_not_recorded_says_why() -> None:
    program = snnx.flatten(tiny())
    net = backend.build(program, initial_parameters(program, 1), device="cpu")
    fixed: Any = (net, snnx.TET(), ADAM)
    assert backend.session(*fixed).step_form() == "eager, because on cpu; graphs are CUDA's"
    asked = backend.session(*fixed, graph=False).step_form()
    assert asked == "eager, because graph = false"
    with pytest.raises(BackendError, match="cannot be recorded: on cpu; graphs are CUDA's"):
        backend.session(*fixed, graph=True)
    assert "recorded as a CUDA graph" in made(tiny(), Recorder()).step_form()


def test_a_step_that_cannot_be_recorded_on_cuda_is_known_before(tmp_path: Any) -> None:
    from snnx_torch.capture import obstacle

    class Net:
        device = torch.device("cuda")
        program = snnx.flatten(tiny())

    net: Any = Net()
    assert obstacle(net, False, False, None) == ""
    assert "deterministic" in obstacle(net, True, True, None)
    with torch.autograd.set_detect_anomaly(True):
        assert "anomaly" in obstacle(net, True, False, None)
    net.program = snnx.flatten(snnx.Chain(snnx.Input(3), Ruled(), snnx.Linear(2)))
    assert "layer 1 is a user's own" in obstacle(net, False, False, None)
    assert obstacle(net, True, False, None) == ""
    url = f"file://{tmp_path}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=url, rank=0, world_size=1)
    try:
        group = torch.distributed.group.WORLD
        assert "gloo" in obstacle(net, True, False, group)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["numpy", "mlx"])
def test_other_backends_refuse_graphs_and_say_how_they_step(name: str) -> None:
    pytest.importorskip({"mlx": "mlx.core"}.get(name, name))
    other = load_backend(name)
    program = snnx.flatten(tiny())
    net = other.build(program, initial_parameters(program, 1), device="cpu")
    with pytest.raises(BackendError, match='give graph = "auto"'):
        other.session(net, snnx.TET(), ADAM, graph=True)
    assert other.session(net, snnx.TET(), ADAM).step_form()


def test_the_recorder_refuses_what_it_must() -> None:
    recorder, x = Recorder(), torch.ones(3)
    works: tuple[Any, ...] = (lambda: x.sum().item(), lambda: x.nonzero(), lambda: bool(x.any()))
    for work in works:
        with pytest.raises(NotRecorded):
            recorder.record(work)
    y = torch.zeros(3)
    replay = recorder.record(lambda: y.add_(2 * x))
    assert y.tolist() == [0, 0, 0]
    x.fill_(3.0)
    replay()
    assert y.tolist() == [6, 6, 6]


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_a_run_says_how_it_steps_and_that_it_went_on_eagerly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Recorder):
        def record(self, work: Any) -> Any:
            raise NotRecorded("a stream was waited for")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snnx_torch.session.chosen", lambda *_: (Broken(), ""))
    small = ["-b", "torch", "device=cpu", "model.width=0.04", "batch_size=64", "--max-steps=5"]
    assert main(["train", "digits", *small, "compile=false", "--no-plots"]) == 0
    shown = capsys.readouterr()
    log = Path("runs/latest/log.txt").read_text()
    assert "recorded as a CUDA graph after 3 steps and replayed" in " ".join(shown.out.split())
    assert "recorded as a CUDA graph" in log
    for text in (shown.err, log):
        assert "a stream was waited for; the run goes on eagerly" in " ".join(text.split())
