"""Laws of the PyTorch backend: the reference's numbers, one graph, no copies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import random
from snnx.mode import Mode
from snnx.ops import OPS, Op, Sample

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from snnx_torch import backend, draws  # noqa: E402
from tests.torch_nets import (  # noqa: E402
    COMPILER,
    SMOOTH,
    STEPS,
    Ruled,
    assert_close,
    batch,
    both,
    net,
    rng,
    session,
    small,
    tiny,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    torch._dynamo.reset()


CASES = [pytest.param(op, s, id=f"{op.name}-{s.name}") for op in OPS.values() for s in op.samples()]


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_an_op_and_its_gradients_equal_the_spec(op: Op, sample: Sample) -> None:
    inputs = {k: np.asarray(v) for k, v in sample.inputs.items()}
    wanted = op.forward(np, inputs, sample.attributes)
    given = (
        {k: np.asarray(sample.cotangents.get(k, 0 * y)) for k, y in wanted.items()}
        if (sample.cotangents is not None)
        else {k: rng.integers(-4, 5, np.shape(y)) * 0.25 for k, y in wanted.items()}
    )
    gradients = op.vjp(np, inputs, sample.attributes, wanted, given)
    found = backend.run(op, inputs, sample.attributes, "float64")
    assert_close(found, wanted, 1e-12)
    assert_close(backend.vjp(op, inputs, sample.attributes, "float64", given), gradients, 1e-11)


def test_steps_equal_the_reference() -> None:
    reference, ours = both(small(), snnx.Optim(snnx.Adam(), clip_norm=0.5))
    parts = [batch((4, 4, 2), steps=4, length=True), batch((4, 4, 2))]
    for step in range(3):
        dials = {"step": step, "seed": 9, "lr": 0.01 / (step + 1), "temperature": 1.0 + step}
        wanted = reference.read(reference.step(parts, dials, SMOOTH))
        found = ours.read(ours.step(parts, dials, SMOOTH))
        assert found == pytest.approx(wanted, rel=1e-6)
    for field in ("parameters", "statistics", "moments"):
        assert_close(getattr(ours.export(), field), getattr(reference.export(), field))


@pytest.mark.parametrize("static", [True, False])
def test_gradients_equal_the_reference_in_smooth_mode(static: bool) -> None:
    reference, ours = both(small())
    given = batch((4, 4, 2), steps=0 if static else 2)
    loss, wanted = reference.grads(given, {"temperature": 3.0}, SMOOTH)
    mine, found = ours.grads(given, {"temperature": 3.0}, SMOOTH)
    assert mine == pytest.approx(loss, rel=1e-9)
    assert_close(found, wanted)
    assert all(np.any(g) for name, g in wanted.items() if not name.endswith(".bias"))


def test_a_spiking_run_equals_the_reference_where_no_spike_flips() -> None:
    reference, ours = both(small())
    given, dials = batch((4, 4, 2)), {"noise": 0.0}
    taps = ("3.spike", "6.spike", "6.potential", "input", "5")
    wanted, found = (s.forward(given, dials, taps=taps) for s in (reference, ours))
    assert all(np.any(wanted.taps[tap]) for tap in taps)
    assert_close(found.taps, wanted.taps)
    assert np.array_equal(found.taps["6.spike"], wanted.taps["6.spike"])
    assert found.state["t"] == wanted.state["t"] == STEPS


def test_imposed_spikes_replace_the_neurons_own() -> None:
    reference, ours = both(tiny())
    impose = {"3": rng.integers(0, 2, (STEPS, 4, 4, 4, 3)).astype(float)}
    given = batch((4, 4, 1))
    _, wanted = reference.grads(given, {}, impose=impose)
    _, found = ours.grads(given, {}, impose=impose)
    assert_close(found, wanted)


def test_losses_of_copies_from_an_edge_equal_the_reference() -> None:
    reference, ours = both(tiny())
    given = batch((4, 4, 1))
    edge = rng.random((1, 8, 4, 4, 3))
    mode = Mode("smooth", "frozen_batch")
    wanted, found = (
        s.loss(given, {}, mode, at="1", values=edge, copies=2) for s in (reference, ours)
    )
    assert wanted.shape == (2, 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert not np.allclose(wanted[0], wanted[1])


def test_the_mask_of_mixed_mode_is_the_references() -> None:
    model = tiny(snnx.LIF(threshold=0.5, analog=0.4, surrogate=snnx.Tanh()))
    reference, ours = both(model)
    given, mode = batch((4, 4, 1)), snnx.train_mode(snnx.flatten(model))
    dials = {"seed": 4, "step": 70_000}
    wanted, found = (s.forward(given, dials, mode, ["3.spike"]) for s in (reference, ours))
    analog = [(f.taps["3.spike"] > 0) & (f.taps["3.spike"] < 1) for f in (wanted, found)]
    assert np.array_equal(analog[0], analog[1])
    assert 0.3 < analog[0].mean() < 0.5


def test_draws_are_the_stream_of_snnx() -> None:
    tensor = lambda v: torch.tensor(v, dtype=torch.int64)  # noqa: E731
    seed, count, times = 2**32 - 1, 2**31 + 3, [0, 2**32 - 1]
    samples, key = [0, 7, 2**32 - 2], random.key_hash("analog", "3")
    args = (tensor(seed), key, tensor(count), tensor(samples), tensor(times), 9)
    given = (seed, "analog", "3", count, np.array(samples), np.array(times), 9)
    assert np.array_equal(draws.bits(*args).numpy(), random.bits(*given))
    assert np.array_equal(draws.uniform(*args).numpy(), random.uniform(*given))
    assert np.array_equal(draws.bernoulli(0.3, *args).numpy(), random.bernoulli(0.3, *given))


class Copies(TorchDispatchMode):
    """Collects operations that copy an array and keep its dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[int, ...]]] = []
        self.convolutions = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        self.convolutions += name in ("convolution", "convolution_backward")
        if name in ("copy_", "clone", "contiguous", "_to_copy") and out.dim() > 1:
            same = args[0].dtype == out.dtype and (name != "copy_" or args[1].dtype == out.dtype)
            if same:
                self.found.append((name, tuple(out.shape)))
        if name in ("convolution", "native_batch_norm", "max_pool2d_with_indices"):
            image = args[0]
            assert image.is_contiguous(memory_format=torch.channels_last), name
        return out


