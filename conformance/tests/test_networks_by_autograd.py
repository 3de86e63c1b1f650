"""Whole networks of the methods against loops in torch, written from the papers' equations alone.

The loops share no line with snnx: torch differentiates them, or a rule written out here does. So a
mistake that the spec and a backend have in common shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import LIF, BatchNorm, Chain, Input, Linear, Rectangular, Sigmoid, Tanh, Triangular
from snnx.backend import load_backend
from snnx.clif import CLIF
from snnx.methods import ASGLMethod, DSRMethod
from snnx.mode import train_mode
from snnx.program import Program, flatten
from snnx.spiking import Recurrent

torch: Any = pytest.importorskip("torch")

STEPS, SAMPLES = 5, 7
RNG = np.random.default_rng(20_262)
X = RNG.normal(size=(STEPS, SAMPLES, 6))
TARGET = RNG.integers(0, 3, SAMPLES)
BATCH: Any = {"x": X, "y": TARGET, "index": np.arange(SAMPLES)}
Tensors = Mapping[str, Any]

every_backend = pytest.mark.parametrize("backend", ["numpy", "torch"])


def session_of(program: Program, objective: Any, backend: str) -> Any:
    net = snnx.build(program, backend, seed=1, precision="fp64", device="cpu")
    return load_backend(backend).session(net, objective, snnx.Optim(), steps=STEPS)


def tensors(session: Any) -> dict[str, Any]:
    found = session.export().parameters
    return {k: torch.tensor(np.array(v, np.float64), requires_grad=True) for k, v in found.items()}


def compare(loss: Any, p: Tensors, found: float, gradients: Mapping[str, np.ndarray]) -> None:
    """Compare a session's loss and gradients with those of the loop."""
    assert found == pytest.approx(loss.item(), abs=1e-13)
    loss.backward()
    largest = max(float(np.abs(g).max()) for g in gradients.values())
    for path, g in gradients.items():
        wanted = np.zeros(g.shape) if p[path].grad is None else p[path].grad.numpy()
        assert np.abs(g - wanted).max() <= 1e-12 * largest, path


def linear(x: Any, p: Tensors, path: str) -> Any:
    return x @ p[f"{path}.weight"].T + p[f"{path}.bias"]


def norm(x: Any, p: Tensors, path: str, scale: float = 1.0) -> Any:
    mean = x.mean((0, 1))
    deviation = torch.sqrt(((x - mean) ** 2).mean((0, 1)) + 1e-5)
    return scale * p[f"{path}.weight"] * (x - mean) / deviation + p[f"{path}.bias"]


SMOOTH: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "rectangular": (Rectangular(1.3), lambda x, w: torch.clamp(x / w + 0.5, 0, 1)),
    "sigmoid": (Sigmoid(0.4), lambda x, w: torch.sigmoid(x / w)),
    "tanh": (Tanh(0.7), lambda x, w: 0.5 + 0.5 * torch.tanh(x / w)),
}


@every_backend
@pytest.mark.parametrize("shape", SMOOTH)
def test_asgl_with_tdbn_and_the_loss_of_tet(shape: str, backend: str) -> None:
    surrogate, smooth = SMOOTH[shape]
    neuron = LIF(decay=0.5, threshold=0.5, surrogate=surrogate)
    first = (Linear(5), BatchNorm(), neuron)
    second = (Linear(4), BatchNorm(scale=0.5), neuron, Linear(3))
    program = flatten(ASGLMethod(p=0.6).rewrite(Chain(Input(6), *first, *second)))
    session = session_of(program, snnx.TET(mse=0.05), backend)
    dials, mode = {"analog": 0.4}, train_mode(program)
    fired = session.forward(BATCH, dials, mode, ["3.spike", "6.spike"]).taps
    loss, gradients = session.grads(BATCH, dials, mode)

    p = tensors(session)

    def lif(current: Any, path: str) -> Any:
        width, v, out = torch.exp(p[f"{path}.surrogate.width"]), 0.0, []
        for t in range(STEPS):
            u = 0.5 * v + current[t]
            h, s = smooth(u - 0.5, width), torch.tensor(np.asarray(fired[f"{path}.spike"][t]))
            spike = (u.detach() >= 0.5).to(s.dtype)
            assert bool(((s - h.detach()).abs().lt(1e-12) | (s == spike)).all())
            out.append(h + (s - h).detach())  # Eq. 10: the value of either, the gradient of H
            v = u * (1.0 - out[-1])
        return torch.stack(out)

    x = lif(norm(linear(torch.tensor(X), p, "1"), p, "2"), "3")
    output = linear(lif(norm(linear(x, p, "4"), p, "5", 0.5), "6"), p, "7")
    target = torch.tensor(TARGET)
    entropy = sum(torch.nn.functional.cross_entropy(o, target) for o in output) / STEPS
    analog = np.concatenate([np.ravel(v) for v in fired.values()])
    assert 0.05 < np.mean((analog != 0) & (analog != 1)) < 0.5
    assert np.any(analog == 1)
    compare(0.95 * entropy + 0.05 * ((output - 1.0) ** 2).mean(), p, loss, gradients)


