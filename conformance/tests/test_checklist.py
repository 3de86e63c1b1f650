"""The checklist of the methods' equations: every row by its law, on every backend.

A lane is a backend and a dtype. In float64, on NumPy and on torch's CPU, a row holds as printed; in
float32, and so on MLX, at the op table's tolerance. Rows that are exact hold bit for bit on dyadic
inputs in every lane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import test_asgl as asgl
from by_hand import (
    Derived,
    clif_by_hand,
    learned_clif,
    lif_by_autograd,
    recurrent_by_autograd,
    single,
    two_ops_of_a_block,
    values,
    weighted_sum,
)

import snnx
from snnx import DSR, IF, LIF, Dspike, Learned, Rectangular, Sigmoid, Tanh, Triangular
from snnx.analysis.energy import measure_energy, picojoules
from snnx.analysis.operations import operations, total_macs
from snnx.backend import load_backend
from snnx.clif import CLIF
from snnx.data import Dataset
from snnx.mode import EVAL, Mode
from snnx.models import MODELS
from snnx.ops import OPS, Op
from snnx.ops._cases import dyadic, generator
from snnx.ops.batch_norm import fold
from snnx.ops.levels import NETWORK
from snnx.ops.rate_block import RATE_BLOCK
from snnx.program import Program, flatten

pytestmark = pytest.mark.slow

PRINTED = 1e-12


@dataclass(frozen=True)
class Lane:
    """A backend and the dtype in which it computes."""

    name: str
    dtype: str

    @property
    def double(self) -> bool:
        """Whether rows hold as printed."""
        return self.dtype == "float64"

    @property
    def backend(self) -> Any:
        """The backend, on the CPU where it lets one choose."""
        if self.name != "numpy":
            pytest.importorskip(self.name if self.name != "mlx" else "mlx.core")
        if self.name == "torch":
            from snnx_torch.backend import TorchBackend

            return TorchBackend("cpu")
        return load_backend(self.name)

    def run(self, op: Op | str, inputs: Any, attributes: Any = None) -> Any:
        """Return the outputs of an op."""
        op = OPS[op] if isinstance(op, str) else op
        return self.backend.run(op, inputs, attributes or {}, self.dtype)

    def vjp(self, op: Op | str, inputs: Any, attributes: Any, g: Any) -> Any:
        """Return the gradients of an op, those of outputs that `g` leaves out being zero."""
        op = OPS[op] if isinstance(op, str) else op
        outputs = self.run(op, inputs, attributes)
        given = {k: np.asarray(g.get(k, np.zeros(np.shape(v)))) for k, v in outputs.items()}
        return self.backend.vjp(op, inputs, attributes, self.dtype, given)

    def session(self, model: Any, parameters: Any = None, steps: int = 4) -> Any:
        """Return a session of a model in the lane's dtype."""
        program = model if isinstance(model, Program) else flatten(model)
        precision = "fp64" if self.double else "fp32"
        net = snnx.build(program, self.name, seed=3, device="cpu", precision=precision)
        session = load_backend(self.name).session(net, snnx.SDT(), snnx.Optim(), steps=steps)
        if parameters is not None:
            session.load(snnx.backend.Snapshot(parameters, session.export().statistics))
        return session


LANES = [
    Lane("numpy", "float64"),
    Lane("torch", "float64"),
    Lane("numpy", "float32"),
    Lane("torch", "float32"),
    Lane("mlx", "float32"),
]
every_lane = pytest.mark.parametrize("lane", LANES, ids=lambda v: f"{v.name}-{v.dtype}")


def near(
    found: Any,
    wanted: Any,
    lane: Lane,
    op: str,
    kind: str = "forward",
    printed: float = PRINTED,
    scale: float = 0.0,
) -> None:
    """Compare: absolute and as printed in float64, relative to the largest number in float32.

    `scale` is the size of the terms of a sum that may cancel.
    """
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    assert found.size
    error = np.max(np.abs(found - wanted))
    if not lane.double:
        printed = getattr(OPS[op].tolerance["float32"], kind)
        printed = printed * max(float(np.max(np.abs(wanted))), scale)
    assert error <= printed, f"{error} > {printed}"


