"""Makes snnx/data/digits.npz from scikit-learn's copy of the UCI digits (not shipped).

The 450 test images are chosen per class, in proportion to its size (largest remainders first), by
the shuffle of `snnx.random` with seed 0.
"""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]

from snnx.random import permutation

TEST = 450
TARGET = Path(__file__).parents[1] / "snnx" / "data" / "digits.npz"


def main() -> None:
    bunch: Any = load_digits()
    x = bunch.images.astype(np.uint8)
    y = bunch.target.astype(np.uint8)

    sizes = np.bincount(y)
    quotas = sizes * TEST / len(y)
    counts = np.floor(quotas).astype(int)
    by_remainder = np.argsort(counts - quotas, kind="stable")
    counts[by_remainder[: TEST - counts.sum()]] += 1

    order = permutation(0, "split", "digits", len(y), 0)
    chosen = [order[y[order] == label][:count] for label, count in enumerate(counts)]
    test = np.sort(np.concatenate(chosen)).astype(np.uint16)
    np.savez_compressed(TARGET, allow_pickle=False, x=x, y=y, test=test)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, {len(y) - TEST} + {TEST} images")


if __name__ == "__main__":
    main()