RATES: list[dict[str, Any]] = [
    {"kind": "if", "threshold": 0.7},
    {"kind": "lif", "threshold": 0.05, "dt": 0.1, "fire_fraction": 0.4},
    {"kind": "lif", "threshold": 0.05, "dt": 0.1, "fire_fraction": 0.4, "tau": 1.7},
]


def rate_layer(method: DSRMethod) -> Callable[[Any, Any], Any]:
    """Return DSR's layer: the spikes forwards, the rule of the released code backwards."""
    leaky, dt, tau, alpha = method.kind == "lif", method.dt or 1.0, method.tau, method.fire_fraction
    decay = math.exp(-dt / tau) if leaky else 1.0
    gain, unit, kappa = (1.0 - decay, 1.0 / dt, dt) if leaky else (1.0, 1.0, 1.0)
    w = torch.tensor(decay ** np.arange(STEPS - 1.0, -1.0, -1.0))[:, None, None]

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, current: Any, threshold: Any) -> Any:
            v, out = torch.zeros_like(current[0]), []
            for x in current:
                u = decay * v + gain * x
                s = (u >= alpha * threshold).to(u.dtype)
                v = u - threshold * s
                out.append(unit * threshold * s)
            ctx.save_for_backward(current, threshold)
            return torch.stack(out)

        @staticmethod
        def backward(ctx: Any, *g: Any) -> Any:
            current, threshold = ctx.saved_tensors
            mean = (w * current).sum(0) / w.sum()
            collapsed = STEPS * (w * g[0]).sum(0) / w.sum()
            bound = threshold * tau * unit if leaky else threshold
            inside = (mean > 0) & (mean < bound) if leaky else (mean >= 0) & (mean <= bound)
            g_x = (inside * collapsed / (tau * STEPS)).expand_as(current)
            return g_x, kappa * ((mean > bound) * collapsed).sum()

    return lambda current, threshold: Layer.apply(current, threshold)


@every_backend
@pytest.mark.parametrize("backward", ["released", "means"])
@pytest.mark.parametrize("options", RATES, ids=["if", "lif", "lif-tau"])
def test_dsr_by_the_rule_of_its_code(options: Any, backward: Any, backend: str) -> None:
    method = DSRMethod(backward=backward, **options).for_steps(STEPS)
    hidden = (Linear(5), BatchNorm(), LIF(), Linear(4), BatchNorm(), LIF())
    model = method.rewrite(Chain(Input(6), *hidden, Linear(3)))
    program = method.program(flatten(model))
    session = session_of(program, method.objective(snnx.SDT()), backend)
    loss, gradients = session.grads(BATCH, {}, train_mode(program))

    p, layer, x = tensors(session), rate_layer(method), torch.tensor(X)
    for product, bn, spiking in (("1", "2", "3"), ("4", "5", "6"), ("7", "8", "9")):
        x = layer(norm(linear(x, p, product), p, bn), p[f"{spiking}.threshold"])
    weights = torch.tensor(method.decay ** np.arange(STEPS - 1.0, -1.0, -1.0))[:, None, None]
    rate = (weights * x).sum(0) / weights.sum()
    assert float(rate.detach().abs().max()) > 0
    assert any(np.any(gradients[f"{path}.threshold"]) for path in ("3", "6", "9"))
    compare(torch.nn.functional.cross_entropy(rate, torch.tensor(TARGET)), p, loss, gradients)


@every_backend
def test_a_recurrent_synapse_and_current_based_neurons(backend: str) -> None:
    triangle = Triangular(1.0)
    model = Chain(
        Input(6),
        Linear(5, bias=False),
        Recurrent(LIF(decay=0.6, threshold=0.5, surrogate=triangle), 0.4),
        Linear(4, bias=False),
        CLIF.from_tau(threshold=0.2, surrogate=triangle),
        Linear(3, bias=False),
    )
    program = flatten(model)
    session = session_of(program, snnx.SDT(), backend)
    loss, gradients = session.grads(BATCH, {}, train_mode(program))

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return (x >= 0).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, *g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g[0] * torch.clamp(1.0 - x.abs(), min=0.0)

    p = tensors(session)
    drive, c, v, s, fed = torch.tensor(X) @ p["1.weight"].T, 0.0, 0.0, torch.zeros(1, 5), []
    for x in drive:
        c = 0.4 * c + x + s.to(x.dtype) @ p["2.feedback"].T
        u = 0.6 * v + c
        s = Spike.apply(u - 0.5)
        v = u * (1.0 - s)
        fed.append(s)
    membrane, synapse, eta = math.exp(-3 / 30), math.exp(-3 / 7.5), 4.0
    peak = eta ** (eta / (eta - 1)) / (eta - 1)
    m, w, e, s, out = 0.0, 0.0, 0.0, 0.0, []
    for x in torch.stack(fed) @ p["3.weight"].T:
        m, w, e = membrane * m + peak * x, synapse * w + peak * x, membrane * e + 0.2 * s
        s = Spike.apply(m - w - e - 0.2)
        out.append(s)
    spikes = torch.stack(out)
    assert 0.05 < float(spikes.detach().mean()) < 0.95
    mean = (spikes @ p["5.weight"].T).mean(0)
    compare(torch.nn.functional.cross_entropy(mean, torch.tensor(TARGET)), p, loss, gradients)
