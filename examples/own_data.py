"""Your own data: sequences of different lengths, as a .npz file or as arrays.

The task is made here, so it is synthetic: which of four channels carries the faster pulse train.

python examples/own_data.py --backend torch
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import snnx
from snnx import LIF, Chain, Input, Linear, Triangular, random
from snnx.data import from_npz

CHANNELS, LONGEST = 4, 20


def pulses(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x [T, N, C], labels [N] and lengths [N]; steps after a length are zero."""
    order = np.arange(count)
    y = random.integers(CHANNELS, seed, "label", "pulses", 0, order, [0], 1)[0, :, 0]
    length = 8 + random.integers(LONGEST - 7, seed, "length", "pulses", 0, order, [0], 1)[0, :, 0]
    draws = random.uniform(seed, "pulse", "pulses", 0, order, np.arange(LONGEST), CHANNELS)
    rate = np.where(np.arange(CHANNELS) == y[:, None], 0.6, 0.2)
    valid = np.arange(LONGEST)[:, None, None] < length[:, None]
    return ((draws < rate) & valid).astype(np.float32), y.astype(np.int64), length.astype(np.int64)


def write(path: Path) -> Path:
    """Write the file that `snnx train data=FILE.npz` reads, and return its path."""
    (x, y, n), (u, z, m) = pulses(1024, 0), pulses(256, 1)
    np.savez(
        path,
        x_train=x,
        y_train=y,
        length_train=n,
        x_test=u,
        y_test=z,
        length_test=m,
        layout="TNF",
        label="synthetic",
    )
    return path


def model() -> Chain:
    """Return a dense spiking net on sequences of CHANNELS features."""
    neuron = LIF(decay=0.9, surrogate=Triangular(width=1.0))
    return Chain(Input(CHANNELS), Linear(32), neuron, Linear(CHANNELS))


def main(arguments: list[str] | None = None) -> float:
    """Train on the written file; return the test accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--epochs", type=int, default=8)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        data = from_npz(str(write(Path(folder) / "pulses.npz")))
    optim = snnx.Optim(snnx.Adam(lr=0.01))
    result = snnx.fit(model(), data, optim=optim, epochs=chosen.epochs, backend=chosen.backend)
    print(f"test accuracy {result.test_accuracy:.4f} ({data.label} data)")
    return result.test_accuracy


if __name__ == "__main__":
    main()
