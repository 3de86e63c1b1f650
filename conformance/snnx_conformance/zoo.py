"""The networks of the levels models and training: tiny, and one for each thing the spine carries.

Every field of the spine is in one of them: batch norm, residual sums, feedback, DSR's clamped
thresholds, ASGL's mask and learned widths, Dspike's dial, dropout, Poisson encoding, all losses.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from snnx.backend import Batch
from snnx.building import initial_parameters
from snnx.layers import BatchNorm, Chain, Conv2d, Dropout, Flatten, Input, Linear, Poisson, Residual
from snnx.neurons import IF, LIF
from snnx.objective import SDT, TET, Objective, RateMSE
from snnx.ops._cases import generator
from snnx.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from snnx.program import Program, flatten
from snnx.scalars import Dial, Learned
from snnx.spiking import DSR, Recurrent
from snnx.surrogate import ArcTan, Dspike, Sigmoid, Tanh, Triangular


@dataclass(frozen=True, slots=True)
class ZooNet:
    """A network of the zoo with its loss, its T, its batch, and how many parameters it has.

    Layers before a norm have no bias: its gradient is 0, and that of float32 is noise.

    `count` is counted by hand from the layers, not by the code that it checks; None where a test
    elsewhere counts.
    """

    name: str
    model: Chain
    count: int | None
    objective: Objective = field(default_factory=SDT)
    steps: int = 4
    samples: int = 4
    static: bool = False
    lengths: tuple[int, ...] | None = None
    offset: float = 0.0

    def parameters(self, program: Program, seed: int = 0) -> dict[str, np.ndarray]:
        """Return the initial weights, those of the first layer moved by `offset`."""
        found = initial_parameters(program, seed)
        first = program.parameters[0].path
        return {**found, first: found[first] + np.float32(self.offset)}

    def batch(self, program: Program, seed: int = 0) -> Batch:
        """Return a batch of ordinary numbers, drawn from the name and the seed."""
        rng = generator(zlib.crc32(self.name.encode()) + seed)
        lead = () if self.static else (self.steps,)
        x = 0.5 + rng.standard_normal((*lead, self.samples, *program.input_shape))
        if self.offset:  # the offset of the weights cancels, its rounding errors do not
            x = x - np.mean(x, axis=-1, keepdims=True)
        y = rng.integers(0, program.output_shape[-1], self.samples)
        index = np.arange(self.samples) + 7 * seed
        batch: Batch = {"x": x.astype(np.float32), "y": y, "index": index}
        if self.lengths is not None:
            batch["length"] = np.array(self.lengths)
        return batch


def _conv_net() -> ZooNet:
    lif = LIF(surrogate=Sigmoid(0.5))
    model = Chain(
        *(Input(8, 8, 1), Conv2d(4, 3, bias=False), BatchNorm(), lif, AvgPool2d(2)),
        *(Conv2d(6, 3, bias=False), BatchNorm(), lif, Flatten(), Linear(5)),
    )
    # conv 9*4, norm 8, conv 9*4*6, norm 12, linear 96*5 + 5
    return ZooNet("conv", model, 36 + 8 + 216 + 12 + 485, TET(0.05), static=True)


def _residual_net() -> ZooNet:
    n = IF(reset="subtract", detach_reset=True, surrogate=Triangular(1.0))
    norm = BatchNorm(scale=0.5)
    body = Chain(Conv2d(4, 3, bias=False), norm, n, Conv2d(4, 3, bias=False), norm)
    down = Chain(Conv2d(6, 3, 2, bias=False), norm, n, Conv2d(6, 3, bias=False), norm)
    skip = Chain(Conv2d(6, 1, 2, padding=0, bias=False), norm)
    model = Chain(
        *(Input(8, 8, 2), Conv2d(4, 3, bias=False), norm, n, MaxPool2d(2), Residual(body), n),
        *(Residual(down, skip), n, GlobalAvgPool2d(), Linear(4)),
    )
    # stem 72 + 8, body 2 * (144 + 8), down 216 + 12 + 324 + 12, skip 24 + 12, linear 28
    return ZooNet("residual", model, 80 + 304 + 564 + 36 + 28)


def _recurrent_net() -> ZooNet:
    neuron = LIF(
        decay=Learned(0.6, "channel", "decay", "logit"),
        threshold=0.5,
        fire=">",
        surrogate=ArcTan(2.0),
    )
    decay = Learned(0.5, "layer", "decay", "logit")
    model = Chain(Input(10), Linear(12), Recurrent(neuron, decay), Linear(4))
    # linear 132, feedback 144, decay 12, synapse 1, linear 52
    return ZooNet("recurrent", model, 132 + 144 + 12 + 1 + 52, steps=6, lengths=(6, 1, 3, 5))


def _dsr_net() -> ZooNet:
    model = Chain(
        *(
            Input(6, 6, 1),
            Conv2d(4, 3, bias=False),
            BatchNorm(),
            DSR.integrate_and_fire(1.0),
            AvgPool2d(2),
        ),
        *(Conv2d(4, 3, bias=False), BatchNorm(), DSR.leaky(0.3, dt=0.25), Flatten()),
        *(Linear(4, bias=False), BatchNorm(), DSR.leaky(0.3, dt=0.25)),
    )
    # conv 36, norm 8, threshold 1, conv 144, norm 8, threshold 1, linear 144, norm 8, threshold 1
    return ZooNet("dsr", model, 36 + 8 + 1 + 144 + 8 + 1 + 144 + 8 + 1, SDT(0.8), static=True)


def _asgl_net() -> ZooNet:
    neuron = LIF(
        decay=0.5,
        threshold=0.5,
        analog=Dial("analog", 0.3),
        emit=("threshold", 1.0),
        surrogate=Tanh(Learned(0.8, "channel", transform="log")),
    )
    model = Chain(
        *(Input(6, 6, 2), Conv2d(4, 3, bias=False), BatchNorm(), neuron, Dropout(0.25)),
        *(Conv2d(4, 3, groups=2, bias=False), BatchNorm(), neuron, AvgPool2d(2), Flatten()),
        *(Linear(8), neuron, Dropout(0.5, per_step=False), Linear(4)),
    )
    # conv 72, norm 8, width 4, conv 72, norm 8, width 4, linear 296, width 8, linear 36
    return ZooNet("asgl", model, 72 + 8 + 4 + 72 + 8 + 4 + 296 + 8 + 36, TET(0.1))


def _dspike_net() -> ZooNet:
    neuron = LIF(decay=0.25, threshold=0.5, surrogate=Dspike())
    model = Chain(
        *(Input(6, 6, 1), Poisson(), Conv2d(4, 3, bias=False), BatchNorm(), neuron),
        *(MaxPool2d(3, 2, 1), Flatten(), Linear(8), neuron, Linear(4)),
    )
    # conv 36, norm 8, linear 36*8 + 8, linear 36
    return ZooNet("dspike", model, 36 + 8 + 296 + 36, RateMSE(), static=True)


def zoo() -> tuple[ZooNet, ...]:
    """Return every network of the zoo."""
    return (
        _conv_net(),
        _residual_net(),
        _recurrent_net(),
        _dsr_net(),
        _asgl_net(),
        _dspike_net(),
    )


def drifting() -> tuple[ZooNet, ...]:
    """Return the networks of the free runs, in which rounding flips a spike somewhere.

    Large weights that cancel make rounding errors large beside the potentials; the feedback of
    the first network and the depth of the second spread a flip.
    """
    neuron = LIF(decay=0.9, reset="subtract", detach_reset=True)
    chaos = Chain(Input(16), Linear(64, init=1.0), Recurrent(neuron, 0.5, init=0.3), Linear(4))
    soft = IF(reset="subtract")
    layers = [layer for _ in range(4) for layer in (Linear(48, init=0.4), soft)]
    deep = Chain(Input(16), *layers, Linear(4))
    return (
        ZooNet("chaos", chaos, 16 * 64 + 64 + 64 * 64 + 260, steps=48, samples=16, offset=1000.0),
        ZooNet(
            "deep", deep, 16 * 48 + 3 * 48 * 48 + 4 * 48 + 196, steps=32, samples=16, offset=1000.0
        ),
    )


def programs() -> dict[str, Program]:
    """Return the program of every network of the zoo by name."""
    return {net.name: flatten(net.model) for net in zoo()}