def test_a_step_copies_nothing_for_layout() -> None:
    model = snnx.Chain(
        snnx.Input(8, 8, 2),
        snnx.Conv2d(4, 3),
        snnx.BatchNorm(),
        snnx.LIF(),
        snnx.MaxPool2d(2),
        snnx.Residual(snnx.Chain(snnx.Conv2d(4, 3), snnx.BatchNorm())),
        snnx.LIF(surrogate=snnx.Triangular()),
        snnx.AvgPool2d(2),
        snnx.Flatten(),
        snnx.Linear(3),
    )
    ours = session(model, precision="fp32", compile=False)
    with Copies() as copies:
        ours.step([batch((8, 8, 2))], {})
    assert copies.convolutions == 4
    assert copies.found == []


@COMPILER
def test_one_graph_of_the_step_serves_every_dial() -> None:
    eager = session(tiny(), precision="fp32")
    ours = session(tiny(), precision="fp32", compile="aot_eager")
    given = batch((4, 4, 1))
    for k in range(12):
        dials = {"temperature": 0.5 + k, "lr": 0.1 / (k + 1), "step": k, "epoch": k, "seed": k}
        found, wanted = (s.read(s.step([given], dials)) for s in (ours, eager))
        assert found == pytest.approx(wanted, rel=1e-5)
    assert ours.compilations() == 1
    assert eager.compilations() == 0
    assert_close(ours.export().parameters, eager.export().parameters)


@COMPILER
def test_every_kind_of_backward_is_compiled_in_one_graph() -> None:
    decay = snnx.Learned(0.5, transform="logit", group="synapse")
    neuron = snnx.LIF(threshold=0.2, surrogate=snnx.ArcTan())
    model = snnx.Chain(
        snnx.Input(4),
        snnx.Linear(3),
        snnx.DSR.integrate_and_fire(threshold=0.2),
        Ruled(),
        snnx.Recurrent(neuron, synapse_decay=decay),
        snnx.Linear(3),
    )
    eager, ours = (session(model, precision="fp32", compile=c) for c in (False, "aot_eager"))
    given = batch((4,))
    for s in (eager, ours):
        s.read(s.step([given], {}))
    assert ours.compilations() == 1
    assert_close(ours.export().parameters, eager.export().parameters)
    made = ours.net
    x = torch.rand(2, 4)
    with torch.no_grad():
        whole = torch.compile(made, fullgraph=True, backend="eager")
        assert torch.equal(whole(x, steps=2)[0], made(x, steps=2)[0])


