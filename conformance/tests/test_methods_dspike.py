"""Dspike: the finite difference gradient, its cosine, and the choice of the temperature."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import random
from snnx.backend import installed, load_backend
from snnx.data import Dataset
from snnx.methods import DspikeMethod
from snnx.methods.finite_difference import (
    cosine,
    finite_differences,
    first_layer,
    held_mode,
    one_by_one,
)
from snnx.program import flatten
from snnx.training import loop
from snnx.training.plan import Plan

LIF = snnx.LIF(threshold=0.5, fire=">", surrogate=snnx.Dspike())
CONV = snnx.Chain(
    snnx.Input(5, 4, 2),
    snnx.Conv2d(4, 3, stride=2, padding=1, groups=2),
    snnx.BatchNorm(),
    LIF,
    snnx.Dropout(0.2),
    snnx.Flatten(),
    snnx.Linear(3),
)
LINEAR = snnx.Chain(
    snnx.Input(6),
    snnx.Residual(snnx.Chain(snnx.Linear(6, bias=False), snnx.BatchNorm(scale=0.5))),
    LIF,
    snnx.Linear(3),
)
SMOOTH = snnx.Chain(
    snnx.Input(5, 4, 2), snnx.Conv2d(3, 3), snnx.ReLU(), snnx.Flatten(), snnx.Linear(3)
)
FRAMEWORKS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed")
    )
    for name in ("numpy", "torch", "mlx")
]


def drawn(*shape: int, name: str = "x") -> np.ndarray:
    size = int(np.prod(shape))
    return random.uniform(7, "test", name, 0, [0], [0], size).reshape(shape)


def batch(shape: tuple[int, ...], n: int = 5) -> Any:
    return {"x": drawn(n, *shape), "y": np.arange(n) % 3, "index": np.arange(n)}


def session(model: Any, backend: str = "numpy", **options: Any) -> Any:
    program = flatten(model)
    precision = "fp64" if backend == "numpy" else "fp32"
    chosen = load_backend(backend)
    net = snnx.build(program, backend, seed=3, precision=precision)
    optim = snnx.Optim(snnx.SGD(momentum=0.9, lr=snnx.Dial("lr", 0.05)))
    return chosen.session(net, snnx.SDT(), optim, steps=3, **options), program


@pytest.mark.parametrize("model", [CONV, LINEAR], ids=["conv", "linear"])
@pytest.mark.parametrize("copies", [None, 1, 7])
def test_copies_give_the_gradient_of_one_weight_at_a_time(model: Any, copies: int | None) -> None:
    s, program = session(model)
    b, dials = batch(program.input_shape), {"seed": 1, "step": 5}
    path = first_layer(program).inputs["weight"]
    many = finite_differences(s, program, b, dials, 0.1, copies=copies)
    slow = one_by_one(s, program, b, dials, 0.1, s.export().parameters, path)
    assert np.abs(slow).max() > 0.01
    np.testing.assert_allclose(many, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_of_a_network_without_spikes_it_is_the_gradient(backend: str) -> None:
    s, program = session(SMOOTH, backend)
    b = batch(program.input_shape)
    (path,) = {first_layer(program).inputs["weight"]}
    found = finite_differences(s, program, b, {}, 1e-3)
    _, true = s.grads(b, {}, held_mode(program), [path])
    assert found.shape == true[path].shape
    assert cosine(found, true[path]) > 0.999
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(true[path]), rel=0.02)


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_it_leaves_weights_statistics_and_moments_as_they_were(backend: str) -> None:
    s, program = session(LINEAR, backend, compile=False if backend != "numpy" else None)
    b = batch(program.input_shape)
    s.read(s.step([b], {"step": 0}))
    before = s.export()
    found = finite_differences(s, program, b, {"step": 1}, 0.1)
    assert np.abs(found).max() > 0
    after = s.export()
    assert after.count == before.count == 1
    for kind in ("parameters", "statistics", "moments"):
        old, new = getattr(before, kind), getattr(after, kind)
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[k], new[k]) for k in old)


def test_an_eps_of_zero_and_a_model_without_weights_are_refused() -> None:
    s, program = session(LINEAR)
    with pytest.raises(ValueError, match="eps must be above 0"):
        finite_differences(s, program, batch((6,)), {}, 0.0)
    with pytest.raises(ValueError, match="no Conv2d and no Linear"):
        first_layer(flatten(snnx.Chain(snnx.Input(3), snnx.LIF())))


def test_the_cosine_of_nothing_is_0() -> None:
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
    assert cosine(np.ones((2, 2)), -2 * np.ones(4)) == pytest.approx(-1.0)


def data() -> Dataset:
    x, y = drawn(18, 6), np.arange(18) % 3
    x = (x + np.eye(3).repeat(2, axis=1)[y]).astype(np.float32)
    return Dataset(x[6:], y[6:], x[:6], y[:6], name="three", label="synthetic")


def training(method: DspikeMethod, **changes: Any) -> loop.Training:
    model = method.rewrite(LINEAR)
    values = {"objective": snnx.SDT(), "methods": (method,), "steps": 3, "epochs": 2}
    values |= {"batch_size": 6, "backend": "numpy", **changes}
    return loop.start(Plan(model=model, **values), data())


@pytest.mark.parametrize("start", [0.2, 1.0, 3.0])
def test_each_epoch_takes_the_temperature_of_the_largest_cosine(start: float) -> None:
    method = DspikeMethod(start=start, samples=8)
    t = training(method)
    batches = loop.Batches(t.dataset, "train", 6, 0)
    b: Any = batches.take(batches.order(0)[:8])
    wanted = finite_differences(t.session, t.program, b, t.dials, 0.1)
    tried = [x for x in (start, round(start + 0.2, 9), round(start - 0.2, 9)) if x > 0]
    assert len(tried) == (2 if start == 0.2 else 3)
    mode, path = held_mode(t.program), first_layer(t.program).inputs["weight"]
    similar = [
        cosine(wanted, t.session.grads(b, {**t.dials, "temperature": x}, mode, [path])[1][path])
        for x in tried
    ]
    method.before_epoch(t)
    assert t.dials["temperature"] == tried[int(np.argmax(similar))]
    assert t.totals["cosine"] == max(similar)


def test_equal_cosines_leave_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnx.methods import dspike

    monkeypatch.setattr(dspike, "cosine", lambda a, b: 0.5)
    t = training(DspikeMethod())
    t.plan.methods[0].before_epoch(t)
    assert t.dials["temperature"] == 1.0


def test_temperature_and_cosine_stand_in_every_row() -> None:
    rows: list[dict[str, Any]] = []

    class Keep(loop.Nobody):
        def epoch(self, row: loop.Row) -> None:
            rows.append(row)

    loop.run(training(DspikeMethod(step=0.5)), Keep())
    assert [set(row) >= {"cosine", "dials", "rates"} for row in rows] == [True, True]
    assert all(-1 <= row["cosine"] <= 1 for row in rows)
    assert all(row["dials"]["temperature"] in (0.5, 1.0, 1.5, 2.0) for row in rows)


@pytest.mark.filterwarnings(  # torch's own, while it traces an autograd.Function
    "ignore:.*should not be instantiated:DeprecationWarning"
)
@pytest.mark.parametrize(
    ("backend", "compile"),
    [
        pytest.param("torch", "aot_eager", marks=FRAMEWORKS[1].marks),
        pytest.param("mlx", True, marks=FRAMEWORKS[2].marks),
    ],
)
def test_another_temperature_compiles_nothing_again(backend: str, compile: bool | str) -> None:
    s, _ = session(LINEAR, backend, compile=compile)
    norms = []
    for step, temperature in enumerate((1.0, 4.0)):
        dials = {"step": step, "temperature": temperature, "lr": 1e-30}
        norms.append(s.read(s.step([batch((6,))], dials))["gradient_norm"])
    assert s.compilations() == 1
    assert norms[0] != norms[1]


def test_the_rewritten_model_has_one_temperature_and_its_radius() -> None:
    model = DspikeMethod(start=2.0).rewrite(snnx.Chain(snnx.Input(3), snnx.LIF(threshold=0.75)))
    assert model.layers[1].surrogate == snnx.Dspike(snnx.Dial("temperature", 2.0), 0.75)
    assert DspikeMethod(radius=0.25).rewrite(LIF).surrogate.radius == 0.25
    scaled = DspikeMethod(tdbn=True).rewrite(CONV)
    assert scaled.layers[2].scale == 0.5
    assert DspikeMethod(tdbn=True).rewrite(scaled) == scaled


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SMOOTH, "no spiking neuron"),
        (
            snnx.Chain(snnx.Input(3), snnx.Linear(3), snnx.DSR.integrate_and_fire()),
            "a DSR layer has no surrogate",
        ),
    ],
)
def test_a_model_without_a_temperature_is_refused(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        snnx.fit(model, data(), methods=(DspikeMethod(),), backend="numpy")


def test_options_out_of_range_are_refused() -> None:
    for option in ("eps", "step", "start", "radius", "samples"):
        with pytest.raises(ValueError, match=f"{option} must be above 0"):
            replace(DspikeMethod(), **{option: 0})
