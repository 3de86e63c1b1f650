"""The native module in a plain MLX loop: mlx.optimizers and nn.value_and_grad, no session.

Compare with train_torch.py: what differs between the two files is what differs between frameworks.

python examples/train_mlx.py
"""

import argparse

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers

import snnx
from first_net import model
from snnx.data import Batches, load


def main(arguments: list[str] | None = None) -> float:
    """Train on the digits; return the test accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--features", type=int, default=16)
    chosen = parser.parse_args(arguments)

    data = load("digits")
    net = snnx.build(model(chosen.features), backend="mlx", seed=0)
    optimizer = mlx.optimizers.Adam(learning_rate=1e-2, bias_correction=True)

    def loss_of(x: mx.array, y: mx.array) -> mx.array:
        logits, _ = net(x, steps=chosen.steps)  # [T, N, 10]
        target = mx.broadcast_to(y, (chosen.steps, *y.shape)).reshape(-1)
        return nn.losses.cross_entropy(logits.reshape(-1, 10), target, reduction="mean")

    value_and_grad = nn.value_and_grad(net, loss_of)
    net.train()
    for epoch in range(chosen.epochs):
        losses = []
        for batch in Batches(data, "train", 64, seed=0).epoch(epoch):
            loss, gradients = value_and_grad(mx.array(batch["x"]), mx.array(batch["y"]))
            optimizer.update(net, gradients)
            mx.eval(net.state, optimizer.state)
            losses.append(loss.item())
        print(f"epoch {epoch}  loss {sum(losses) / len(losses):.4f}")

    net.eval()
    logits, _ = net(mx.array(data.x_test), steps=chosen.steps)
    right = logits.mean(axis=0).argmax(axis=-1) == mx.array(data.y_test)
    accuracy = right.astype(mx.float32).mean().item()
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
