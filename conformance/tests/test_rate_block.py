"""DSR from means over time: the same gradients as step by step, from what does not grow with T."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import two_ops_of_a_block, weighted_sum

import snnx
from snnx.analysis.operations import operations, total_macs
from snnx.backend import load_backend
from snnx.cli import main
from snnx.data import load
from snnx.methods.dsr import DSRMethod
from snnx.mode import train_mode
from snnx.models import MODELS
from snnx.ops.rate_block import RATE_BLOCK
from snnx.passes import merge_rate_blocks
from snnx.program import Program, flatten
from snnx.random import uniform
from snnx.training import recipe, recipe_plan

pytestmark = pytest.mark.slow

BACKENDS = ("numpy", "torch", "mlx")
CLOSE = {"numpy": 1e-11, "torch": 1e-5, "mlx": 1e-5}


def net_of(kind: str, bits: int | None = None) -> snnx.Chain:
    layer = snnx.DSR.integrate_and_fire(1.5) if kind == "if" else snnx.DSR.leaky(0.1, 0.4)
    norm = snnx.BatchNorm()
    return snnx.Chain(
        snnx.Input(4, 4, 2),
        snnx.Conv2d(4, 3, bits=bits),
        norm,
        layer,
        snnx.Conv2d(5, 3, stride=2, bits=bits),
        norm,
        layer,
        snnx.GlobalAvgPool2d(),
        snnx.Linear(3, bits=bits),
        norm,
        layer,
    )


def batch(steps: int | None = None, n: int = 12) -> Any:
    shape = (n, 4, 4, 2) if steps is None else (steps, n, 4, 4, 2)
    x = uniform(6, "test", "rate block", 0, [0], [0], math.prod(shape)).reshape(shape)
    return {"x": 2 * x - 0.5, "y": np.arange(n) % 3, "index": np.arange(n)}


def session_of(program: Program, backend: str, kind: str, **options: Any) -> Any:
    precision = "fp64" if backend == "numpy" else "fp32"
    net = snnx.build(program, backend, seed=2, device="cpu", precision=precision)
    decay = 1.0 if kind == "if" else math.exp(-0.05)
    optim = snnx.Optim(snnx.SGD(lr=0.05))
    return load_backend(backend).session(net, snnx.SDT(decay=decay), optim, steps=6, **options)


@pytest.mark.parametrize("sample", list(RATE_BLOCK.samples()), ids=lambda s: s.name)
def test_the_block_is_its_two_ops_one_after_the_other(sample: Any) -> None:
    inputs, attributes, g = sample.inputs, sample.attributes, sample.cotangents

    def run(op: Any, inputs: Any, attributes: Any) -> Any:
        return op.forward(np, inputs, attributes)

    def vjp(op: Any, inputs: Any, attributes: Any, g: Any) -> Any:
        return op.vjp(np, inputs, attributes, op.forward(np, inputs, attributes), g)

    outputs, expected = two_ops_of_a_block(run, vjp, inputs, attributes, g["y"])
    for name, value in run(RATE_BLOCK, inputs, attributes).items():
        np.testing.assert_allclose(value, outputs[name], rtol=1e-12)
    found = vjp(RATE_BLOCK, inputs, attributes, g)
    for name in {"x", "skip"} & set(found):
        seen, other = (weighted_sum(d.pop(name), attributes) for d in (found, expected))
        np.testing.assert_allclose(seen, other, atol=1e-12, err_msg=name)
    error = np.abs(found.pop("weight") - expected["weight"]).max()
    if attributes.get("covariance", True):
        assert error < 1e-11
    else:  # another algorithm, not a rounding
        assert error > 0.01 * np.abs(expected["weight"]).max()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-11, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["if", "lif"])
@pytest.mark.parametrize("steps", [None, 6])
def test_a_network_of_blocks_has_the_gradients_of_all_its_steps(
    steps: int | None, kind: str, backend: str
) -> None:
    whole = flatten(net_of(kind))
    merged = merge_rate_blocks(whole)
    assert [s.op for s in merged.steps].count("rate_block") == 3
    assert merged.parameters == whole.parameters
    data = batch(steps)
    a, b = (session_of(p, backend, kind) for p in (whole, merged))
    # the two round differently, so the spikes of one are given to both
    taps = [f"{s.path}.spike" for s in whole.spiking]
    spikes = a.forward(data, {}, train_mode(whole), taps).taps
    impose = {name.removesuffix(".spike"): value for name, value in spikes.items()}
    (loss, wanted), (again, found) = (s.grads(data, {}, impose=impose) for s in (a, b))
    assert again == pytest.approx(loss, rel=CLOSE[backend])
    for name, g in wanted.items():
        limit = CLOSE[backend] * max(np.abs(g).max(), 0.1)
        np.testing.assert_allclose(found[name], g, rtol=0, atol=limit, err_msg=name)
    assert np.abs(wanted["4.weight"]).max() > 1e-4
    assert total_macs(operations(merged)) == total_macs(operations(whole))
    for session in (a, b):
        session.read(session.step([data], {}))
    stats = a.export().statistics, b.export().statistics
    for name in stats[0]:
        np.testing.assert_allclose(stats[1][name], stats[0][name], rtol=1e-3, err_msg=name)


def test_without_the_covariance_only_products_that_see_time_differ() -> None:
    whole = flatten(net_of("if"))
    exact, cheap = (merge_rate_blocks(whole, covariance=c) for c in (True, False))
    a, b = (session_of(p, "numpy", "if").grads(batch(), {})[1] for p in (exact, cheap))
    assert np.abs(a["8.weight"] - b["8.weight"]).max() > 1e-3 * np.abs(a["8.weight"]).max()
    for name in ("9.weight", "9.bias", "10.threshold"):
        np.testing.assert_allclose(b[name], a[name], atol=1e-12, err_msg=name)
    # the first product sees a static image: there is no covariance to drop
    np.testing.assert_allclose(b["1.weight"], a["1.weight"], atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_few_bits_stay_so_in_a_block(backend: str) -> None:
    whole = flatten(net_of("if", bits=4))
    a, b = (session_of(p, backend, "if") for p in (whole, merge_rate_blocks(whole)))
    first = [s.forward(batch(), {}, taps=["2"]).taps["2"] for s in (a, b)]
    np.testing.assert_allclose(first[1], first[0], atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_block_computes_in_bfloat16_what_its_ops_do(backend: str) -> None:
    whole = flatten(net_of("if"))
    found = []
    for program in (whole, merge_rate_blocks(whole)):
        net = snnx.build(program, backend, seed=2, device="cpu", precision="bf16")
        session = load_backend(backend).session(net, snnx.SDT(), snnx.Optim(), steps=6)
        taps = ["2", "3.spike"]
        seen = session.forward(batch(), {}, train_mode(program), taps).taps
        found.append((seen["2"], session.grads(batch(), {})))
    (y, (loss, wanted)), (again, (other, grads)) = found
    assert np.abs(y - again).max() < 0.05  # one ulp of values up to 4
    assert other == pytest.approx(loss, rel=0.1)
    cosines = [
        (g * grads[k]).sum() / np.linalg.norm(g) / np.linalg.norm(grads[k])
        for k, g in wanted.items()
        if k.endswith("weight")
    ]
    assert min(cosines) > 0.95


def test_what_torch_keeps_does_not_grow_with_time() -> None:
    def kept(program: Program, steps: int) -> int:
        net: Any = snnx.build(program, "torch", device="cpu").train()
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            net(torch.from_numpy(batch()["x"]).float(), steps=steps)
        return sum(sizes.values())

    whole = flatten(net_of("if"))
    merged = merge_rate_blocks(whole)
    assert kept(merged, 16) < kept(merged, 4) + 1000  # the weights of the steps are T numbers
    assert kept(whole, 16) > 2 * kept(whole, 4)


@pytest.mark.filterwarnings(  # torch's own, while it traces an autograd.Function
    "ignore:.*should not be instantiated:DeprecationWarning"
)
def test_torch_compiles_a_block() -> None:
    program = merge_rate_blocks(flatten(net_of("if")))
    plain, compiled = (session_of(program, "torch", "if", compile=c) for c in (False, "aot_eager"))
    for session in (plain, compiled):
        session.read(session.step([batch()], {}))
    for name, value in plain.export().parameters.items():
        np.testing.assert_allclose(compiled.export().parameters[name], value, atol=1e-5)


@pytest.mark.parametrize("backward", ["released", "means", "cheap"])
def test_a_run_says_which_backward_it_uses(
    backward: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (
        "model.width=0.04",
        "batch_size=450",
        "T=3",
        "--epochs",
        "1",
        "--no-plots",
        "-o",
        "run",
    )
    assert main(["train", "method=dsr", f"method.backward={backward}", "-b", "torch", *words]) == 0
    plan = load_plan(backward)
    ops = [step.op for step in plan.program().steps]
    assert ops.count("rate_block") == (0 if backward == "released" else 3)
    kept = {s.attributes["covariance"] for s in plan.program().steps if s.op == "rate_block"}
    assert kept == {"released": set(), "means": {True}, "cheap": {False}}[backward]


def load_plan(backward: str) -> Any:
    layers = [recipe.read_recipe("digits")]
    layers += map(recipe.override, ("method=dsr", f"method.backward={backward}"))
    return recipe_plan.make_plan(recipe.resolve(layers).values, load("digits"))


def test_only_what_lies_between_rates_is_merged() -> None:
    lif = MODELS["digits"](width=0.1)
    assert merge_rate_blocks(flatten(lif)) == flatten(lif)
    dsr = DSRMethod().for_steps(10).rewrite(lif)
    assert [s.op for s in merge_rate_blocks(flatten(dsr)).steps].count("rate_block") == 3
    layer = snnx.DSR.integrate_and_fire()
    for between in (snnx.Dropout(0.2), snnx.MaxPool2d(2), snnx.LIF()):
        model = snnx.Chain(
            snnx.Input(4, 4, 2), layer, between, snnx.Conv2d(3, 3), snnx.BatchNorm(), layer
        )
        assert merge_rate_blocks(flatten(model)) == flatten(model)
    open_end = snnx.Chain(snnx.Input(4), layer, snnx.Linear(3), snnx.BatchNorm())
    assert merge_rate_blocks(flatten(open_end)) == flatten(open_end)
