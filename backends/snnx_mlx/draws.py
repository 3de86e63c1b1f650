"""Philox4x32-10 on MLX arrays, bit-equal to `snnx.random`.

Seed, counter, samples and times are uint32 arrays, never Python numbers, so that a compiled step
draws anew when they change; `mx.random` would freeze its mask inside one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from snnx.random import KEY_STEPS, MULTIPLIERS, ROUNDS, key_hash


def _product(word: mx.array, multiplier: int) -> tuple[mx.array, mx.array]:
    """Return the high and low word of a 64-bit product."""
    product = word.astype(mx.uint64) * mx.array(multiplier, mx.uint64)
    high = mx.right_shift(product, mx.array(32, mx.uint64)).astype(mx.uint32)
    return high, product.astype(mx.uint32)


def bits(
    seed: mx.array,
    purpose: str,
    path: str,
    counter: mx.array,
    samples: mx.array,
    times: mx.array,
    elements: int,
) -> mx.array:
    """Return random words, uint32 [T, N, elements], for samples [N] and times [T]."""
    for name, word in (("seed", seed), ("counter", counter), ("samples", samples)):
        if word.dtype != mx.uint32:
            raise TypeError(f"random bits: {name} must be uint32, gets {word.dtype}")
    if times.dtype != mx.uint32:
        raise TypeError(f"random bits: times must be uint32, gets {times.dtype}")
    blocks = -(-elements // 4)
    # An entry of a longer array: a lone number would be compiled into a kernel for each path.
    key0, key1 = seed.reshape(1), mx.array([key_hash(purpose, path), 0], mx.uint32)[:1]
    steps = mx.arange(ROUNDS, dtype=mx.uint32)
    keys0 = key0 + steps * mx.array(KEY_STEPS[0], mx.uint32)
    keys1 = key1 + steps * mx.array(KEY_STEPS[1], mx.uint32)
    c0, c1 = counter.reshape(1, 1, 1), samples[None, :, None]
    c2, c3 = times[:, None, None], mx.arange(blocks, dtype=mx.uint32)[None, None, :]
    for i in range(ROUNDS):
        high0, low0 = _product(c0, MULTIPLIERS[0])
        high1, low1 = _product(c2, MULTIPLIERS[1])
        c0 = mx.bitwise_xor(mx.bitwise_xor(high1, c1), keys0[i])
        c2 = mx.bitwise_xor(mx.bitwise_xor(high0, c3), keys1[i])
        c1, c3 = low1, low0
    words = mx.stack(list(mx.broadcast_arrays(c0, c1, c2, c3)), axis=-1)
    words = words.reshape(times.shape[0], samples.shape[0], blocks * 4)
    return words[..., :elements]


def to_uniform(words: mx.array) -> mx.array:
    """Return float32 in [0, 1), exactly (word >> 8) * 2^-24."""
    return mx.right_shift(words, mx.array(8, mx.uint32)).astype(mx.float32) * 2.0**-24


def uniform(
    seed: mx.array,
    purpose: str,
    path: str,
    counter: mx.array,
    samples: mx.array,
    times: mx.array,
    elements: int,
) -> mx.array:
    """Return uniform float32 in [0, 1), [T, N, elements]."""
    return to_uniform(bits(seed, purpose, path, counter, samples, times, elements))


def bernoulli(
    p: float | mx.array,
    seed: mx.array,
    purpose: str,
    path: str,
    counter: mx.array,
    samples: mx.array,
    times: mx.array,
    elements: int,
) -> mx.array:
    """Return bool [T, N, elements], true with probability float32(p)."""
    return uniform(seed, purpose, path, counter, samples, times, elements) < p


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mask that is drawn where it is used: `mask()` as an array, or its bits inside a kernel.

    seed and count are 0-d; index [N] are positions in the data set, times [T] absolute steps; share
    is the 0-d probability; the batch axis holds `copies` of the samples, outermost. `features` is
    the shape of one sample.
    """

    seed: mx.array
    purpose: str
    path: str
    count: mx.array
    index: mx.array
    times: mx.array
    share: mx.array
    copies: int
    features: tuple[int, ...]

    @property
    def place(self) -> tuple[int, int]:
        """The number of samples and the key, which a kernel takes as numbers."""
        return self.index.shape[0], key_hash(self.purpose, self.path)

    def arrays(self) -> dict[str, mx.array]:
        """Return what a kernel draws from, under the names of its arguments."""
        share = self.share.astype(mx.float32)
        every = (self.seed, self.count, self.index, self.times, share)
        return {n: a.reshape(-1) for n, a in zip(ARGUMENTS, every, strict=True)}

    def mask(self) -> mx.array:
        """Return the mask, bool [T, N, *F]."""
        size = math.prod(self.features)
        place = (self.count, self.index, self.times, size)
        u = uniform(self.seed, self.purpose, self.path, *place)
        u = u.reshape(self.times.shape[0], self.index.shape[0], *self.features)
        u = mx.tile(u, (1, self.copies, *[1] * len(self.features))) if self.copies > 1 else u
        return u < self.share


ARGUMENTS = ("seed", "count", "index", "times", "share")


def drawn(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a step with a mask as an array."""
    mask = inputs.get("mask")
    return {**inputs, "mask": mask.mask()} if isinstance(mask, Drawn) else dict(inputs)
