"""A LIF neuron alone on the CPU, forward and backward: snnx, a plain loop, and peers.

All of them: v = 0.5 u + x, a spike at 1, then u = v (1 - spike), the reset attached,
and the slope 1 / (1 + (pi x)^2) of an arctangent.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.cpu_common import Answer, Contender, T, measured

MARGIN = 1e-4  # nearer to its threshold than this, a float32 potential may fall on either side
Layer = Callable[[Any], Any]  # [T, N, *F] -> spikes [T, N, *F]


def spiking_neuron() -> Any:
    """Return the neuron of every contender, as snnx writes it."""
    from snnx import LIF, ArcTan

    return LIF(decay=0.5, surrogate=ArcTan(1.0))


def installed(name: str) -> bool:
    """Say whether a peer is there."""
    return importlib.util.find_spec(name) is not None


def plain(x: Any) -> Any:
    """Run the neuron as a loop that anybody would write in torch."""
    import torch

    u, spikes = torch.zeros_like(x[0]), []
    for current in x:
        v = 0.5 * u + current
        smooth = torch.atan(math.pi * (v - 1.0)) / math.pi
        spike = ((v >= 1.0).to(v.dtype) - smooth).detach() + smooth
        u = v * (1.0 - spike)
        spikes.append(spike)
    return torch.stack(spikes)


def spikingjelly() -> Layer:
    """Return SpikingJelly's multi-step LIF."""
    base = "spikingjelly.activation_based"
    functional, neuron, surrogate = (
        importlib.import_module(f"{base}.{name}") for name in ("functional", "neuron", "surrogate")
    )
    layer = neuron.LIFNode(
        tau=2.0,
        decay_input=False,
        v_threshold=1.0,
        v_reset=0.0,
        detach_reset=False,
        surrogate_function=surrogate.ATan(alpha=2.0),
        step_mode="m",
    )

    def run(x: Any) -> Any:
        functional.reset_net(layer)
        return layer(x)

    return run


def snntorch() -> Layer:
    """Return a loop over snnTorch's Leaky; it fires above the threshold, not at it."""
    import torch

    surrogate = importlib.import_module("snntorch.surrogate")
    layer = importlib.import_module("snntorch").Leaky(
        beta=0.5,
        threshold=1.0,
        spike_grad=surrogate.atan(alpha=2.0),
        reset_mechanism="zero",
        reset_delay=False,
    )

    def run(x: Any) -> Any:
        u, spikes = torch.zeros_like(x[0]), []
        for current in x:
            spike, u = layer(current, u)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def mlxsnn() -> Layer:
    """Return a loop over mlx-snn's Leaky; its arctangent takes pi for the same slope."""
    import mlx.core as mx

    layer = importlib.import_module("mlxsnn.neurons.lif").Leaky(
        beta=0.5,
        threshold=1.0,
        reset_mechanism="zero",
        surrogate_fn="arctan",
        surrogate_scale=math.pi,
    )

    def run(x: Any) -> Any:
        state, spikes = {"mem": mx.zeros(x.shape[1:])}, []
        for t in range(x.shape[0]):
            spike, state = layer(x[t], state)
            spikes.append(spike)
        return mx.stack(spikes)

    return run


def torch_peers() -> dict[str, Layer]:
    """Return the neurons of the peers on torch that are installed."""
    found: dict[str, Layer] = {}
    if installed("spikingjelly"):
        found["SpikingJelly"] = spikingjelly()
    if installed("snntorch"):
        found["snnTorch"] = snntorch()
    return found


def ours(module: str, **more: str) -> Layer:
    """Return the op rule of a backend."""
    rule = importlib.import_module(f"{module}.ops").RULES["neuron"]
    attributes = {"neuron": spiking_neuron(), "hand_over": False, **more}
    return lambda x: rule({"x": x}, attributes)["y"]


