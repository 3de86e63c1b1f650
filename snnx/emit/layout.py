"""What a kernel is called with: the shapes it writes, whole numbers, sums of its partials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from snnx.emit.unit import Share, Unit
from snnx.emit.variant import WORD, Source, Variant, word_bits

CODES = 4  # of two bits, in a byte
LIMIT = 2**30  # neurons of one step, N * prod(F): places within two steps are 32-bit numbers


@dataclass(frozen=True, slots=True)
class Layout:
    """A step's neurons in memory: [N, *F] with `features` = prod(F) and `channels` = F[-1].

    lane and groups say how a backward that sums gradients divides the work: a thread owns the
    neurons e = column + lane * row with row = group, group + groups, ... . A lane holds whole
    periods of every number, so that a thread meets one value of each.
    """

    total: int
    features: int
    channels: int
    lane: int = 0
    groups: int = 1

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Layout:
        """Return the layout of a step [N, *F]."""
        total = math.prod(shape)
        features = math.prod(shape[1:])
        return cls(total, features, shape[-1] if len(shape) > 1 else 1)

    def lanes(self, share: Share, width: int, groups: int) -> Layout:
        """Return the layout whose lanes are whole periods of the widest `share`."""
        period = self.period(share)
        lane = period * max(-(-width // period), 1)
        rows = -(-self.total // lane)
        return replace(self, lane=lane, groups=max(min(groups, rows), 1))

    def coding(self, share: Share) -> Layout:
        """Return the layout in which a thread owns the four neurons whose codes are one byte.

        The lane is a multiple of 16, so that each of the four is loaded with its neighbours.
        """
        return self.lanes(share, 16 * -(-self.total // (16 * CODES)), 1)

    @property
    def turns(self) -> int:
        """How many neurons a thread owns at most."""
        return -(-self.total // max(self.lane * self.groups, 1))

    def period(self, share: Share) -> int:
        """Return after how many neurons the values of a number repeat."""
        return {"layer": 1, "channel": self.channels, "neuron": self.features}[share]


def words(total: int) -> int:
    """Return how many words hold one bit of each of a step's neurons."""
    return -(-total // WORD)


def widest(unit: Unit) -> Share:
    """Return the widest share among the unit's numbers."""
    order: tuple[Share, ...] = ("layer", "channel", "neuron")
    found = [order.index(n.share) for n in unit.numbers]
    return order[max(found, default=0)]


def shapes(source: Source, unit: Unit, variant: Variant, layout: Layout) -> dict[str, tuple]:
    """Return the flat shape of every array that the kernel writes."""
    total, steps = layout.total, variant.steps
    found: dict[str, tuple] = {
        "y": (steps, total),
        "spike": (steps, total),
        "potential": (steps, total),
        "witness": (steps, total),
        "g_x": (1 if variant.static or "code" in source.names("in") else steps, total),
        "g_residual": (steps, total),
        "bits": (variant.parts, total),
        "checkpoints": (variant.parts, len(unit.states), total),
        "fired": (steps, words(total)),
        "code": (layout.coding(widest(unit)).lane,),
    }
    names = source.names("out")
    for name in names:
        if name.startswith("partial_"):
            found[name] = (layout.groups, layout.lane)
        elif name not in found:
            found[name] = (total,)
    return {name: found[name] for name in names}


def kinds(source: Source, unit: Unit, variant: Variant) -> dict[str, str]:
    """Return the kind of every array: "data", "float", "byte", "uint", "vote", "word8", ..."""
    count = 1 if unit.bits is None else unit.bits.count
    word = f"word{word_bits(variant, count)}" if variant.keep == "bits" else "word32"
    arrays = [a for a in source.arguments if a.role != "size"]
    return {a.name: word if a.kind == "word" else a.kind for a in arrays}


def sizes(
    source: Source, unit: Unit, layout: Layout, samples: int = 0, key: int = 0
) -> dict[str, int]:
    """Return the whole numbers that the kernel takes, by name, in order."""
    known = {
        "total": layout.total,
        "lane": layout.lane,
        "groups": layout.groups,
        "turns": layout.turns,
        "coded": layout.coding(widest(unit)).lane,
        "features": layout.features,
        "residual_period": layout.channels,
        "samples": samples,
        "key": key,
    }
    for i, number in enumerate(unit.numbers):
        known[f"p{i}_period"] = layout.period(number.share)
    return {name: known[name] for name in source.names("size")}


def partials(unit: Unit) -> Mapping[str, tuple[str, Share]]:
    """Return, by the name of a learned number, the array of its partial sums and its share."""
    return {n.name: (f"partial_p{i}", n.share) for i, n in enumerate(unit.numbers) if n.learned}


def finished(partial: Any, share: Share, layout: Layout) -> Any:
    """Return the gradient of a number from its partial sums [groups, lane], flat."""
    if share == "layer":
        return partial.sum()
    period = layout.period(share)
    return partial.reshape(-1, period).sum(0)
