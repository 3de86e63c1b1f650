"""Dials on the device: one buffer of 32-bit words, filled once per step.

A dial is read from the buffer inside the step, so that no value of it is a Python number there and
none is traced again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from snnx.backend import COUNTERS


class DialBuffer:
    """The place of every dial: the counters as uint32, the others as the bits of a float32."""

    def __init__(self, names: Mapping[str, float]) -> None:
        self.names = (*COUNTERS, *names)

    def fill(self, values: Mapping[str, Any]) -> mx.array:
        """Return the buffer, uint32 [dials]."""
        words = np.empty(len(self.names), np.uint32)
        for i, name in enumerate(self.names):
            if name in COUNTERS:
                words[i] = int(values[name]) % 2**32
            else:
                words[i : i + 1].view(np.float32)[0] = values[name]
        return mx.array(words)

    def read(self, words: mx.array) -> dict[str, mx.array]:
        """Return every dial as a 0-d array."""
        floats = words.view(mx.float32)
        return {
            name: words[i] if name in COUNTERS else floats[i] for i, name in enumerate(self.names)
        }
