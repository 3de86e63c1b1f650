"""DSR: what its rule is the gradient of, what its layers conserve, Table 5, and what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.activation import ReLU
from snnx.analysis import firing_rates
from snnx.backend import load_backend
from snnx.cli import main
from snnx.data import Dataset
from snnx.methods.dsr import DSRMethod, ann_thresholds, with_thresholds
from snnx.methods.method import applied
from snnx.models import MODELS
from snnx.ops._xp import step_weights
from snnx.ops.rate_mapping import released_backward
from snnx.program import flatten
from snnx.random import uniform
from snnx.scalars import initial
from snnx.training.rundir import RunDir

BACKENDS = ("numpy", "torch", "mlx")
CLOSE = {"numpy": 1e-12, "torch": 2e-6, "mlx": 2e-6}
STEPS = 8


def draw(*shape: int) -> np.ndarray:
    u = uniform(3, "test", "dsr", 0, [0], [0], math.prod(shape))
    return u.reshape(shape).astype(np.float64)


def batch(n: int = 8) -> Any:
    return {"x": 2 * draw(n, 5) - 0.5, "y": np.arange(n) % 3, "index": np.arange(n)}


def session_of(
    model: Any, backend: str, objective: Any = None, optim: Any = None, steps: int = STEPS
) -> Any:
    chosen = load_backend(backend)
    precision = "fp64" if backend == "numpy" else "fp32"
    net = snnx.build(model, backend, seed=1, device="cpu", precision=precision)
    return chosen.session(net, objective or snnx.SDT(), optim or snnx.Optim(), steps=steps)


def net_of(layer: snnx.DSR) -> snnx.Chain:
    linear = snnx.Linear(6, init=0.6), layer, snnx.Linear(3, init=0.6), layer
    return snnx.Chain(snnx.Input(5), *linear)


def near(a: Any, b: Any, backend: str) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE[backend] * max(1e-3, np.abs(b).max()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rule_of_if_is_the_gradient_of_the_mapping_at_the_actual_rates(backend: str) -> None:
    threshold = 0.6
    session = session_of(net_of(snnx.DSR.integrate_and_fire(threshold, low=0.1)), backend)
    data, weights = batch(), session.export().parameters
    taps = session.forward(data, {}, taps=["2", "3", "4"]).taps
    _, found = session.grads(data, {})
    r1, r2 = (np.asarray(taps[k], np.float64).mean(0) for k in ("2", "4"))
    mean1 = data["x"] @ weights["1.weight"].T + weights.get("1.bias", 0.0)
    mean2 = np.asarray(taps["3"], np.float64).mean(0)
    p = np.exp(r2) / np.exp(r2).sum(1, keepdims=True)
    g2 = (p - np.eye(3)[data["y"]]) / len(p)
    inside2, inside1 = ((m >= 0) & (m <= threshold) for m in (mean2, mean1))
    into2 = inside2 * g2
    near(found["3.weight"], into2.T @ r1, backend)
    near(found["4.threshold"], (g2 * (mean2 > threshold)).sum(), backend)
    g1 = into2 @ weights["3.weight"]
    near(found["1.weight"], (inside1 * g1).T @ data["x"], backend)
    near(found["2.threshold"], (g1 * (mean1 > threshold)).sum(), backend)
    assert inside1.any()
    assert not inside1.all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["if", "lif"])
def test_a_layer_conserves_what_enters_it(kind: str, backend: str) -> None:
    dt = 0.05
    layer = snnx.DSR.integrate_and_fire(0.6) if kind == "if" else snnx.DSR.leaky(0.03, 0.4, dt)
    session = session_of(net_of(layer), backend)
    found = session.forward(batch(), {}, taps=["1", "2", "3", "4"])
    for into, out in (("1", "2"), ("3", "4")):
        x, y = (np.asarray(found.taps[k], np.float64) for k in (into, out))
        x = np.broadcast_to(x, (STEPS, *x.shape[1:]))
        decay = initial(layer.neuron.decay)
        w = step_weights(np, x, None, decay)
        total = (decay ** np.arange(STEPS)).sum()
        gain, unit = (1.0, 1.0) if kind == "if" else ((1 - math.exp(-dt)) / dt, dt)
        left = np.asarray(found.state[out][0], np.float64) / (unit * total)
        near((w * y).sum(0), gain * (w * x).sum(0) - left, backend)
        assert np.abs((w * y).sum(0)).max() > 0


@pytest.mark.parametrize(
    ("steps", "dt", "factor"),
    [(20, 0.05, 1.0818), (15, 0.05, 1.0462), (10, 0.05, 1.0205), (5, 0.1, 1.0199)],
)
def test_the_last_lif_layer_is_too_steep_by_a_known_factor(
    steps: int, dt: float, factor: float
) -> None:
    x = np.full((steps, 1, 1), 0.5)
    g = step_weights(np, x, None, math.exp(-dt)) * np.ones_like(x)  # of r = sum w y / S
    rule = {"kind": "lif", "dt": dt, "tau": 1.0}
    g_x, _ = released_backward(np, x, np.array(1.0), rule, g)
    assert g_x.sum() == pytest.approx(factor, abs=5e-5)


def test_the_numbers_are_those_of_table_5() -> None:
    lif = DSRMethod(kind="lif")
    rows = {20: (0.3, 0.0005, 0.3, 0.05), 15: (0.3, 0.0005, 0.4, 0.05)}
    rows |= {10: (0.3, 0.0005, 0.4, 0.05), 5: (0.6, 0.001, 0.5, 0.1)}
    rows |= {4: rows[5], 30: rows[20]}
    for steps, numbers in rows.items():
        made = lif.for_steps(steps)
        assert (made.threshold, made.low, made.fire_fraction, made.dt) == numbers
        neuron = made.layer().neuron
        assert made.dt is not None
        assert neuron.decay == math.exp(-made.dt)
        assert neuron.threshold == snnx.Learned(numbers[0], group="threshold", low=numbers[1])
    given = DSRMethod(kind="lif", fire_fraction=0.7).for_steps(20)
    assert (given.fire_fraction, given.threshold) == (0.7, 0.3)
    layer = DSRMethod().for_steps(7).layer()
    assert layer == snnx.DSR.integrate_and_fire(6.0, 0.5, 0.01)
    fixed = DSRMethod(learned=False, threshold=2.0).for_steps(20).layer()
    assert fixed.neuron.threshold == 2.0


def test_the_output_of_a_model_that_ends_with_linear_fires() -> None:
    method = DSRMethod().for_steps(10)
    found = method.rewrite(MODELS["digits"](width=0.1))
    kinds = [type(layer).__name__ for layer in found.layers[-3:]]
    assert kinds == ["Linear", "BatchNorm", "DSR"]
    assert [s.op for s in flatten(found).spiking] == ["rate_neuron"] * 3
    assert flatten(found).output_shape == (10,)
    own = MODELS["vgg11_dsr"](width=0.03)
    assert method.rewrite(own) == own


def test_the_loss_is_weighted_as_the_mapping() -> None:
    lif = DSRMethod(kind="lif").for_steps(10)
    assert lif.objective(snnx.SDT()) == snnx.SDT(decay=math.exp(-0.05))
    assert DSRMethod().for_steps(10).objective(snnx.SDT()) == snnx.SDT()
    applied((lif,), MODELS["digits"](width=0.1), snnx.Optim(), lif.objective(snnx.SDT()))


@pytest.mark.parametrize(
    ("layers", "objective", "kind", "message"),
    [
        ((snnx.LIF(), snnx.Linear(3)), snnx.TET(), "if", "every step by itself"),
        ((snnx.LIF(), snnx.Linear(3)), snnx.SDT(decay=0.9), "if", r"0\.9.*mapping.*1\.0"),
        ((snnx.LIF(), snnx.Linear(3)), snnx.RateMSE(), "lif", "weights the steps"),
        ((snnx.Recurrent(snnx.LIF()), snnx.Linear(3)), snnx.SDT(), "if", "recurrent layer"),
        ((snnx.CLIF.from_tau(), snnx.Linear(3)), snnx.SDT(), "if", "CLIF has no rate mapping"),
        ((snnx.DSR.leaky(), snnx.Linear(3)), snnx.SDT(), "if", r"of kind \['if', 'lif'\]"),
        ((snnx.LIF(), snnx.Linear(3), snnx.Dropout(0.1)), snnx.SDT(), "if", "end with Linear"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(
    layers: Any, objective: Any, kind: Any, message: str
) -> None:
    model = snnx.Chain(snnx.Input(5), snnx.Linear(4), *layers)
    method = DSRMethod(kind=kind).for_steps(10)
    with pytest.raises(ValueError, match=message):
        applied((method,), model, snnx.Optim(), objective)


def test_an_analog_neuron_and_a_dt_of_if_are_refused() -> None:
    with pytest.raises(ValueError, match="no dt"):
        DSRMethod(dt=0.1).for_steps(10)
    with pytest.raises(ValueError, match="for_steps"):
        DSRMethod().layer()


@pytest.mark.parametrize("backend", BACKENDS)
def test_thresholds_decay_with_the_weights_and_stay_above_their_bound(backend: str) -> None:
    sgd = snnx.SGD(lr=0.5, weight_decay=0.5)
    model = net_of(snnx.DSR.integrate_and_fire(6.0, low=0.01))
    session = session_of(model, backend, optim=snnx.Optim(sgd))
    data = {**batch(), "x": np.zeros((8, 5))}
    session.load(with_thresholds(session.export(), {"2": 1.0, "4": 0.001}))
    assert session.export().parameters["4.threshold"] == pytest.approx(0.01)
    session.read(session.step([data], {}))
    assert session.export().parameters["2.threshold"] == pytest.approx(0.75)
    with pytest.raises(KeyError, match="layer 3"):
        with_thresholds(session.export(), {"3": 1.0})


def test_firing_rates_are_spikes_not_scaled_outputs() -> None:
    model = net_of(snnx.DSR.leaky(0.3, 0.3, 0.05))  # emits 6 per spike
    data = batch()
    noise = Dataset(data["x"], data["y"], data["x"], data["y"], "noise", "synthetic")
    session = session_of(model, "numpy")
    rates = firing_rates(session, flatten(model), noise)
    y = session.forward(data, {}, taps=["2"]).taps["2"]
    assert y.max() == pytest.approx(6.0)
    assert rates.layers[0].rate == pytest.approx((y > 0).mean())


def test_thresholds_begin_at_a_percentile_of_the_anns_activations() -> None:
    relu = ReLU()
    body = snnx.Linear(6, init=0.6), relu, snnx.Linear(3, init=0.6), relu
    ann = snnx.Chain(snnx.Input(5), *body)
    data = batch(20)
    noise = Dataset(data["x"], data["y"], data["x"], data["y"], "noise", "synthetic")
    session = session_of(ann, "numpy")
    options: Any = {"batch_size": 4, "batches": 3}
    found = ann_thresholds(session, flatten(ann), ["2", "4"], noise, **options)
    part: Any = {k: v[:12] for k, v in data.items()}
    before = session.forward(part, {}, taps=["1", "3"], steps=1).taps
    assert found == {
        "2": pytest.approx(np.percentile(before["1"], 99.9)),
        "4": pytest.approx(np.percentile(before["3"], 99.9)),
    }
    scaled = ann_thresholds(session, flatten(ann), ["2"], noise, scale=0.05, **options)
    assert scaled["2"] == pytest.approx(0.05 * found["2"])


def test_a_run_that_begins_as_an_ann_takes_its_thresholds_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("train", "method=dsr", "-b", "numpy", "--no-plots", "model.width=0.04")
    stages = "stages=[{T = 1, epochs = 1, ann = true}, {T = 5, epochs = 1}]"
    assert main([*asked, "batch_size=450", stages, "-o", "whole"]) == 0
    assert main([*asked, "batch_size=450", stages, "-o", "part", "--max-steps", "3"]) == 0
    assert main(["train", "--resume", "part", "--no-plots"]) == 0
    rows, again = (RunDir(tmp_path / name).rows() for name in ("whole", "part"))
    found = {k: v for k, v in rows[1].items() if k.startswith("threshold.")}
    assert set(found) == {"threshold.3", "threshold.7", "threshold.12"}
    assert all(0.01 <= value < 6.0 for value in found.values())
    assert {k: again[1][k] for k in found} == found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["if", "lif"])
def test_a_run_learns_and_records_thresholds(
    kind: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("model.width=0.04", "batch_size=450", "schedule.warmup_steps=0", "T=5", "device=cpu")
    asked = ("train", "method=dsr", f"method.kind={kind}", "-b", backend, "--epochs", "2")
    assert main([*asked, "--no-plots", "-o", "run", *words]) == 0
    rows = RunDir(tmp_path / "run").rows()
    assert rows[0]["threshold.12"] == pytest.approx(6.0 if kind == "if" else 0.6)
    assert rows[1]["threshold.12"] != rows[0]["threshold.12"]
    assert set(rows[0]["rates"]) == {"3", "7", "12"}