def equal(found: Any, wanted: Any) -> None:
    """Compare bit for bit."""
    np.testing.assert_array_equal(found, wanted)


def derivatives(lane: Lane, case: Derived) -> None:
    """Compare the gradients of an op with those worked by hand or by autograd."""
    found = lane.vjp(case.op, case.inputs, case.attributes, case.cotangents)
    largest = max(float(np.max(np.abs(g))) for g in case.gradients.values())
    for name, wanted in case.gradients.items():
        sums = name.startswith("p.") or name == "synapse_decay"
        near(found[name], wanted, lane, case.op.name, "gradient", scale=largest * sums)


# Neurons.


@every_lane
@pytest.mark.parametrize("reset", [0.0, -0.25, "subtract"])
@pytest.mark.parametrize("detach", [False, True])
def test_vjp_of_lif_is_that_of_autograd(lane: Lane, reset: Any, detach: bool) -> None:
    derivatives(lane, lif_by_autograd(reset, detach))


@every_lane
@pytest.mark.parametrize("case", ["clif", "clif-detached", "recurrent"])
def test_vjp_of_clif_and_of_the_recurrent_synapse(lane: Lane, case: str) -> None:
    if case == "recurrent":
        derivatives(lane, recurrent_by_autograd())
    else:
        derivatives(lane, clif_by_hand(case == "clif-detached")[0])


@every_lane
def test_an_input_of_clif_moves_nothing_in_its_own_step(lane: Lane) -> None:
    neuron, steps = learned_clif(), 4
    numbers = {f"p.{k}": single(v) for k, v in values(neuron).items()}
    x = single(generator(31).normal(0.4, 0.5, (steps, 2, 3)))
    for t in range(steps):
        g = np.zeros_like(x)
        g[t] = 1.0
        g_x = lane.vjp("neuron", {"x": x, **numbers}, {"neuron": neuron}, {"y": g})["x"]
        equal(g_x[t:], np.zeros_like(x[t:]))
        assert (t == 0) == (not np.any(g_x))


@every_lane
def test_the_gain_of_clif_is_the_u0_of_its_time_constants(lane: Lane) -> None:
    assert CLIF.from_tau(4.0, 1.0).gain == pytest.approx(2.116535, abs=5e-7)
    out = lane.run("neuron", {"x": np.ones((1, 1, 1))}, {"neuron": CLIF.from_tau(threshold=10.0)})
    for state in ("state.m", "state.w"):  # after one step both are u0 x
        near(out[state], [[2.116535]], lane, "neuron", printed=5e-7)


@every_lane
def test_the_kernel_of_clif_peaks_below_one_on_the_grid_of_3_ms(lane: Lane) -> None:
    neuron = CLIF.from_tau(30.0, 7.5, 3.0, threshold=10.0)  # never fires, so that u = m - w
    x = np.zeros((12, 1, 1))
    x[0] = 1.0
    potential = []
    for steps in range(1, 13):
        out = lane.run("neuron", {"x": x[:steps]}, {"neuron": neuron})
        potential.append(float(out["state.m"][0, 0] - out["state.w"][0, 0]))
    assert potential[0] == 0.0
    near(max(potential), 0.99730, lane, "neuron", printed=5e-6, scale=2.5)
    assert potential.index(max(potential)) == 5  # 15 ms; the continuous peak lies at 13.863 ms


@every_lane
@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_if_under_a_constant_current_counts_in_closed_form(lane: Lane, alpha: float) -> None:
    threshold = 2.0
    current = np.arange(-32, 97) / 32.0
    neuron = IF(reset="subtract", threshold=threshold, fire_fraction=alpha, emit=("threshold", 1.0))
    for steps in (1, 5, 16):
        given = {"neuron": neuron, "steps": steps}
        y = lane.run("neuron", {"x": current[None, None]}, given)["y"]
        count = np.clip(np.floor(steps * current / threshold + 1 - alpha), 0, steps)
        equal(y.sum(0)[0], threshold * count)


