"""Move a run from one backend to another and back: weights, moments, counters and batches go along.

python examples/move_run.py --backends mlx torch mlx
"""

import argparse
import tempfile
from pathlib import Path

import snnx
from first_net import model


def main(arguments: list[str] | None = None) -> float:
    """Train some epochs on each backend in turn; return the last test accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backends", nargs="+", default=["torch", "mlx", "torch"])
    parser.add_argument("--epochs", type=int, default=2, help="epochs on each")
    parser.add_argument("--features", type=int, default=16)
    chosen = parser.parse_args(arguments)

    before, accuracy = None, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for stop, backend in enumerate(chosen.backends, start=1):
            out = Path(folder) / str(stop)
            result = snnx.fit(
                model(chosen.features),
                "digits",
                optim=snnx.Optim(snnx.Adam(lr=0.01)),
                epochs=stop * chosen.epochs,
                backend=backend,
                out=out,
                resume=before,
            )
            before, accuracy = out, result.test_accuracy
            print(f"after {stop * chosen.epochs} epochs, the last on {backend}: {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
