"""The stream of random bits of `snnx.random`, bit for bit, in torch operations.

Words are kept in int64, which every device and the compiler have; a product of two words is taken
in halves, so that nothing overflows. Seed, count, samples and times are tensors: a draw at another
step compiles nothing again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnx.random import KEY_STEPS, MULTIPLIERS, ROUNDS

_MASK = 0xFFFFFFFF


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the upper and the lower 32 bits of word * factor."""
    low = (word & 0xFFFF) * factor
    high = (word >> 16) * factor + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def bits(
    seed: Tensor, key: int, count: Tensor, samples: Tensor, times: Tensor, elements: int
) -> Tensor:
    """Return random words as int64 [T, N, elements].

    seed and count are 0-d; samples [N] are positions in the data set, times [T] absolute steps;
    `key` is `snnx.random.key_hash(purpose, path)`.
    """
    blocks = -(-elements // 4)
    c0 = count.to(torch.int64).reshape(1) & _MASK
    c1 = samples.to(torch.int64)[None, :, None] & _MASK
    c2 = times.to(torch.int64)[:, None, None] & _MASK
    c3 = torch.arange(blocks, dtype=torch.int64, device=samples.device)
    k0 = seed.to(torch.int64).reshape(1) & _MASK
    for i in range(ROUNDS):
        high0, low0 = _product(c0, MULTIPLIERS[0])
        high1, low1 = _product(c2, MULTIPLIERS[1])
        round0 = (k0 + (KEY_STEPS[0] * i & _MASK)) & _MASK
        round1 = (key + KEY_STEPS[1] * i) & _MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ round0, low1, high0 ^ c3 ^ round1, low0
    words = torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), dim=-1)
    return words.reshape(times.shape[0], samples.shape[0], blocks * 4)[..., :elements]


def uniform(
    seed: Tensor, key: int, count: Tensor, samples: Tensor, times: Tensor, elements: int
) -> Tensor:
    """Return float32 in [0, 1), [T, N, elements]: exactly (word >> 8) * 2^-24."""
    words = bits(seed, key, count, samples, times, elements)
    return (words >> 8).to(torch.float32) * 2.0**-24


def bernoulli(
    p: Tensor | float,
    seed: Tensor,
    key: int,
    count: Tensor,
    samples: Tensor,
    times: Tensor,
    elements: int,
) -> Tensor:
    """Return bool [T, N, elements], true where the uniform draw is below float32(p)."""
    probability = torch.as_tensor(p, dtype=torch.float32, device=samples.device)
    return uniform(seed, key, count, samples, times, elements) < probability


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mask that is drawn where it is used: `mask()` as an array, or its bits inside a kernel.

    seed and count are 0-d; index [N] are positions in the data set, times [T] absolute steps; share
    is the 0-d probability; the batch axis holds `copies` of the samples, outermost. `features` is
    the shape of one sample.
    """

    seed: Tensor
    key: int
    count: Tensor
    index: Tensor
    times: Tensor
    share: Tensor
    copies: int
    features: tuple[int, ...]

    def mask(self) -> Tensor:
        """Return the mask, bool [T, N, *F]."""
        elements = 1
        for size in self.features:
            elements *= size
        u = uniform(self.seed, self.key, self.count, self.index, self.times, elements)
        u = u.reshape(self.times.shape[0], self.index.shape[0], *self.features)
        if self.copies > 1:
            u = u.repeat(1, self.copies, *[1] * len(self.features))
        return u < self.share
