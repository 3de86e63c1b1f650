"""The digits step on the CPU: the net of the quick start, T = 4, batch 32, TET without MSE, Adam.

The peers' nets are written layer by layer over the whole sequence, so that their batch norms see
what ours see, and their first convolution and norm see the static image once, as ours do.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from benchmarks import cpu_lif
from benchmarks.cpu_common import Answer, Contender, T, measured
from benchmarks.cpu_convolutions import processor_ms

LR = 0.005
MARGIN = 1e-5
SEEDS = 20  # batches that are tried for one in which no potential lies at its threshold


def model() -> Any:
    """Return the net, with the neuron that every contender has."""
    from snnx.models.digits import digits

    return digits(neuron=cpu_lif.spiking_neuron())


def session(
    backend: str, precision: str = "fp32", compile: bool | None = None, **options: Any
) -> Any:
    """Return a training session of the net at its first weights."""
    import snnx
    from snnx.backend import load_backend
    from snnx.building import initial_parameters

    program, chosen = snnx.flatten(model()), load_backend(backend)
    values = initial_parameters(program, 0)
    net = chosen.build(program, values, device="cpu", precision=precision, **options)
    optim = snnx.Optim(snnx.Adam(lr=LR))
    return chosen.session(net, snnx.TET(mse=0.0), optim, steps=T, compile=compile)


def of_session(made: Any, batch: Any) -> Answer:
    """Return spikes and gradients of a session in training mode, and the norm a step reports."""
    from snnx.mode import train_mode

    program = made.net.program
    paths = [step.path for step in program.spiking]
    seen = made.forward(batch, {}, train_mode(program), [f"{path}.spike" for path in paths])
    _, gradients = made.grads(batch, {})
    norm = made.read(made.step([batch], {"step": 0}))["gradient_norm"]  # of what is timed
    spikes = tuple(seen.taps[f"{path}.spike"] for path in paths)
    return Answer(spikes, {**gradients, "norm": np.asarray(norm)})


def with_norm(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return gradients with their norm, which a step of ours reports."""
    squares = sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients.values())
    return {**gradients, "norm": np.asarray(np.sqrt(squares))}


def snnx_contender(name: str, backend: str, batch: Any, **options: Any) -> Contender:
    """Return a session of ours; what is timed is its step, batch handed over and figures read."""
    steps = iter(range(10**9))
    made = session(backend, **options)

    def run() -> object:
        return made.read(made.step([batch], {"step": next(steps)}))

    return Contender(name, "snnx", run, lambda: of_session(session(backend, **options), batch))


