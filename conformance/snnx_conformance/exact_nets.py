"""The networks of the exact level: small, dyadic, and within the 24 bits of float32.

Each is one entry of a table: how the network is wired, its neuron, T, and the grid of its weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnx.backend import Batch
from snnx.layers import Chain, Conv2d, Flatten, Input, Layer, Linear, Residual
from snnx.neurons import IF, LIF, Neuron
from snnx.ops._cases import Random, bits, dyadic, generator
from snnx.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from snnx.program import Program
from snnx.spiking import Recurrent
from snnx.surrogate import Rectangular, Triangular

CLASSES, SAMPLES = 4, 4


def _dense(n: Neuron) -> Chain:
    return Chain(Input(8), Linear(12), n, Linear(8, bias=False), n, Linear(CLASSES))


def _conv(pool: Layer) -> Callable[[Neuron], Chain]:
    def make(n: Neuron) -> Chain:
        return Chain(
            *(Input(4, 4, 2), Conv2d(4, 3), n, pool, Conv2d(4, 3, bias=False), n),
            *(Flatten(), Linear(CLASSES)),
        )

    return make


def _strided(n: Neuron) -> Chain:
    return Chain(
        *(Input(5, 5, 2), Conv2d(4, 3, stride=2, groups=2), n, Conv2d(4, 1), n),
        *(Conv2d(4, 2, padding=0), n, GlobalAvgPool2d(), Linear(CLASSES)),
    )


def _residual(n: Neuron) -> Chain:
    body = Chain(Conv2d(4, 3, bias=False), n, Conv2d(4, 3, bias=False))
    return Chain(
        *(Input(4, 4, 2), Conv2d(4, 3), n, Residual(body, Conv2d(4, 1)), n),
        *(Residual(Chain(Conv2d(4, 1), n)), AvgPool2d(2), Flatten(), Linear(CLASSES)),
    )


def _recurrent(decay: float) -> Callable[[Neuron], Chain]:
    def make(n: Neuron) -> Chain:
        return Chain(Input(8), Linear(8, bias=False), Recurrent(n, decay), Linear(CLASSES))

    return make


_WIRINGS: dict[str, Callable[[Neuron], Chain]] = {
    "dense": _dense,
    "conv-avg": _conv(AvgPool2d(2)),
    "conv-max": _conv(MaxPool2d(2)),
    "conv-overlap": _conv(MaxPool2d(3, 1, 1)),
    "strided": _strided,
    "residual": _residual,
    "recurrent": _recurrent(0.0),
    "recurrent-decay": _recurrent(0.5),
}


@dataclass(frozen=True, slots=True)
class ExactNet:
    """A network, its dyadic weights and a batch; everything is drawn from the name."""

    name: str
    model: Chain
    steps: int
    grid: float
    static: bool

    def parameters(self, program: Program) -> dict[str, np.ndarray]:
        """Return weights on the grid; biases at threshold's fraction, so that every layer fires."""
        rng = self._random(0)
        return {p.path: self._draw(rng, p.shape, p.role) for p in program.parameters}

    def _draw(self, rng: Random, shape: tuple[int, ...], role: str) -> np.ndarray:
        if role == "bias":
            return np.full(shape, 0.5)
        limit = 1.0 if self.grid < 1.0 else self.grid
        return dyadic(rng, shape, self.grid, limit)

    def batch(self, program: Program, step: int = 0) -> Batch:
        """Return spikes as input [T, N, *F], or a static dyadic image [N, *F]; drawn per step."""
        rng = self._random(1 + step)
        shape = (SAMPLES, *program.input_shape)
        x = dyadic(rng, shape, 0.5) if self.static else bits(rng, (self.steps, *shape), 0.5)
        y = (np.arange(SAMPLES) + step) % CLASSES
        return {"x": x.astype(np.float32), "y": y, "index": np.arange(SAMPLES)}

    def _random(self, stream: int) -> Random:
        return generator(zlib.crc32(self.name.encode()) + stream)


