"""How much memory a training step takes, and the largest batch that fits.

Both come from a backend's `footprint`: the bytes alive at every moment of one step. What a step
takes grows linearly with the batch, so two batches give the line

    peak(N) = standing + fixed + N per_sample

and the largest batch is where it meets the memory of the device less a reserve for what is not in
the figures: the workspace of convolutions, the framework itself, the rounding of its allocator.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from snnx.backend import Footprint

MIB = 2**20
DEVICES = {"h100": 81559 * MIB, "h200": 143771 * MIB}  # what their driver reports
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
RESERVE = 0.08  # of the device's memory; a guess, not a measurement


@dataclass(frozen=True, slots=True)
class Fit:
    """The line of the peak over the batch, and the largest batch for a number of bytes."""

    fixed: float
    per_sample: float

    @staticmethod
    def of(small: tuple[int, Footprint], large: tuple[int, Footprint]) -> Fit:
        """Return the line through the peaks of two batches."""
        (n, first), (m, second) = small, large
        slope = (second.peak - first.peak) / (m - n)
        return Fit(first.peak - slope * n, slope)

    def peak(self, samples: int) -> float:
        """Return the bytes of a batch."""
        return self.fixed + self.per_sample * samples

    def largest(self, memory: int, reserve: float = RESERVE) -> int:
        """Return the largest batch, 0 where not one sample fits."""
        room = memory * (1.0 - reserve) - self.fixed
        return max(int(room // self.per_sample), 0)


def fitted(run: Callable[[int], Footprint], samples: int) -> tuple[Fit, Footprint]:
    """Return the line by two batches, and the footprint of the larger, `samples` at most 64."""
    large = max(min(samples, 64), 2)
    small = max(large // 2, 1)
    found = run(large)
    return Fit.of((small, run(small)), (large, found)), found


def memory_of(text: str) -> int:
    """Return the bytes of a device's name ("h100") or a size ("24GiB", "16e9", "40 GB").

    Raises: ValueError for anything else.
    """
    if text.lower() in DEVICES:
        return DEVICES[text.lower()]
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][0-9]+)?)\s*([KMG]?I?)B?\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"device {text!r} is not {', '.join(DEVICES)}, nor a size such as 24GiB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def readable(size: float) -> str:
    """Return bytes as KiB, MiB or GiB."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1024:.1f} KiB"
