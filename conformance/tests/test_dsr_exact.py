"""DSR Eq. 18 and 21, bit for bit: the rate of an IF layer under a constant dyadic current."""

import numpy as np
import pytest

import snnx
from snnx.backend import load_backend
from snnx.ops import OPS
from snnx.ops.rate_mapping import if_constant_rate

THRESHOLD = 1.5


@pytest.mark.parametrize("backend", ["numpy", "torch", "mlx"])
@pytest.mark.parametrize("fraction", [1.0, 0.5], ids=["eq18", "eq21"])
@pytest.mark.parametrize("steps", [4, 5, 10, 15, 20])
def test_the_rate_under_a_constant_current_is_the_closed_form(
    steps: int, fraction: float, backend: str
) -> None:
    current = THRESHOLD * np.arange(-16, 81) / 64  # every potential is a multiple of it
    neuron = snnx.DSR.integrate_and_fire(THRESHOLD, fraction).neuron
    attributes = {"neuron": neuron, "kind": "if", "dt": 1.0, "tau": 1.0, "kappa": 1.0}
    inputs = {"x": current[None, None], "p.threshold": np.array(THRESHOLD)}
    run = load_backend(backend).run
    y = run(OPS["rate_neuron"], inputs, {**attributes, "steps": steps}, "float32")["y"]
    assert y.shape == (steps, 1, len(current))
    counts = np.asarray(y, np.float64).sum(0)[0] / THRESHOLD
    np.testing.assert_array_equal(counts, np.round(counts))
    rate = THRESHOLD / steps * counts
    np.testing.assert_array_equal(
        rate, if_constant_rate(np, current, THRESHOLD, steps, fraction), strict=True
    )
    # Eq. 18 rounds down, Eq. 21 to the nearest with halves up, and both are clamped
    share = steps * current / THRESHOLD
    rounded = np.floor(share if fraction == 1.0 else share + 0.5)
    np.testing.assert_array_equal(counts, np.clip(rounded, 0, steps))
    inside = (current >= 0) & (current <= THRESHOLD)
    assert np.abs(rate - current)[inside].max() <= fraction * THRESHOLD / steps + 1e-15