@every_lane
@pytest.mark.parametrize("grid", [False, True], ids=["normal", "dyadic"])
def test_if_and_lif_conserve_their_input(lane: Lane, grid: bool) -> None:
    steps, rng = 16, generator(32)
    x = 1.0 + dyadic(rng, (steps, 3, 5), 0.125, 1.5)
    x = x if grid else single(0.5 + rng.standard_normal(x.shape))
    for dt in (None, 0.05, 0.1):
        decay = 1.0 if dt is None else math.exp(-dt)
        unit, gain = (1.0, 1.0) if dt is None else (1 / dt, "1-decay")
        neuron = LIF(
            decay=decay,
            gain=gain,
            reset="subtract",
            threshold=0.75,
            fire_fraction=0.5,
            emit=("threshold", unit),
        )
        out = lane.run("neuron", {"x": x}, {"neuron": neuron})
        w = (decay ** np.arange(steps - 1, -1, -1))[:, None, None]
        total = float(w.sum())
        left = (w * out["y"]).sum(0) / total
        enters = (1.0 if dt is None else (1 - decay) * unit) * (w * x).sum(0) / total
        right = enters - unit * np.asarray(out["state.v"]) / total
        assert np.any(left)
        if grid and dt is None:
            equal(left, right)
        else:  # a LIF's decay lies on no grid
            near(left, right, lane, "neuron", scale=float(np.max(np.abs(out["y"]))))


# Surrogates, seen through one step of a neuron at threshold 1: y = H(x), its gradient is h(x).


