"""What the samples and tolerances of several ops share."""

from __future__ import annotations

import numpy as np

from snnx.ops._op import Tolerance

# The samples must not depend on the random stream that the suite checks, hence not on snnx.random.
Random = np.random.Generator  # noqa: TID251
BFLOAT16_EPS = 2.0**-8
FLOAT16_EPS = 2.0**-11


def tolerances(
    forward: float = 2e-6, gradient: float = 1e-5, low: float = 2.0, low_gradient: float = 4.0
) -> dict[str, Tolerance]:
    """Return tolerances for float32 as given, and `low` times the dtype's eps for 16 bits."""
    return {
        "float32": Tolerance(forward, gradient),
        "bfloat16": Tolerance(low * BFLOAT16_EPS, low_gradient * BFLOAT16_EPS),
        "float16": Tolerance(low * FLOAT16_EPS, low_gradient * FLOAT16_EPS),
    }


def generator(seed: int) -> Random:
    """Return the source of one op's samples."""
    return np.random.default_rng(seed)  # noqa: TID251


def dyadic(
    rng: Random, shape: tuple[int, ...], grid: float = 0.5, limit: float = 1.0
) -> np.ndarray:
    """Return float64 multiples of `grid` (a power of two) in [-limit, limit]."""
    bound = round(limit / grid)
    return rng.integers(-bound, bound + 1, shape) * grid


def bits(rng: Random, shape: tuple[int, ...], rate: float = 0.4) -> np.ndarray:
    """Return float64 zeros and ones, a share `rate` of them ones."""
    return (rng.random(shape) < rate).astype(np.float64)
