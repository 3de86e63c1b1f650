"""The native module in a plain PyTorch loop: torch.optim, no session.

Compare with train_mlx.py: what differs between the two files is what differs between frameworks.

python examples/train_torch.py
"""

import argparse

import torch

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
    net = snnx.build(model(chosen.features), backend="torch", seed=0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)

    net.train()
    for epoch in range(chosen.epochs):
        losses = []
        for batch in Batches(data, "train", 64, seed=0).epoch(epoch):
            x, y = torch.from_numpy(batch["x"]), torch.from_numpy(batch["y"])
            logits, _ = net(x, steps=chosen.steps)  # [T, N, 10]
            target = y.expand(chosen.steps, -1).reshape(-1)
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 10), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}  loss {sum(losses) / len(losses):.4f}")

    net.eval()
    with torch.no_grad():
        logits, _ = net(torch.from_numpy(data.x_test), steps=chosen.steps)
    right = logits.mean(0).argmax(-1) == torch.from_numpy(data.y_test)
    accuracy = right.float().mean().item()
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
