"""How weights and biases start, and to how many bits a weight is rounded."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from snnx.program import Init

WeightInit: TypeAlias = Literal["lecun_uniform", "kaiming_normal"] | float
ZERO = Init("constant", 0.0)


def weight_init(init: WeightInit, fan_in: int, fan_out: int) -> Init:
    """Return how a weight of these fans starts."""
    if init == "lecun_uniform":
        return Init("uniform", 1.0 / math.sqrt(fan_in))
    if init == "kaiming_normal":
        return Init("normal", math.sqrt(2.0 / fan_out))
    return Init("normal", float(init))


def bias_init(init: WeightInit, fan_in: int) -> Init:
    """Return how the bias beside such a weight starts."""
    return Init("uniform", 1.0 / math.sqrt(fan_in)) if init == "lecun_uniform" else ZERO


def check_bits(kind: str, bits: int | None) -> None:
    """Raise ValueError unless bits is None or what op "quantize_weight" takes."""
    number = isinstance(bits, int) and not isinstance(bits, bool)
    if bits is not None and not (number and 2 <= bits <= 16):
        raise ValueError(f"{kind}: bits is None or a whole number from 2 to 16, not {bits!r}")
