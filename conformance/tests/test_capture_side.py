"""Laws of what a recorded step leaves out, sets aside and never asks the host for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import snnx

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from snnx.building import initial_parameters  # noqa: E402
from snnx_torch.net import Net  # noqa: E402
from snnx_torch.session import TorchSession  # noqa: E402
from tests.captured_nets import ADAM, MODELS, SHAPE, STEPS, WARM, made  # noqa: E402
from tests.recorded import Recorder, tensors  # noqa: E402
from tests.torch_nets import batch  # noqa: E402

pytestmark = pytest.mark.slow


def recorded(model: str, **more: Any) -> Recorder:
    """Return what a recorded step did."""
    recorder = Recorder()
    ours = made(MODELS[model], recorder, **more)
    for k in range(WARM + 1):
        ours.step([batch(SHAPE)], {"step": k})
    return recorder


def calls(recorder: Recorder, name: str) -> Iterator[tuple[Any, Any]]:
    for func, args, _, found in recorder.tapes[0].calls:
        if func.name() == name:
            yield args, found


def test_a_weight_gradient_that_is_read_before_it_is_there_is_found() -> None:
    recorder = Recorder()
    ours = made(MODELS["lif"], recorder)
    recorder.side.join = lambda: None  # type: ignore[method-assign]
    given = batch(SHAPE)
    for _ in range(WARM):
        ours.read(ours.step([given], {}))
    with pytest.raises(FloatingPointError, match="gradient norm nan"):
        ours.read(ours.step([given], {}))


@pytest.mark.parametrize("lean", [False, True])
def test_a_step_that_hands_nothing_over_writes_no_final_state(lean: bool) -> None:
    whole, cut = (recorded("lif", kernels="cpp", lean=lean, chunk=c) for c in (None, 2))
    counts = []
    for recorder in (whole, cut):
        ends = 0
        for args, found in calls(recorder, "snnx::neuron_forward"):
            ends += sum(t.shape == args[0].shape[1:] for t in found)
        slopes = [args[5] for args, _ in calls(recorder, "snnx::neuron_backward")]
        assert slopes
        counts.append((ends, sum(map(len, slopes))))
    assert counts[0] == (0, 0)
    assert counts[1][0] > 0


@pytest.mark.parametrize("form", [{}, {"lean": True}, {"lean": True, "precision": "bf16"}])
def test_the_stem_sees_a_static_image_once(form: dict[str, Any]) -> None:
    recorder = recorded("lif", **form)
    images = [args[0].shape[0] for args, _ in calls(recorder, "aten::convolution")]
    n = len(batch(SHAPE)["index"])
    assert images == [n, *[STEPS * n] * 3]
    assert [found.shape[0] for found in _norms(recorder)][:1] == ([] if form else [n])


def _norms(recorder: Recorder) -> list[Any]:
    return [found[0] for _, found in calls(recorder, "aten::native_batch_norm")]


class Crossings(TorchDispatchMode):
    """Notes operations on a device without numbers that read or write memory of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        for t in tensors((args, kwargs, out)):
            if t.device.type == "cpu":  # a number in an operation stands in its kernel's arguments
                self.found.add(f"{func.name()} {tuple(t.shape)} {t.dtype}")
        if func.name().startswith("aten::lift_fresh"):
            self.found.add(func.name())
        return out


def on_meta(model: Any, **more: Any) -> TorchSession:
    program = snnx.flatten(model)
    low = torch.bfloat16 if more.pop("bf16", False) else None
    form = (torch.device("meta"), torch.float32, low, more.pop("lean", True))
    net = Net(program, initial_parameters(program, 1), *form)
    return TorchSession(net, snnx.TET(), ADAM, STEPS, False, False, None, **more)


FORMS: dict[str, dict[str, Any]] = {
    "lean": {},
    "bf16": {"bf16": True},
    "keep": {"lean": False},
    "chunks": {"chunk": 2},
}


@pytest.mark.parametrize(
    ("model", "form"),
    [(m, f) for m in MODELS for f in FORMS if (m, f) != ("dsr", "chunks")],  # its T is not cut
)
def test_nothing_in_a_step_crosses_between_host_and_device(model: str, form: str) -> None:
    ours = on_meta(MODELS[model], **FORMS[form])
    given, _ = ours._batch(batch(SHAPE), None)
    inputs = (torch.zeros(3 + len(ours.names), dtype=torch.int32, device="meta"), {})
    vote = torch.zeros((), device="meta")
    state = (ours.parameters, ours.net.statistics(), ours.moments, ours.count)
    step = ours.taker._made(ours.train, (STEPS,), (None,))
    with Crossings() as crossings:
        step(*state, [given], *inputs, vote)
    assert crossings.operations > 100
    assert crossings.found == set()


def test_a_crossing_is_found() -> None:
    x = torch.zeros(2, device="meta")
    for work in (lambda: x + torch.tensor([1.0, 2.0]).to("meta"), lambda: torch.tensor(1.0)):
        with Crossings() as crossings:
            work()
        assert crossings.found
