"""DSR's blocks over residual sums: the gradients of all steps, and what does not grow with T."""

import gc
import math
from typing import Any, Literal

import numpy as np
import pytest
import torch

import snnx
from snnx.analysis.operations import operations, total_macs
from snnx.backend import load_backend
from snnx.methods.dsr import DSRMethod
from snnx.mode import train_mode
from snnx.models import MODELS
from snnx.models.preact import net as preact
from snnx.passes import merge_rate_blocks
from snnx.program import Program, flatten
from snnx.random import uniform

pytestmark = pytest.mark.slow

BACKENDS = ("numpy", "torch", "mlx")
CLOSE = {"numpy": 1e-11, "torch": 2e-5, "mlx": 2e-5}
LAYERS = {
    "if": snnx.DSR.integrate_and_fire(1.0),
    "lif": snnx.DSR.leaky(0.05, 0.4),
}


def blocks(kind: Literal["if", "lif"]) -> snnx.Chain:
    """Return a pre-activation net of two blocks: an identity shortcut and a convolution."""
    stem: list[snnx.Layer] = [snnx.Conv2d(4, 3)]
    return preact(3, lambda _: LAYERS[kind], (6, 6, 2), 1.0, stem, 4, ((4, 1, 1), (6, 1, 2)))


def batch(shape: tuple[int, ...], n: int = 6, steps: int | None = None) -> Any:
    full = (n, *shape) if steps is None else (steps, n, *shape)
    x = uniform(6, "test", "rate sums", 0, [0], [0], math.prod(full)).reshape(full)
    return {"x": (2 * x - 0.5).astype(np.float32), "y": np.arange(n) % 3, "index": np.arange(n)}


def session_of(program: Program, backend: str, decay: float = 1.0, steps: int = 5) -> Any:
    precision = "fp64" if backend == "numpy" else "fp32"
    net = snnx.build(program, backend, seed=2, device="cpu", precision=precision)
    optim = snnx.Optim(snnx.SGD(lr=0.05))
    return load_backend(backend).session(net, snnx.SDT(decay=decay), optim, steps=steps)


def ops(program: Program) -> list[str]:
    return [step.op for step in program.steps]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["if", "lif"])
def test_residual_sums_have_the_gradients_of_all_their_steps(
    kind: Literal["if", "lif"], backend: str
) -> None:
    whole = flatten(blocks(kind))
    merged = merge_rate_blocks(whole)
    assert ops(merged).count("rate_block") == 6
    assert not {"conv2d", "linear", "add", "batch_norm"} & set(ops(merged))
    assert merged.parameters == whole.parameters
    assert total_macs(operations(merged)) == total_macs(operations(whole))
    data = batch((6, 6, 2))
    decay = 1.0 if kind == "if" else math.exp(-0.05)
    a, b = (session_of(p, backend, decay) for p in (whole, merged))
    # the two round differently, so the spikes of one are given to both
    taps = [f"{s.path}.spike" for s in whole.spiking]
    spikes = a.forward(data, {}, train_mode(whole), taps).taps
    impose = {name.removesuffix(".spike"): value for name, value in spikes.items()}
    (loss, wanted), (again, found) = (s.grads(data, {}, impose=impose) for s in (a, b))
    assert again == pytest.approx(loss, rel=CLOSE[backend])
    for name, g in wanted.items():
        limit = CLOSE[backend] * max(np.abs(g).max(), 0.1)
        np.testing.assert_allclose(found[name], g, rtol=0, atol=limit, err_msg=name)
    for name in ("4.body.3.weight", "7.body.3.weight", "7.skip.weight"):
        assert np.abs(wanted[name]).max() > 1e-4, name
    for session in (a, b):
        session.read(session.step([data], {}))
    stats = a.export().statistics, b.export().statistics
    for name, value in stats[0].items():
        np.testing.assert_allclose(stats[1][name], value, rtol=1e-3, atol=1e-6, err_msg=name)


def test_the_covariance_of_both_branches_counts() -> None:
    whole = flatten(blocks("if"))
    exact, cheap = (merge_rate_blocks(whole, covariance=c) for c in (True, False))
    a, b = (session_of(p, "numpy").grads(batch((6, 6, 2)), {})[1] for p in (exact, cheap))
    for name in ("4.body.3.weight", "7.body.3.weight", "7.skip.weight"):
        assert np.abs(a[name] - b[name]).max() > 1e-3 * np.abs(a[name]).max(), name


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_residual_sums_compute_in_bfloat16_what_their_ops_do(backend: str) -> None:
    whole = flatten(blocks("if"))
    found = []
    for program in (whole, merge_rate_blocks(whole)):
        net = snnx.build(program, backend, seed=2, device="cpu", precision="bf16")
        session = load_backend(backend).session(net, snnx.SDT(), snnx.Optim(), steps=5)
        taps = ["5", "8"]  # the norms of both sums
        found.append(session.forward(batch((6, 6, 2)), {}, train_mode(program), taps).taps)
    for name, y in found[0].items():
        # a flipped spike moves a few values by more than rounding does
        assert np.median(np.abs(found[1][name] - y)) < 0.02
        assert np.abs(y).max() > 1