@COMPILER
def test_one_graph_of_the_net_serves_every_dial() -> None:
    made = net(tiny(snnx.LIF(analog=snnx.Dial("noise", 0.1), surrogate=snnx.Dspike()))).train()
    graphs = 0

    def counted(graph: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    whole = torch.compile(made, fullgraph=True, backend=counted)
    x = torch.rand(4, 4, 4, 1)
    for k in range(12):
        dials = made.dial_buffer({"noise": k / 20, "temperature": 1.0 + k, "step": k})
        grads = []
        for run in (whole, made):
            made.zero_grad()
            y, _ = run(x, steps=2, dials=dials)
            y.square().sum().backward()
            grads.append(made.get_parameter("1.weight").grad.clone())
        torch.testing.assert_close(*grads)
    assert graphs == 1


@pytest.mark.parametrize("fire", ["spike", "mixed"])
def test_chunks_of_time_give_the_same_bits(fire: str) -> None:
    analog = 0.5 if fire == "mixed" else 0.0
    neuron = snnx.LIF(decay=0.7, reset="subtract", surrogate=snnx.Tanh(), analog=analog)
    model = snnx.Chain(snnx.Input(2, 2, 3), neuron)
    made = net(model).train(fire == "mixed")
    x = 2 * torch.rand(6, 5, 2, 2, 3)
    whole, end = made(x)
    first, state = made(x[:2])
    second, last = made(x[2:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert int(last["t"]) == int(end["t"]) == 6
    assert torch.equal(last["1"][0], end["1"][0])
    assert not torch.equal(first, whole[2:4])


def test_a_learned_width_follows_its_own_rule() -> None:
    width = snnx.Learned(0.5, transform="log")
    model = tiny(snnx.LIF(threshold=0.5, surrogate=snnx.Tanh(width)))
    group = next(p.group for p in snnx.parameters(model) if p.learned)
    rule = snnx.Adam(lr=snnx.Dial("lr_width", 0.01))
    sessions = both(model, snnx.Optim(snnx.SGD(), {group: rule}))
    for s in sessions:
        s.read(s.step([batch((4, 4, 1))] * 2, {"lr": 1e-9, "lr_width": 0.02}, SMOOTH))
    moved = [s.export().parameters["3.surrogate.width"] - np.log(0.5) for s in sessions]
    assert abs(abs(moved[0]) - 0.02) < 1e-6
    assert abs(abs(moved[1]) - 0.02) < 1e-6
    assert "3.surrogate.width.second" in sessions[1].export().moments


@pytest.mark.parametrize(
    "make", [snnx.DSR.integrate_and_fire, partial(snnx.DSR.leaky, dt=1.0)], ids=["if", "lif"]
)
def test_dsr_equals_the_reference_and_its_threshold_stays_above_its_bound(make: Any) -> None:
    model = tiny(make(threshold=0.3, low=0.25))
    reference, ours = both(model)
    given = batch((4, 4, 1))
    assert_close(ours.grads(given, {})[1], reference.grads(given, {})[1])
    slope = ours.grads(given, {})[1]["3.threshold"]
    assert slope != 0.0
    rate = float(np.copysign(1e3, slope))  # against the slope: down, far below the bound
    for made in (ours, reference):
        made.step([given], {"lr": rate})
        assert made.export().parameters["3.threshold"] == 0.25


@COMPILER
def test_any_number_of_compiled_sessions_live_in_one_process() -> None:
    for units in range(2, 14):  # torch gives up at the ninth graph of one code
        model = snnx.Chain(snnx.Input(4, 4, 1), snnx.Flatten(), snnx.Linear(units), snnx.LIF())
        ours = session(snnx.Chain(*model.layers, snnx.Linear(3)), precision="fp32", compile="eager")
        for step in range(2):
            assert np.isfinite(ours.read(ours.step([batch((4, 4, 1))], {"step": step}))["loss"])
        assert ours.compilations() == 1