def _neuron(kind: str, reset: str, detach: bool, window: str) -> Neuron:
    fields: dict[str, Any] = {
        "reset": "subtract" if reset == "soft" else 0.0,
        "detach_reset": detach,
        "surrogate": Rectangular(2.0) if window == "rect" else Triangular(2.0),
    }
    return IF(**fields) if kind == "if" else LIF(decay=0.5, **fields)


# wiring, neuron, reset, detached, window, T, grid of the weights, static input
_TABLE: tuple[tuple[str, str, str, bool, str, int, float, bool], ...] = (
    ("dense", "if", "hard", True, "rect", 32, 0.5, False),
    ("dense", "if", "soft", True, "rect", 32, 0.5, False),
    ("dense", "if", "soft", False, "rect", 8, 0.5, False),
    ("dense", "if", "hard", False, "rect", 4, 0.5, False),
    ("dense", "if", "hard", True, "tri", 4, 0.5, False),
    ("dense", "if", "soft", True, "tri", 4, 0.5, False),
    ("dense", "if", "soft", False, "tri", 2, 0.5, False),
    ("dense", "if", "hard", True, "rect", 8, 0.25, True),
    ("dense", "lif", "hard", True, "rect", 8, 0.5, False),
    ("dense", "lif", "soft", True, "rect", 8, 0.5, False),
    ("dense", "lif", "hard", False, "rect", 2, 0.5, False),
    ("dense", "lif", "soft", False, "rect", 4, 0.5, False),
    ("dense", "lif", "hard", True, "rect", 4, 0.5, True),
    ("conv-avg", "if", "hard", True, "rect", 8, 0.5, False),
    ("conv-avg", "if", "soft", True, "rect", 8, 0.5, False),
    ("conv-avg", "if", "soft", False, "rect", 4, 0.5, False),
    ("conv-avg", "if", "hard", True, "tri", 2, 0.5, False),
    ("conv-avg", "lif", "hard", True, "rect", 4, 0.5, False),
    ("conv-avg", "lif", "soft", True, "rect", 4, 0.5, True),
    ("conv-max", "if", "hard", True, "rect", 32, 0.5, False),
    ("conv-max", "if", "soft", True, "rect", 4, 0.5, True),
    ("conv-max", "if", "soft", True, "tri", 2, 0.5, False),
    ("conv-max", "lif", "hard", True, "rect", 8, 0.5, False),
    ("conv-overlap", "if", "soft", True, "rect", 8, 0.5, False),
    ("conv-overlap", "lif", "hard", True, "rect", 4, 0.5, False),
    ("strided", "if", "hard", True, "rect", 8, 0.5, False),
    ("strided", "if", "hard", False, "rect", 2, 0.5, False),
    ("strided", "lif", "soft", True, "rect", 4, 0.5, False),
    ("residual", "if", "hard", True, "rect", 4, 1.0, False),
    ("residual", "if", "soft", False, "rect", 2, 1.0, False),
    ("residual", "lif", "hard", True, "rect", 2, 1.0, False),
    ("residual", "lif", "soft", True, "rect", 2, 0.5, True),
    ("recurrent", "if", "hard", True, "rect", 8, 0.5, False),
    ("recurrent", "if", "soft", False, "rect", 4, 0.5, False),
    ("recurrent", "if", "hard", True, "tri", 2, 0.5, False),
    ("recurrent", "lif", "hard", True, "rect", 4, 0.5, False),
    ("recurrent-decay", "if", "soft", True, "rect", 4, 0.5, False),
    ("recurrent-decay", "lif", "hard", True, "rect", 2, 0.5, False),
)


def make(
    wiring: str,
    kind: str,
    reset: str,
    detach: bool,
    window: str,
    steps: int,
    grid: float,
    static: bool,
) -> ExactNet:
    """Return the network of one row of the table."""
    tied = "detached" if detach else "attached"
    name = f"{wiring}-{kind}-{reset}-{tied}-{window}-T{steps}{'-static' if static else ''}"
    model = _WIRINGS[wiring](_neuron(kind, reset, detach, window))
    return ExactNet(name, model, steps, grid, static)


def exact_nets() -> Iterator[ExactNet]:
    """Yield every network of the table."""
    for row in _TABLE:
        yield make(*row)