@pytest.mark.filterwarnings(  # torch's own, while it traces an autograd.Function
    "ignore:.*should not be instantiated:DeprecationWarning"
)
def test_torch_compiles_residual_sums() -> None:
    program = merge_rate_blocks(flatten(blocks("if")))
    found = []
    choices: tuple[Any, ...] = (False, "aot_eager")
    for compile in choices:
        net = snnx.build(program, "torch", seed=2, device="cpu")
        session = load_backend("torch").session(
            net, snnx.SDT(), snnx.Optim(snnx.SGD(lr=0.05)), steps=5, compile=compile
        )
        for n in (6, 5):  # a second size makes torch trace sizes as symbols
            session.read(session.step([batch((6, 6, 2), n)], {}))
        found.append(session.export().parameters)
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, atol=1e-5, err_msg=name)


def test_a_norm_whose_output_is_added_before_the_neuron_is_merged() -> None:
    layer = LAYERS["if"]
    first = snnx.Conv2d(2, 3), snnx.BatchNorm(), layer
    body = snnx.Chain(*first, snnx.Conv2d(2, 3), snnx.BatchNorm())
    head = layer, snnx.GlobalAvgPool2d(), snnx.Linear(3), snnx.BatchNorm(), layer
    model = snnx.Chain(snnx.Input(4, 4, 2), layer, snnx.Residual(body, snnx.Identity()), *head)
    merged = merge_rate_blocks(flatten(model))
    pair = "rate_neuron", "rate_block"
    middle = "add", "rate_neuron", "global_avg_pool2d", "rate_block", "rate_neuron"
    assert ops(merged) == [*pair, *pair, *middle]
    data = batch((4, 4, 2))
    a, b = (session_of(p, "numpy").grads(data, {})[1] for p in (flatten(model), merged))
    for name, g in a.items():
        np.testing.assert_allclose(b[name], g, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(
    "skip",
    [
        snnx.Chain(snnx.MaxPool2d(2), snnx.Conv2d(2, 1)),
        snnx.Chain(snnx.Dropout(0.1), snnx.Conv2d(2, 1, 2)),
        snnx.Chain(snnx.DSR.leaky(), snnx.Conv2d(2, 1, 2)),
        snnx.Chain(snnx.Conv2d(2, 1, 2), snnx.LIF()),
    ],
)
def test_a_sum_with_a_branch_of_another_kind_is_left(skip: snnx.Layer) -> None:
    layer = LAYERS["if"]
    sum_of = snnx.Residual(snnx.Conv2d(2, 3, 2), skip)
    model = snnx.Chain(snnx.Input(4, 4, 2), layer, sum_of, snnx.BatchNorm(), layer)
    assert merge_rate_blocks(flatten(model)) == flatten(model)


def test_a_sum_that_is_read_twice_is_left() -> None:
    layer = LAYERS["if"]
    sum_of = snnx.Residual(snnx.Conv2d(2, 3), snnx.Identity())
    again = snnx.Residual(snnx.Chain(snnx.BatchNorm(), layer), snnx.Identity())
    model = snnx.Chain(snnx.Input(4, 4, 2), layer, sum_of, again, layer)
    assert merge_rate_blocks(flatten(model)) == flatten(model)


def live() -> list[torch.Tensor]:
    """Return every tensor that Python can reach."""
    return [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)]


def storages(tensors: list[torch.Tensor]) -> dict[int, int]:
    """Return the bytes of the storages of tensors, by address."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def kept_bytes(
    program: Program, data: Any, steps: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """Return what autograd keeps in a training step, and all that is new as backward begins.

    The hooks let Python reach what autograd keeps.
    """
    session = session_of(program, "torch", steps=steps)
    session.read(session.step([data], {}))
    old = live()  # held, so that neither identity nor address of theirs is given to another
    known = {id(t) for t in old}
    before = storages([*session.parameters.values(), *session.net.buffers()])
    saved, new, real = {}, {}, torch.autograd.grad

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.update(storages([tensor]))
        return tensor

    def backward(*args: Any, **options: Any) -> Any:
        new.update(storages([t for t in live() if id(t) not in known]))
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", backward)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            session.read(session.step([data], {}))
    kept, alive = (sum(v for k, v in d.items() if k not in before) for d in (saved, new))
    return kept, alive


@pytest.mark.parametrize("frames", [False, True], ids=["static", "frames"])
@pytest.mark.parametrize("name", ["preact_resnet18", "digits"])
def test_what_a_step_keeps_does_not_grow_with_time(
    name: str, frames: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DSRMethod().for_steps(10).rewrite(MODELS[name](width=0.125))
    whole = flatten(model)

    def growth(program: Program) -> tuple[float, float]:
        found = []
        for steps in (5, 20):
            data = batch(program.input_shape, 4, steps if frames else None)
            saved, new = kept_bytes(program, data, steps, monkeypatch)
            assert 0 < saved <= new
            outputs = 4 * steps * 4 * 10  # float32: they and the batch itself have T steps
            found.append((saved, new - outputs - data["x"].nbytes))
        (saved, new), (saved_long, new_long) = found
        return saved_long / saved, new_long / new

    for covariance in (True, False):
        assert max(growth(merge_rate_blocks(whole, covariance))) < 1.1
    assert growth(whole)[0] > 2.5
