"""Streaming: one time step at a time, with the state handed over by you.

A net on a whole sequence and the same net fed step by step give the same spikes.

python examples/streaming.py --backend numpy
"""

import argparse

import numpy as np

import snnx
from snnx import LIF, Chain, Input, Linear, Triangular, random

T, N, FEATURES = 12, 2, 6


def main(arguments: list[str] | None = None) -> float:
    """Return the largest difference between the whole sequence and the stream."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="numpy")
    chosen = parser.parse_args(arguments)

    neuron = LIF(decay=0.75, surrogate=Triangular(width=1.0))
    model = Chain(Input(FEATURES), Linear(16), neuron, Linear(3))
    backend = snnx.load_backend(chosen.backend)
    net = snnx.build(model, chosen.backend)
    session = backend.session(net, snnx.SDT(), snnx.Optim())

    x = random.uniform(0, "input", "stream", 0, np.arange(N), np.arange(T), FEATURES) * 3
    y, index = np.zeros(N, np.int64), np.arange(N, dtype=np.uint32)
    whole = session.forward({"x": x, "y": y, "index": index}, {}).y  # [T, N, 3]

    state, steps = None, []
    for t in range(T):  # what a sensor would deliver
        now = x[t : t + 1]
        out = session.forward({"x": now, "y": y, "index": index}, {}, state=state)
        state = out.state
        steps.append(out.y[0])
    difference = float(np.abs(np.stack(steps) - whole).max())
    print(f"{chosen.backend}: {T} steps, largest difference {difference:.1e}")
    return difference


if __name__ == "__main__":
    main()