def torch_contenders(x: np.ndarray, g: np.ndarray, quick: bool, peers: bool) -> list[Contender]:
    """Return what runs on torch, each as it is and compiled."""
    import torch

    given, cotangent = torch.tensor(x).requires_grad_(), torch.tensor(g)
    torch._dynamo.config.recompile_limit = 64  # sizes and contenders share their code

    def made(name: str, whose: Any, layer: Layer, compiled: bool) -> Contender:
        call: Layer = torch.compile(layer, dynamic=False) if compiled else layer

        def run() -> Any:
            y = call(given)
            return y, torch.autograd.grad(y, given, cotangent)[0]

        def answer() -> Answer:
            y, gradient = run()
            return Answer((y.detach().numpy(),), {"x": gradient.numpy()})

        return Contender(f"{name}, compiled" if compiled else name, whose, run, answer)

    layers: list[tuple[str, Any, Layer]] = [
        (f"snnx torch, {how}", "snnx", ours("snnx_torch", implementation=how))
        for how in ("generic", "cpp")
    ]
    layers.append(("plain loop", "plain", plain))
    more = torch_peers() if peers else {}
    layers += [(name, "peer", layer) for name, layer in more.items()]
    forms = (False,) if quick else (False, True)
    return [made(*layer, compiled) for layer in layers for compiled in forms]


def mlx_contenders(x: np.ndarray, g: np.ndarray, quick: bool, peers: bool) -> list[Contender]:
    """Return what runs on MLX, each as it is and compiled."""
    import mlx.core as mx

    given, cotangent = mx.array(x), mx.array(g)

    def made(name: str, whose: Any, layer: Layer, compiled: bool) -> Contender:
        def both(a: Any, b: Any) -> Any:
            (y,), (gradient,) = mx.vjp(lambda v: [layer(v)], [a], [b])
            return y, gradient

        call = mx.compile(both) if compiled else both

        def run() -> Any:
            found = call(given, cotangent)
            mx.eval(found)
            return found

        def answer() -> Answer:
            y, gradient = run()
            return Answer((np.array(y),), {"x": np.array(gradient)})

        return Contender(f"{name}, compiled" if compiled else name, whose, run, answer)

    layers: list[tuple[str, Any, Layer]] = [("snnx MLX", "snnx", ours("snnx_mlx"))]
    if peers and installed("mlxsnn"):
        layers.append(("mlx-snn", "peer", mlxsnn()))
    forms = (False,) if quick else (False, True)
    return [made(*layer, compiled) for layer in layers for compiled in forms]


def case(backend: str, neurons: int, rounds: int, quick: bool, peers: bool) -> dict[str, Any]:
    """Return the figures of one backend and size; the reference sees every neuron of it."""
    from snnx.ops import OPS

    rng = np.random.default_rng(3)
    x = rng.uniform(-0.4, 1.2, (T, 1, neurons)).astype(np.float32)
    g = rng.standard_normal(x.shape).astype(np.float32)
    op, inputs = OPS["neuron"], {"x": x.astype(np.float64)}
    attributes = {"neuron": spiking_neuron(), "observe": True}
    out = op.forward(np, inputs, attributes)
    cotangents = {name: np.zeros_like(value) for name, value in out.items()}
    cotangents["y"] = g.astype(np.float64)
    gradient = op.vjp(np, inputs, attributes, out, cotangents)["x"]
    wanted = Answer((out["y"],), {"x": gradient})
    free = [np.abs(out["potential"]) < MARGIN]  # an observed potential is relative to its threshold
    make = {"torch": torch_contenders, "mlx": mlx_contenders}[backend]
    allowed = op.tolerance["float32"].gradient
    found = measured(make(x, g, quick, peers), wanted, allowed, free, rounds)
    row = {"case": "LIF", "backend": backend, "T": T, "neurons": neurons, "dtype": "float32"}
    left = float(np.mean(np.any(free[0], axis=0)))
    return {**row, "rate": float(out["y"].mean()), "left_out_share": left, **found}
