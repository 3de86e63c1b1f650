"""A first network: define it once, train it on the embedded digits, print its test accuracy.

python examples/first_net.py --backend torch
"""

import argparse

import snnx
from snnx import LIF, AvgPool2d, BatchNorm, Chain, Conv2d, Flatten, Input, Linear, Triangular


def model(features: int = 16) -> Chain:
    """Return a small convolutional spiking net for 8x8 images."""
    neuron = LIF(decay=0.5, surrogate=Triangular(width=1.0))
    return Chain(
        Input(8, 8, 1),
        Conv2d(features, 3),
        BatchNorm(),
        neuron,
        AvgPool2d(2),
        Conv2d(2 * features, 3),
        BatchNorm(),
        neuron,
        AvgPool2d(2),
        Flatten(),
        Linear(10),
    )


def main(arguments: list[str] | None = None) -> float:
    """Train and return the test accuracy of the last epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="time steps T")
    chosen = parser.parse_args(arguments)

    net = model()
    for p in snnx.parameters(net):
        print(f"{p.path:12} {p.role:8} {p.shape}")
    result = snnx.fit(
        net,
        "digits",
        objective=snnx.TET(),
        optim=snnx.Optim(snnx.Adam(lr=0.01)),
        steps=chosen.steps,
        epochs=chosen.epochs,
        backend=chosen.backend,
    )
    print(f"test accuracy {result.test_accuracy:.4f}")
    return result.test_accuracy


if __name__ == "__main__":
    main()
