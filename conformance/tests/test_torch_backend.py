"""Laws of the PyTorch backend: the reference's numbers, one graph, no copies, no lost state."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import random
from snnx.backend import BackendError, load_backend
from snnx.building import initial_parameters
from snnx.mode import Mode
from snnx.ops import OPS, Op, Sample

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from snnx_torch import backend, draws, from_torch_layout, to_torch_layout  # noqa: E402
from snnx_torch.precision import set_precision  # noqa: E402

pytestmark = pytest.mark.slow

rng = np.random.default_rng(3)
STEPS = 3
SMOOTH = Mode("smooth", "batch", True, "train")
COMPILER = pytest.mark.filterwarnings(  # torch's own, while it traces an autograd.Function
    "ignore:.*should not be instantiated:DeprecationWarning"
)
LR = snnx.Optim(snnx.SGD(momentum=0.9))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def small() -> snnx.Chain:
    """Every kind of step once, 4 x 4 pixels."""
    wide = snnx.Learned(0.5, transform="log")
    return snnx.Chain(
        snnx.Input(4, 4, 2),
        snnx.Conv2d(4, 3),
        snnx.BatchNorm(scale=0.7),
        snnx.LIF(threshold=0.5, surrogate=snnx.Sigmoid(wide), analog=snnx.Dial("noise", 0.3)),
        snnx.Dropout(0.2),
        snnx.Residual(snnx.Chain(snnx.Conv2d(4, 3, groups=2), snnx.BatchNorm())),
        snnx.LIF(threshold=0.5, reset="subtract", surrogate=snnx.Dspike()),
        snnx.MaxPool2d(2),
        snnx.Flatten(),
        snnx.Linear(6),
        snnx.Recurrent(snnx.LIF(threshold=0.3), synapse_decay=0.5),
        snnx.Linear(3),
    )


def tiny(neuron: snnx.Layer | None = None) -> snnx.Chain:
    return snnx.Chain(
        snnx.Input(4, 4, 1),
        snnx.Conv2d(3, 3),
        snnx.BatchNorm(),
        neuron or snnx.LIF(threshold=0.5, surrogate=snnx.Dspike()),
        snnx.AvgPool2d(2),
        snnx.Flatten(),
        snnx.Linear(3),
    )


def batch(shape: tuple[int, ...], n: int = 4, steps: int = 0, length: bool = False) -> Any:
    lead = (steps, n) if steps else (n,)
    found = {
        "x": rng.random((*lead, *shape)).astype(np.float32),
        "y": rng.integers(0, 3, n),
        "index": np.arange(n) + 5,
    }
    return {**found, "length": rng.integers(1, steps + 1, n)} if length else found


def net(model: Any, name: str = "torch", precision: str = "fp32") -> Any:
    program = snnx.flatten(model)
    values = initial_parameters(program, 1)
    return load_backend(name).build(program, values, device="cpu", precision=precision)


def session(
    model: Any, name: str = "torch", precision: str = "fp64", optim: Any = LR, **options: Any
) -> Any:
    chosen = load_backend(name)
    made = net(model, name, precision)
    return chosen.session(made, snnx.TET(), optim, steps=STEPS, **options)


def both(model: Any, optim: Any = LR) -> tuple[Any, Any]:
    return session(model, "numpy", optim=optim), session(model, optim=optim)


def assert_close(found: Any, wanted: Any, limit: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        scale = max(float(np.max(np.abs(array))), 1e-3)
        assert float(np.max(np.abs(found[name] - array))) <= limit * scale, name


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
    assert np.any(ours.grads(given, {})[1]["3.threshold"])
    ours.step([given], {"lr": 1e3})
    reference.step([given], {"lr": 1e3})
    found = ours.export().parameters["3.threshold"]
    assert found == reference.export().parameters["3.threshold"]
    assert found >= 0.25


def test_a_loss_that_is_not_finite_leaves_everything() -> None:
    ours = session(tiny(), precision="fp32", optim=snnx.Optim(snnx.Adam()))
    given = batch((4, 4, 1))
    ours.step([given], {"step": 1})
    before = ours.export()
    pending = ours.step([{**given, "x": given["x"] * np.float32(np.nan)}], {"step": 2})
    with pytest.raises(FloatingPointError, match=r"step 2: .* gradient norm nan"):
        ours.read(pending)
    after = ours.export()
    assert after.count == before.count == 1
    for field in ("parameters", "statistics", "moments"):
        for name, array in getattr(before, field).items():
            assert np.array_equal(getattr(after, field)[name], array), name


def test_a_state_dict_is_named_by_path_and_goes_round() -> None:
    made, other = net(small()), net(small())
    names = {p.path for p in made.program.parameters} | {s.path for s in made.program.statistics}
    assert set(made.state_dict()) == names
    assert isinstance(made.get_submodule("5.body.0"), torch.nn.Conv2d)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(torch.rand_like(tensor))
    other.load_state_dict(made.state_dict())
    x = torch.rand(2, 4, 4, 2)
    assert torch.equal(other(x, steps=2)[0], made(x, steps=2)[0])


def test_a_snapshot_goes_round_and_fits_the_reference() -> None:
    reference, ours = both(small())
    ours.step([batch((4, 4, 2))], {})
    reference.load(ours.export())
    other = session(small())
    other.load(reference.export())
    for name, array in ours.export().parameters.items():
        assert np.array_equal(other.export().parameters[name], array), name
    assert other.export().count == 1
    given = batch((4, 4, 2))
    np.testing.assert_allclose(
        other.forward(given, {}, SMOOTH).y, reference.forward(given, {}, SMOOTH).y, atol=1e-9
    )


def test_ddp_wraps_the_net(tmp_path: Any) -> None:
    made = net(tiny()).train()
    url = f"file://{tmp_path}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=url, rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(made)
        optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.1)
        before = made.get_parameter("1.weight").detach().clone()
        y, _ = wrapped(torch.rand(4, 4, 4, 1), steps=2)
        y.square().sum().backward()
        optimiser.step()
        assert not torch.equal(made.get_parameter("1.weight"), before)
        assert made.get_buffer("2.running_mean").any()
        group = torch.distributed.group.WORLD
        alone = session(tiny(), precision="fp32")
        shared = session(tiny(), precision="fp32", group=group)
        given = batch((4, 4, 1))
        figures = [s.read(s.step([given], {})) for s in (alone, shared)]
        assert figures[1] == figures[0]
        for name, weights in alone.export().parameters.items():
            np.testing.assert_array_equal(shared.export().parameters[name], weights)
    finally:
        torch.distributed.destroy_process_group()


class Scaled(snnx.ArrayLayer):
    """y = scale x^2, without a rule of its own for the gradient."""

    def parameters(self, shape: Any) -> Any:
        from snnx.program import Init

        return {"scale": (shape[-1:], Init("constant", 0.5))}

    def forward(self, xp: Any, x: Any, parameters: Any) -> Any:
        return parameters["scale"] * xp.square(x)


class Ruled(Scaled):
    """The same with a rule."""

    def vjp(self, xp: Any, x: Any, parameters: Any, y: Any, g: Any) -> Any:  # type: ignore[override]
        axes = tuple(range(x.ndim - 1))
        return 2 * parameters["scale"] * x * g, {"scale": xp.sum(g * xp.square(x), axis=axes)}


def test_a_users_layer_trains_with_and_without_its_rule() -> None:
    made = [
        session(snnx.Chain(snnx.Input(4), snnx.Linear(5), layer, snnx.Linear(3)))
        for layer in (Scaled(), Ruled())
    ]
    given = batch((4,))
    found, wanted = (s.grads(given, {})[1] for s in made)
    assert np.any(wanted["2.scale"])
    assert_close(found, wanted)


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


def test_torchs_layout_permutes_what_follows_a_flatten_and_comes_back() -> None:
    model = tiny()
    program = snnx.flatten(model)
    ours = session(model, precision="fp32")
    ours.step([batch((4, 4, 1))], {})
    snapshot = ours.export()
    habit = to_torch_layout(snapshot, program)
    assert habit.parameters["1.weight"].shape == (3, 1, 3, 3)
    x = rng.random((2, 2, 2, 3)).astype(np.float32)
    wanted = x.reshape(2, -1) @ snapshot.parameters["6.weight"].T
    found = x.transpose(0, 3, 1, 2).reshape(2, -1) @ habit.parameters["6.weight"].T
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    back = from_torch_layout(habit, program)
    for field in ("parameters", "statistics", "moments"):
        for name, array in getattr(snapshot, field).items():
            assert np.array_equal(getattr(back, field)[name], array), name


def test_bf16_stores_activations_in_16_bits_and_weights_in_32() -> None:
    made = net(tiny(), precision="bf16").train()
    seen = []
    for name in ("1.weight", "6.weight"):
        seen.append(made.get_parameter(name).dtype)
    y, state = made(torch.rand(4, 4, 4, 1), steps=2)
    assert y.dtype == torch.bfloat16
    assert state["3"][0].dtype == torch.float32
    assert seen == [torch.float32] * 2
    ours = session(tiny(), precision="bf16")
    first = [ours.read(ours.step([batch((4, 4, 1))], {}))["loss"] for _ in range(2)]
    assert np.all(np.isfinite(first))


def test_autocast_runs_the_net_in_16_bits() -> None:
    made = net(small()).train()
    with torch.autocast("cpu", torch.bfloat16):
        y, state = made(torch.rand(4, 4, 4, 2), steps=2)
    assert y.dtype == torch.bfloat16
    assert {v.dtype for k, arrays in state.items() if k != "t" for v in arrays} == {torch.float32}
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in made.parameters())


def test_deterministic_algorithms_hold_for_the_sessions_work_only() -> None:
    ours = session(tiny(), precision="fp32", deterministic=True)
    ours.step([batch((4, 4, 1))], {})
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_precision_that_the_device_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(BackendError, match="no TF32"):
        net(tiny(), precision="tf32")
    with pytest.raises(BackendError, match="precision is one of"):
        net(tiny(), precision="half")
    real = torch.nn.functional.conv2d

    def rounded(x: Any, weight: Any) -> Any:
        return real(x.bfloat16(), weight.bfloat16()).float()

    monkeypatch.setattr(torch.nn.functional, "conv2d", rounded)
    with pytest.raises(BackendError, match="convolution on cpu has fewer bits"):
        set_precision("fp32", torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_a_device_that_is_absent_is_refused_with_a_remedy() -> None:
    for device in ("cuda", "cuda:3", "mps", "abacus"):
        with pytest.raises(BackendError, match='"cpu"'):
            backend.build(snnx.flatten(tiny()), {}, device=device)