def torch_contender(
    name: str, whose: Any, make: Callable[[], Any], batch: Any, compiled: bool = False
) -> Contender:
    """Return the same net in plain torch around a neuron, its forward and loss compiled or not."""
    import torch
    from torch import nn

    start = first_weights()
    tensors = {k: torch.tensor(np.asarray(v, np.float32)) for k, v in start.items()}
    linear = tensors["10.weight"].reshape(10, 2, 2, 64).permute(0, 3, 1, 2).reshape(10, 256)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
            self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(32), nn.BatchNorm2d(64)
            self.linear = nn.Linear(256, 10)
            self.fire1, self.fire2 = make(), make()
            self.spikes: list[Any] = []

        def forward(self, x: Any) -> Any:
            n = len(x)
            x = self.norm1(self.conv1(x))
            first = self.fire1(x.unsqueeze(0).expand(T, *x.shape))
            x = nn.functional.avg_pool2d(first.flatten(0, 1), 2)
            x = self.norm2(self.conv2(x))
            second = self.fire2(x.unflatten(0, (T, n)))
            self.spikes = [first, second]
            x = nn.functional.avg_pool2d(second.flatten(0, 1), 2).flatten(1)
            return self.linear(x).unflatten(0, (T, n))

    net = Net()
    named = {
        "1.weight": net.conv1.weight,
        "2.weight": net.norm1.weight,
        "2.bias": net.norm1.bias,
        "5.weight": net.conv2.weight,
        "6.weight": net.norm2.weight,
        "6.bias": net.norm2.bias,
        "10.weight": net.linear.weight,
        "10.bias": net.linear.bias,
    }

    def restored() -> None:
        with torch.no_grad():
            for path, parameter in named.items():
                value = linear if path == "10.weight" else tensors[path]
                parameter.copy_(value.permute(0, 3, 1, 2) if value.ndim == 4 else value)

    restored()
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)

    def loss_of(x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(net(x).flatten(0, 1), y.repeat(T))

    if compiled:  # all contenders share this code, and torch counts its graphs
        torch._dynamo.config.recompile_limit = 64
    forward = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def gradients() -> Any:
        x = torch.tensor(batch["x"], dtype=torch.float32).permute(0, 3, 1, 2)
        optimizer.zero_grad()
        loss = forward(x, torch.tensor(batch["y"], dtype=torch.int64))
        loss.backward()
        return loss

    def run() -> object:
        loss = gradients()
        optimizer.step()
        return loss.item()

    def answer() -> Answer:
        gradients()
        found = {}
        for path, parameter in named.items():
            g: Any = parameter.grad
            if g.ndim == 4:
                g = g.permute(0, 2, 3, 1)
            if path == "10.weight":
                g = g.reshape(10, 64, 2, 2).permute(0, 2, 3, 1).reshape(10, 256)
            found[path] = g.detach().clone().numpy()
        spikes = tuple(s.detach().permute(0, 1, 3, 4, 2).numpy() for s in net.spikes)
        return Answer(spikes, with_norm(found))

    return Contender(name, whose, run, answer)


def mlx_contender(name: str, batch: Any, compiled: bool) -> Contender:
    """Return the same net in MLX around mlx-snn's neuron, its step compiled whole or not at all."""
    import mlx.core as mx
    from mlx import optimizers

    nn: Any = importlib.import_module("mlx.nn")

    start = {k: mx.array(np.asarray(v, np.float32)) for k, v in first_weights().items()}

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
            self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm(32), nn.BatchNorm(64)
            self.linear = nn.Linear(256, 10)
            self.pool = nn.AvgPool2d(2)

        def __call__(self, x: Any) -> Any:
            n = len(x)
            x = self.norm1(self.conv1(x))
            first = fire(mx.broadcast_to(x[None], (T, *x.shape)))
            x = self.norm2(self.conv2(self.pool(first.reshape(-1, *first.shape[2:]))))
            second = fire(x.reshape(T, n, *x.shape[1:]))
            x = self.pool(second.reshape(-1, *second.shape[2:])).reshape(T * n, 256)
            return self.linear(x).reshape(T, n, 10), (first, second)

    fire, net = cpu_lif.mlxsnn(), Net()
    places = {"1": "conv1", "2": "norm1", "5": "conv2", "6": "norm2", "10": "linear"}
    for path, value in start.items():
        place, kind = path.split(".")
        setattr(net[places[place]], kind, value)
    optimizer = optimizers.Adam(learning_rate=LR, bias_correction=True)

    def loss_of(x: Any, y: Any) -> Any:
        logits, spikes = net(x)
        loss = nn.losses.cross_entropy(logits, mx.broadcast_to(y[None], (T, len(y))))
        return loss.mean(), spikes

    both = nn.value_and_grad(net, loss_of)
    optimizer.init(net.trainable_parameters())
    state = [net.state, optimizer.state]

    def update(x: Any, y: Any) -> Any:
        (loss, _), found = both(x, y)
        optimizer.update(net, found)
        return loss

    gradients, step = both, update
    if compiled:
        gradients = mx.compile(both, inputs=[net.state], outputs=[net.state])
        step = mx.compile(update, inputs=state, outputs=state)

    def given() -> list[Any]:
        x, y = np.asarray(batch["x"], np.float32), np.asarray(batch["y"], np.int32)
        return [mx.array(x), mx.array(y)]

    def run() -> object:
        loss = step(*given())
        mx.eval(state, loss)
        return loss.item()

    def answer() -> Answer:
        (_, spikes), found = gradients(*given())
        by_path = {p: np.array(found[places[p.split(".")[0]]][p.split(".")[1]]) for p in start}
        return Answer(tuple(np.array(s) for s in spikes), with_norm(by_path))

    return Contender(name, "peer", run, answer)


def first_weights() -> Any:
    """Return the weights that every contender begins with."""
    return session("numpy").export().parameters


def chosen_batch(size: int) -> tuple[Any, Answer]:
    """Return a batch of digits in which no potential lies at its threshold, and its reference."""
    from snnx.data import Batches, load
    from snnx.mode import train_mode

    data = load("digits")
    for seed in range(SEEDS):
        batch = next(iter(Batches(data, "train", size, seed=seed, drop_last=True).epoch(0)))
        made = session("numpy", "fp64")
        paths = [step.path for step in made.net.program.spiking]
        names = [f"{path}.potential" for path in paths]
        seen = made.forward(batch, {}, train_mode(made.net.program), names)
        if min(float(np.abs(seen.taps[name]).min()) for name in names) > MARGIN:
            return batch, of_session(made, batch)
    raise RuntimeError(f"{SEEDS} batches have a potential within {MARGIN} of its threshold")


def case(backend: str, size: int, rounds: int, quick: bool, peers: bool) -> dict[str, Any]:
    """Return the figures of one backend."""
    from snnx.ops.levels import NETWORK_GRADIENT

    batch, wanted = chosen_batch(size)
    found: list[Contender] = []
    forms = {"": False} if quick else {"": False, ", compiled": True}  # g++ takes long
    if backend == "torch":
        for form, kernels in product(("keep", "lean"), ("generic", "cpp")):
            for how, compiled in forms.items() if form == "keep" else [("", False)]:
                options = {"lean": form == "lean", "kernels": kernels, "compile": compiled}
                name = f"snnx torch, {form}, {kernels}{how}"
                found.append(snnx_contender(name, backend, batch, **options))
        makers: dict[str, tuple[str, Any]] = {"plain loop": ("torch", lambda: cpu_lif.plain)}
        if peers:
            makers["SpikingJelly"] = ("spikingjelly", cpu_lif.spikingjelly)
            makers["snnTorch"] = ("snntorch", cpu_lif.snntorch)
        for (name, (module, make)), (how, compiled) in product(makers.items(), forms.items()):
            if cpu_lif.installed(module):
                whose = "plain" if module == "torch" else "peer"
                found.append(torch_contender(f"{name}{how}", whose, make, batch, compiled))
    else:
        for form, (how, compiled) in product(("keep", "lean"), forms.items()):
            options = {"lean": form == "lean", "compile": compiled}
            found.append(snnx_contender(f"snnx MLX, {form}{how}", backend, batch, **options))
        if peers and cpu_lif.installed("mlxsnn"):
            for how, compiled in forms.items():
                found.append(mlx_contender(f"mlx-snn{how}", batch, compiled))
    free = [np.zeros(s.shape, bool) for s in wanted.spikes]
    row = {"case": "digits step", "backend": backend, "T": T, "batch": size, "dtype": "float32"}
    rate = float(np.mean([s.mean() for s in wanted.spikes]))
    return {
        **row,
        "rate": rate,
        "convolutions_ms": processor_ms(backend, size, rounds),
        **measured(found, wanted, NETWORK_GRADIENT["fp32"], free, rounds),
    }