def slope(lane: Lane, surrogate: Any, x: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    neuron = LIF(threshold=threshold, surrogate=surrogate)
    inputs = {"x": threshold + x[None, None]}
    g = {"y": np.ones((1, 1, x.size))}
    return lane.vjp("neuron", inputs, {"neuron": neuron}, g)["x"][0, 0]


AREAS = [
    (Rectangular(0.8), 2.0),
    (Triangular(1.5), 2.0),
    (Sigmoid(0.3), 10.0),
    (Tanh(0.7), 10.0),
    (Dspike(1.0), 0.5),
    (Dspike(4.0), 0.5),
    (Dspike(1e-4), 0.5),
    (Dspike(60.0), 0.5),
]
WIDE = (Rectangular, Triangular, Sigmoid, Tanh)


@every_lane
def test_areas_and_width_gradients_of_the_surrogates(lane: Lane) -> None:
    points = 20_000  # edges of the windows lie between the midpoints
    for surrogate, reach in AREAS:
        x = (np.arange(points) + 0.5) / points * 2 * reach - reach
        area = slope(lane, surrogate, x).sum() * 2 * reach / points
        near(area, 1.0, lane, "neuron", "gradient", printed=2e-8)  # of the midpoint rule
    # On a grid, and with a width that is a power of two, x / w rounds nothing.
    x = np.arange(-60, 61) / 32.0
    for kind in WIDE:
        for width in (0.5, 2.0):
            neuron = LIF(surrogate=kind(Learned(width, "neuron", transform="log")))
            inputs = {"x": 1.0 + x[None, None], "p.surrogate.width": np.full(x.size, width)}
            g = {"y": np.ones((1, 1, x.size))}
            found = lane.vjp("neuron", inputs, {"neuron": neuron}, g)
            wanted = -(x / width) * found["x"][0, 0]  # one product, rounded once
            equal(found["p.surrogate.width"], wanted if lane.double else single(wanted))
            assert np.any(found["p.surrogate.width"])


@every_lane
def test_dspike_has_its_peak_and_edge(lane: Lane) -> None:
    found = slope(lane, Dspike(1.0), np.array([0.0, 0.5, 0.5078125]), 0.5)
    near(found, [1.081977, 0.850918, 0.0], lane, "neuron", "gradient", printed=5e-7)


@every_lane
def test_cool_dspike_is_the_rectangle(lane: Lane) -> None:
    x = np.arange(-40, 41) / 64.0
    rectangle = slope(lane, Rectangular(1.0), x, 0.5)
    equal(slope(lane, Dspike(1e-4), x, 0.5), rectangle)
    near(slope(lane, Dspike(1e-3), x, 0.5), rectangle, lane, "neuron", "gradient", printed=1e-6)


@every_lane
def test_bellec_form_is_a_scaled_triangle(lane: Lane) -> None:
    x, height, threshold = np.arange(-40, 41) / 64.0, 0.25, 0.5
    peak = slope(lane, Triangular.peak(height, threshold), x, threshold)
    equal(peak, height * threshold * slope(lane, Triangular(threshold), x, threshold))
    assert peak.max() == height


# Differentiation on spike representations.


@every_lane
@pytest.mark.parametrize(
    ("steps", "dt", "best", "least"),
    [
        (20, 0.05, 0.3, 0.0194),
        (15, 0.05, 0.4, 0.0233),
        (10, 0.05, 0.4, 0.0316),
        (5, 0.1, 0.4, 0.061),
    ],
)
def test_quantisation_error_of_lif_is_least_where_the_paper_fires(
    lane: Lane, steps: int, dt: float, best: float, least: float
) -> None:
    threshold, decay = 0.3, math.exp(-dt)
    bound = threshold / dt
    current = single(np.linspace(0.0, bound, 1001))
    w = (decay ** np.arange(steps - 1, -1, -1))[:, None]
    errors = {}
    for alpha in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        neuron = DSR.leaky(threshold, alpha, dt).neuron
        inputs = {"x": current[None, None]}
        if "p.threshold" in neuron.trace().inputs:
            inputs["p.threshold"] = np.array(threshold)
        y = lane.run("neuron", inputs, {"neuron": neuron, "steps": steps})["y"][:, 0]
        errors[alpha] = np.abs((w * y).sum(0) / w.sum() - current).mean() / bound
    assert min(errors, key=lambda alpha: errors[alpha]) == best
    assert errors[best] == pytest.approx(least, abs=2e-4)  # the table has a finer grid of currents


@every_lane
@pytest.mark.parametrize(
    ("steps", "dt", "factor"),
    [(20, 0.05, 1.0818), (15, 0.05, 1.0462), (10, 0.05, 1.0205), (5, 0.1, 1.0199)],
)
def test_the_last_lif_layer_is_too_steep_by_its_factor(
    lane: Lane, steps: int, dt: float, factor: float
) -> None:
    layer = DSR.leaky(0.3, 0.4, dt)
    weighted = {"decay": layer.neuron.decay}
    rate = {"logits": np.zeros((steps, 1, 1))}
    g = lane.vjp("readout", rate, weighted, {"y": np.ones((1, 1))})["logits"]
    inputs = {"x": np.full((steps, 1, 1), 0.5), "p.threshold": np.array(0.3)}
    given = {"neuron": layer.neuron, "kind": "lif", "dt": dt, "tau": 1.0, "kappa": dt}
    g_x = lane.vjp("rate_neuron", inputs, given, {"y": g})["x"]
    near(g_x.sum(), factor, lane, "rate_neuron", "gradient", printed=5e-5, scale=5.0)
    equal(g_x, np.broadcast_to(g_x[:1], g_x.shape))


@every_lane
def test_rule_of_dsr_if_is_the_gradient_of_the_mapping_at_the_actual_rates(lane: Lane) -> None:
    steps, threshold, rng = 8, 1.0, generator(33)
    x = dyadic(rng, (steps, 3, 6), 0.25, 2.0)
    first, second = dyadic(rng, (5, 6), 0.5), dyadic(rng, (4, 5), 0.5)
    layer = DSR.integrate_and_fire(threshold)
    rule = {"neuron": layer.neuron, "kind": "if", "dt": 1.0, "tau": 1.0, "kappa": 1.0}
    th = {"p.threshold": np.array(threshold)}

    i1 = lane.run("linear", {"x": x, "weight": first})["y"]
    o1 = lane.run("rate_neuron", {"x": i1, **th}, rule)["y"]
    i2 = lane.run("linear", {"x": o1, "weight": second})["y"]
    g_rate = dyadic(rng, (3, 4), 0.25, 2.0)
    g_out = {"y": np.broadcast_to(g_rate / steps, i2.shape)}  # the loss sees the mean output
    g2 = lane.vjp("rate_neuron", {"x": i2, **th}, rule, g_out)
    into2 = lane.vjp("linear", {"x": o1, "weight": second}, {}, {"y": g2["x"]})
    g1 = lane.vjp("rate_neuron", {"x": i1, **th}, rule, {"y": into2["x"]})
    into1 = lane.vjp("linear", {"x": x, "weight": first}, {}, {"y": g1["x"]})

    r0, r1 = x.mean(0), o1.mean(0)
    m1, m2 = r0 @ first.T, r1 @ second.T
    inside1, inside2 = ((m >= 0) & (m <= threshold) for m in (m1, m2))
    back2 = inside2 * g_rate
    back1 = inside1 * (back2 @ second)
    equal(into2["weight"], back2.T @ r1)
    equal(g2["p.threshold"], ((m2 > threshold) * g_rate).sum())
    equal(into1["weight"], back1.T @ r0)
    equal(g1["p.threshold"], ((m1 > threshold) * (back2 @ second)).sum())
    for inside in (inside1, inside2):
        assert inside.any()
        assert not inside.all()


@every_lane
@pytest.mark.parametrize("sample", list(RATE_BLOCK.samples()), ids=lambda s: s.name)
def test_means_over_time_give_the_gradients_of_conv_and_norm(lane: Lane, sample: Any) -> None:
    # Exact is the identity, covariance included; a norm divides by a root, so nothing is dyadic.
    inputs = {k: single(v) for k, v in sample.inputs.items()}
    attributes, g = sample.attributes, single(sample.cotangents["y"])
    outputs, wanted = two_ops_of_a_block(lane.run, lane.vjp, inputs, attributes, g)
    for name, value in lane.run(RATE_BLOCK, inputs, attributes).items():
        near(value, outputs[name], lane, "rate_block")
    found = dict(lane.vjp(RATE_BLOCK, inputs, attributes, {"y": g}))
    if not attributes.get("covariance", True):  # another algorithm, not a rounding
        weight = wanted.pop("weight")
        assert np.max(np.abs(found.pop("weight") - weight)) > 0.01 * np.max(np.abs(weight))
    for name in {"x", "skip"} & set(found):
        seen, other = (weighted_sum(g.pop(name), attributes) for g in (found, wanted))
        near(seen, other, lane, "rate_block", "gradient", printed=1e-11)
    for name, value in found.items():
        # the bias before a norm moves nothing: its gradient is a sum that cancels
        near(value, wanted[name], lane, "rate_block", "gradient", 1e-11, float(np.abs(g).max()))


# Losses.


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@every_lane
def test_sdt_is_at_most_tet_by_the_gap_of_logsumexp(lane: Lane) -> None:
    rng = generator(34)
    logits, target = single(3.0 * rng.standard_normal((6, 9, 5))), rng.integers(0, 5, 9)
    sdt, tet = losses(lane, logits, target)
    assert np.all(sdt <= tet)
    gap = np.log(np.exp(logits).sum(-1)).mean(0) - np.log(np.exp(logits.mean(0)).sum(-1))
    near(tet - sdt, gap, lane, "tet_loss", scale=float(tet.max()))
    same = np.broadcast_to(dyadic(rng, (1, 9, 5), 0.25, 2.0), (4, 9, 5))
    equal(*losses(lane, same, target))  # equal where all steps agree


def losses(lane: Lane, logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inputs = {"logits": logits, "target": target}
    sdt = lane.run("sdt_loss", inputs, {"decay": 1.0})["loss"]
    return sdt, lane.run("tet_loss", inputs, {"mse": 0.0})["loss"]


@every_lane
def test_gradients_of_tet_sdt_and_mse_have_their_closed_forms(lane: Lane) -> None:
    steps, batch, classes, rng = 5, 4, 7, generator(35)
    logits = single(rng.standard_normal((steps, batch, classes)))
    target = np.array([3, 0, 6, 3])
    hot, inputs = np.eye(classes)[target], {"logits": logits, "target": target}
    g = {"loss": np.full(batch, 1.0 / batch)}  # the objective is the mean over the batch

    def found(op: str, **attributes: Any) -> np.ndarray:
        return lane.vjp(op, inputs, attributes, g)["logits"]

    sdt = (softmax(logits.mean(0)) - hot) / (batch * steps)
    sdt = np.broadcast_to(sdt, logits.shape)
    near(found("sdt_loss", decay=1.0), sdt, lane, "sdt_loss", "gradient")
    tet = (softmax(logits) - hot) / (batch * steps)
    mse = 2 * (logits - 1.0) / (batch * steps * classes)
    for share in (0.0, 0.05, 1.0):
        total = (1 - share) * tet + share * mse
        near(found("tet_loss", mse=share, target_value=1.0), total, lane, "tet_loss", "gradient")


@every_lane
@pytest.mark.parametrize("bias", [True, False])
def test_folded_convolution_is_convolution_and_running_norm(lane: Lane, bias: bool) -> None:
    rng = generator(36)
    x, weight = single(rng.standard_normal((2, 3, 5, 5, 3))), single(rng.normal(size=(4, 3, 3, 3)))
    b, gamma, beta, mean = (single(rng.standard_normal(4)) for _ in range(4))
    var = single(rng.uniform(0.5, 2.0, 4))
    conv = {"stride": 1, "padding": 1, "groups": 1}
    given = {"bias": b} if bias else {}
    y = lane.run("conv2d", {"x": x, "weight": weight, **given}, conv)["y"]
    norm = {"mode": "running", "scale": 0.5, "eps": 1e-3}
    after = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
    wanted = lane.run("batch_norm", {"x": y, **after}, norm)["y"]
    folded, shift = fold(weight, b if bias else None, gamma, beta, mean, var, 1e-3, 0.5)
    found = lane.run("conv2d", {"x": x, "weight": folded, "bias": shift}, conv)["y"]
    # printed for float32, whose table allows one op 2e-6; here are two
    bound = PRINTED if lane.double else 1e-5
    assert np.max(np.abs(found - wanted)) < bound * max(1.0, np.max(np.abs(wanted)))


# Counts: of the program that each backend holds, and of what it built from it.

PARAMETERS: list[tuple[str, dict[str, Any], int]] = [
    ("vggsnn", {}, 9_271_498),
    ("resnet19", {"stem": 64, "bias": True}, 12_630_858),
    ("resnet19", {}, 12_697_728),
    ("resnet18", {}, 11_173_962),
    ("preact_resnet18", {}, 11_176_945),
    ("vgg11_dsr", {}, 9_476_327),
    ("shd", {}, 230_400),
    ("medlydb", {}, 275_800),
]


@cache
def program_of(name: str, *variant: tuple[str, Any]) -> Program:
    return flatten(MODELS[name](**dict(variant)))


def built(lane: Lane, program: Program) -> Any:
    """Return the backend's module, its weights zero."""
    zeros = {p.path: np.zeros(p.shape, np.float32) for p in program.parameters}
    options = {"device": "cpu", "precision": "fp64" if lane.double else "fp32"}
    return lane.backend.build(program, zeros, **options)


@every_lane
@pytest.mark.parametrize(("name", "variant", "count"), PARAMETERS)
def test_parameters_are_those_of_the_released_models(
    lane: Lane, name: str, variant: dict[str, Any], count: int
) -> None:
    net = built(lane, program_of(name, *variant.items()))
    session = load_backend(lane.name).session(net, snnx.SDT(), snnx.Optim())
    assert sum(np.size(p) for p in session.export().parameters.values()) == count


@every_lane
@pytest.mark.parametrize(
    ("name", "printed", "paper"), [("resnet19", 2285.4, 2285), ("resnet18_dspike", 187.37, 187)]
)
def test_operations_are_those_of_the_papers(
    lane: Lane, name: str, printed: float, paper: int
) -> None:
    macs = total_macs(operations(built(lane, program_of(name)).program))
    assert macs is not None
    assert round(macs / 1e6, 2 if printed == 187.37 else 1) == printed
    assert math.floor(macs / 1e6) == paper


@every_lane
def test_energy_is_that_of_dspikes_table_3(lane: Lane) -> None:
    assert picojoules(71.2e6, 3.52e6) * 1e-6 == pytest.approx(80.27, abs=5e-3)
    assert picojoules(187e6, 187e6) * 1e-6 == pytest.approx(1028.5, abs=5e-3)
    # and of a network, from the spikes that the backend makes: equal to the last one
    x = dyadic(generator(37), (6, 8), 0.25, 1.0).astype(np.float32)
    data = Dataset(x, np.arange(6) % 4, x, np.arange(6) % 4, "dyadic", "synthetic")
    found = measure_energy(dyadic_session(lane), flatten(DYADIC), data)
    wanted = measure_energy(dyadic_session(LANES[0]), flatten(DYADIC), data)
    assert found == wanted
    assert found.microjoules_dspike == picojoules(found.acs + found.macs, found.macs) * 1e-6
    assert found.acs > 0


# Whole networks.

DYADIC = snnx.Chain(
    *(snnx.Input(8), snnx.Linear(12, bias=False), LIF(threshold=0.5)),
    *(snnx.Linear(8, bias=False), LIF(threshold=0.5), snnx.Linear(4, bias=False)),
)


def dyadic_session(lane: Lane) -> Any:
    rng = generator(38)
    weights = {p.path: dyadic(rng, p.shape, 0.25, 1.0) for p in flatten(DYADIC).parameters}
    return lane.session(DYADIC, weights, steps=6)


@every_lane
def test_a_shorter_run_is_the_beginning_of_a_longer_one(lane: Lane) -> None:
    rng = generator(39)
    x = single(rng.standard_normal((8, 2, 3)))
    for neuron in (LIF(), IF(reset="subtract"), CLIF.from_tau()):  # a neuron: any numbers
        short, long = (lane.run("neuron", {"x": v}, {"neuron": neuron})["y"] for v in (x[:3], x))
        equal(short, long[:3])
    x = dyadic(rng, (6, 5, 8), 0.25, 1.0).astype(np.float32)
    session, taps = dyadic_session(lane), ["2.spike", "4.spike"]  # a network: on a grid
    runs = [session.forward(batch_of(v), {}, EVAL, taps) for v in (x[:4], x)]
    equal(runs[0].y, runs[1].y[:4])
    assert np.any(runs[0].taps["4.spike"])
    for tap in taps:
        equal(runs[0].taps[tap], runs[1].taps[tap][:4])
    # Off the grid a product may round otherwise in a batch of other size, and a spike then flips;
    # with the spikes imposed, what is left is rounding.
    session = lane.session(asgl.NET)
    x = single(rng.uniform(0.0, 4.0, (6, 5, 3, 3, 2))).astype(np.float32)
    whole = session.forward(batch_of(x), {}, EVAL, ["2.spike", "5.spike"])
    spikes = {tap.removesuffix(".spike"): v[:4] for tap, v in whole.taps.items()}
    part = session.forward(batch_of(x[:4]), {}, EVAL, impose=spikes)
    error = np.max(np.abs(part.y - whole.y[:4])) / np.max(np.abs(whole.y))
    assert error <= (PRINTED if lane.double else NETWORK.forward)
    assert all(np.any(v) for v in spikes.values())


def batch_of(x: np.ndarray) -> Any:
    n = x.shape[1]
    return {"x": x, "y": np.arange(n) % 3, "index": np.arange(n)}


@every_lane
def test_asgl_ends_are_plain_and_smooth_and_it_is_evaluated_with_spikes(lane: Lane) -> None:
    precision = "fp64" if lane.double else "fp32"
    data, taps = asgl.batch(), ["2.spike", "5.spike"]
    plain = asgl.session_of(asgl.NET, lane.name, precision=precision)
    fixed = asgl.session_of(asgl.rewritten(p=0.5, learned=False), lane.name, precision=precision)
    learned = asgl.session_of(asgl.rewritten(p=0.2), lane.name, precision=precision)

    # p = 1 and a fixed width: plain surrogate gradient
    loss, wanted = plain.grads(data, {}, Mode("spike", "batch", True, "train"))
    again, found = fixed.grads(data, {"analog": 0.0}, asgl.TRAIN)
    assert again == loss
    asgl.same(found, wanted)
    # p = 0: the smooth network
    loss, wanted = learned.grads(data, {}, Mode("smooth", "batch", True, "train"))
    again, found = learned.grads(data, {"analog": 1.0}, asgl.TRAIN)
    assert again == loss
    asgl.same(found, wanted)
    # evaluation: Theta, whatever the share
    wanted = plain.forward(data, {}, EVAL, taps)
    found = learned.forward(data, {"analog": 0.8}, EVAL, taps)
    asgl.same(found.taps, wanted.taps)
    equal(found.y, wanted.y)
    assert set(np.unique(found.taps["2.spike"])) == {0.0, 1.0}


# The rows of the checklist, in its order, and the test of each.
ROWS = {
    "LIF hard/soft x detached/not, vjp vs autodiff, grads I, v0, lam, th, width": (
        test_vjp_of_lif_is_that_of_autograd
    ),
    "C-LIF, recurrent synapse vjp": test_vjp_of_clif_and_of_the_recurrent_synapse,
    "du[t]/dI[t] for C-LIF": test_an_input_of_clif_moves_nothing_in_its_own_step,
    "surrogate areas; dH/dw = -(x/w)h": test_areas_and_width_gradients_of_the_surrogates,
    "Dspike b=1: h(0), h(.5)": test_dspike_has_its_peak_and_edge,
    "Dspike b->0 vs rectangular a=1": test_cool_dspike_is_the_rectangle,
    "Eq8(g, th) = g*th*triangle(gamma=th)": test_bellec_form_is_a_scaled_triangle,
    "IF constant input count = clamp(floor(T I/th + 1 - alpha),0,T)": (
        test_if_under_a_constant_current_counts_in_closed_form
    ),
    "IF/LIF conservation identities 2.3": test_if_and_lif_conserve_their_input,
    "LIF mean quantisation error argmin alpha (T=20/15/10/5)": (
        test_quantisation_error_of_lif_is_least_where_the_paper_fires
    ),
    "DSR last-layer factor T*sum w^2/S^2": test_the_last_lif_layer_is_too_steep_by_its_factor,
    "DSR IF two-layer net: rule 5.2 = gradient of the mapping at actual rates": (
        test_rule_of_dsr_if_is_the_gradient_of_the_mapping_at_the_actual_rates
    ),
    "DSR BN collapse formulas 5.3": test_means_over_time_give_the_gradients_of_conv_and_norm,
    "L_SDT <= L_TET, gap identity": test_sdt_is_at_most_tet_by_the_gap_of_logsumexp,
    "TET/SDT/MSE closed-form gradients": (
        test_gradients_of_tet_sdt_and_mse_have_their_closed_forms
    ),
    "BN fold: conv+BN(eval) = folded conv": (
        test_folded_convolution_is_convolution_and_running_norm
    ),
    "params": test_parameters_are_those_of_the_released_models,
    "MACs": test_operations_are_those_of_the_papers,
    "energy": test_energy_is_that_of_dspikes_table_3,
    "truncation: eval outputs at T' < T equal the first T' of a T run": (
        test_a_shorter_run_is_the_beginning_of_a_longer_one
    ),
    "ASGL p=1, fixed width = plain SG; p=0 = smooth net; eval = Theta": (
        test_asgl_ends_are_plain_and_smooth_and_it_is_evaluated_with_spikes
    ),
    "C-LIF u0 for tau_m/tau_s = 4": test_the_gain_of_clif_is_the_u0_of_its_time_constants,
    "u0 kernel maximum on 3 ms grid, tau_m 30 ms": (
        test_the_kernel_of_clif_peaks_below_one_on_the_grid_of_3_ms
    ),
}


def test_every_row_has_a_test_and_every_test_every_lane() -> None:
    assert len(ROWS) == 23
    here = {v for k, v in globals().items() if k.startswith("test_") and callable(v)}
    assert here - {test_every_row_has_a_test_and_every_test_every_lane} == set(ROWS.values())
    for test in ROWS.values():
        assert every_lane.mark in test.pytestmark, test
    assert {lane.name for lane in LANES if lane.double} == {"numpy", "torch"}
    assert {lane.name for lane in LANES if not lane.double} == {"numpy", "torch", "mlx"}
