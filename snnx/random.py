"""The one stream of random bits of snnx: Philox4x32-10 as a pure function of what is drawn.

    key     = (seed, key_hash(purpose, path))
    counter = (optimiser step or epoch, sample, t, element // 4)
    word    = philox4x32(counter, key)[element % 4]

A draw therefore depends on no batch split, process count, chunk of time, backend or fusion. Bits,
uniforms and Bernoulli draws are bit-equal on every backend. The normal is drawn on the host only.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint32]
Positions: TypeAlias = Sequence[int] | NDArray[np.integer]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_LOW = np.uint64(_MASK)
_HIGH = np.uint64(32)


def key_hash(purpose: str, path: str) -> int:
    """The second key word: 32-bit FNV-1a over the UTF-8 bytes of `purpose`, a zero byte, `path`.

        h = 2166136261;  for each byte b:  h = ((h xor b) * 16777619) mod 2^32

    Bytes are taken one by one, so the byte order of the machine does not enter.

    Raises: ValueError if a name contains the zero byte that separates the two.
    """
    if "\0" in purpose or "\0" in path:
        raise ValueError(
            f"key_hash: purpose and path must not contain a zero byte, got {purpose!r}, {path!r}"
        )
    value = 0x811C9DC5
    for byte in f"{purpose}\0{path}".encode():
        value = ((value ^ byte) * 0x01000193) & _MASK
    return value


def philox4x32(counter: Words, key: Words) -> Words:
    """Ten rounds of Philox4x32: uint32 [..., 4] for counters [..., 4] and keys [..., 2].

        (hi0, lo0) = 0xD2511F53 * c0        (hi1, lo1) = 0xCD9E8D57 * c2
        c = (hi1 xor c1 xor k0, lo1, hi0 xor c3 xor k1, lo0)
        k = k + (0x9E3779B9, 0xBB67AE85)    between the rounds, mod 2^32

    The leading axes of `counter` and `key` broadcast.

    Raises: TypeError for another dtype than uint32, ValueError for other last axes.
    """
    for name, value, words in (("counter", counter, 4), ("key", key, 2)):
        if value.dtype != np.uint32:
            raise TypeError(f"philox4x32: {name} must be uint32, got {value.dtype}")
        if value.ndim == 0 or value.shape[-1] != words:
            raise ValueError(f"philox4x32: {name} must be [..., {words}], got {value.shape}")
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    return _rounds(c0, c1, c2, c3, key[..., 0], key[..., 1])


def _rounds(c0: Words, c1: Words, c2: Words, c3: Words, k0: Words, k1: Words) -> Words:
    """The rounds on separate words that broadcast, so that the first ones stay small."""
    m0, m1 = (np.uint64(m) for m in MULTIPLIERS)
    for i in range(ROUNDS):
        product0 = c0.astype(np.uint64) * m0
        product1 = c2.astype(np.uint64) * m1
        round0 = k0 + np.uint32(KEY_STEPS[0] * i & _MASK)
        round1 = k1 + np.uint32(KEY_STEPS[1] * i & _MASK)
        c0 = (product1 >> _HIGH).astype(np.uint32) ^ c1 ^ round0
        c1 = (product1 & _LOW).astype(np.uint32)
        c2 = (product0 >> _HIGH).astype(np.uint32) ^ c3 ^ round1
        c3 = (product0 & _LOW).astype(np.uint32)
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1)


def bits(
    seed: int,
    purpose: str,
    path: str,
    counter0: int,
    samples: Positions,
    times: Positions,
    elements: int,
) -> Words:
    """Random words, uint32 [T, N, elements].

    `counter0` is the optimiser step, or the epoch in evaluation; `samples` [N] are positions in the
    data set, `times` [T] absolute time steps, elements count in H, W, C order.

    Raises: ValueError if a number does not fit 32 bits without a sign.
    """
    key0 = np.array([_word("seed", seed)], np.uint32)
    key1 = np.array([key_hash(purpose, path)], np.uint32)
    c0 = np.array([_word("counter0", counter0)], np.uint32)
    c1 = _words("samples", samples)[None, :, None]
    c2 = _words("times", times)[:, None, None]
    _word("elements", elements)
    blocks = -(-elements // 4)
    c3 = np.arange(blocks, dtype=np.uint32)
    words = _rounds(c0, c1, c2, c3, key0, key1)  # [T, N, blocks, 4]
    return words.reshape(c2.shape[0], c1.shape[1], blocks * 4)[..., :elements]


def to_uniform(words: Words) -> NDArray[np.float32]:
    """float32 in [0, 1), exactly (word >> 8) * 2^-24."""
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def uniform(
    seed: int,
    purpose: str,
    path: str,
    counter0: int,
    samples: Positions,
    times: Positions,
    elements: int,
) -> NDArray[np.float32]:
    """Uniform float32 in [0, 1), [T, N, elements]: `to_uniform` of `bits`."""
    return to_uniform(bits(seed, purpose, path, counter0, samples, times, elements))


def bernoulli(
    p: float | NDArray[np.float32],
    seed: int,
    purpose: str,
    path: str,
    counter0: int,
    samples: Positions,
    times: Positions,
    elements: int,
) -> NDArray[np.bool_]:
    """Draws that are true with probability p, bool [T, N, elements]: uniform < float32(p).

    An array p broadcasts to [T, N, elements].

    Raises: ValueError if p lies outside [0, 1] or is NaN.
    """
    probability = np.asarray(p, np.float32)
    if not bool(np.all((probability >= 0) & (probability <= 1))):
        raise ValueError(
            "bernoulli: p must lie in [0, 1], got values from "
            f"{probability.min()} to {probability.max()}"
        )
    return uniform(seed, purpose, path, counter0, samples, times, elements) < probability


def integers(
    high: int,
    seed: int,
    purpose: str,
    path: str,
    counter0: int,
    samples: Positions,
    times: Positions,
    elements: int,
) -> NDArray[np.int64]:
    """Integers in [0, high), int64 [T, N, elements]: (word * high) >> 32.

    The probabilities of two values differ by at most 2^-32.

    Raises: ValueError unless 1 <= high <= 2^32.
    """
    if not 1 <= high <= 2**32:
        raise ValueError(f"integers: high must lie in 1 .. 2^32, got {high}")
    words = bits(seed, purpose, path, counter0, samples, times, elements)
    return ((words.astype(np.uint64) * np.uint64(high)) >> _HIGH).astype(np.int64)


def normal(
    seed: int,
    purpose: str,
    path: str,
    counter0: int,
    samples: Positions,
    times: Positions,
    elements: int,
) -> NDArray[np.float64]:
    """Standard normal float64, [T, N, elements], by Box-Muller on the host.

    The words (0, 1) of a block make its values 0 and 1, the words (2, 3) its values 2 and 3:

        u1 = (a + 1/2) * 2^-32,  u2 = b * 2^-32       of the pair (a, b)
        r  = sqrt(-2 ln u1)
        values (r cos(2 pi u2), r sin(2 pi u2))

    Logarithm, sine and cosine are series of additions, multiplications and divisions, which IEEE
    754 rounds in one way only: the same draw has the same bits on every machine. A mathematical
    library promises no such thing.
    """
    padded = -(-elements // 4) * 4
    words = bits(seed, purpose, path, counter0, samples, times, padded)
    pairs = words.reshape(*words.shape[:-1], padded // 2, 2).astype(np.float64)
    radius = np.sqrt(-2.0 * _log((pairs[..., 0] + 0.5) * 2.0**-32))
    cosine, sine = _turn(pairs[..., 1] * 2.0**-32)
    values = np.stack([radius * cosine, radius * sine], axis=-1)
    return values.reshape(words.shape)[..., :elements]


def _log(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln u for u > 0, from ln m = 2 artanh((m - 1) / (m + 1)) with m in [sqrt(1/2), sqrt(2))."""
    m, exponent = np.frexp(u)
    small = m < 0.7071067811865476
    m = np.where(small, 2.0 * m, m)
    exponent = exponent - small
    f = (m - 1.0) / (m + 1.0)  # at most 0.1716, so the 12th term is below 2^-60
    square = f * f
    series = np.zeros_like(f)
    for n in range(23, 0, -2):
        series = series * square + 1.0 / n
    return exponent * 0.6931471805599453 + 2.0 * f * series


def _turn(u: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(cos, sin) of 2 pi u for u in [0, 1), from the series on the nearest quarter turn."""
    quarter = np.floor(4.0 * u + 0.5)
    angle = (u - 0.25 * quarter) * 6.283185307179586  # at most pi / 4; the subtraction is exact
    square = angle * angle
    cosine = np.ones_like(angle)
    sine = np.ones_like(angle)
    for n in range(18, 0, -2):
        cosine = 1.0 - square / (n * (n - 1)) * cosine
        sine = 1.0 - square / (n * (n + 1)) * sine
    sine = angle * sine
    turns = quarter.astype(np.int64) % 4
    swap = turns % 2 == 1
    cosine, sine = np.where(swap, sine, cosine), np.where(swap, cosine, sine)
    # A quarter turn maps (c, s) to (-s, c).
    return (
        np.where((turns == 1) | (turns == 2), -cosine, cosine),
        np.where(turns >= 2, -sine, sine),
    )


def permutation(seed: int, purpose: str, path: str, n: int, epoch: int) -> NDArray[np.int64]:
    """A shuffle of range(n), int64 [n]: the stable order of one 64-bit draw for each position.

    The draw of a position is its first word * 2^32 + its second word, at t = 0.
    """
    words = bits(seed, purpose, path, epoch, np.arange(n), [0], 2)[0].astype(np.uint64)
    return np.argsort(words[:, 0] << _HIGH | words[:, 1], kind="stable").astype(np.int64)


def _word(name: str, value: int) -> int:
    if not isinstance(value, int | np.integer):
        raise TypeError(f"random bits: {name} must be a whole number, got {value!r}")
    if not 0 <= value <= _MASK:
        raise ValueError(f"random bits: {name} must lie in 0 .. 2^32 - 1, got {value}")
    return int(value)


def _words(name: str, values: Positions) -> Words:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.uint32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"random bits: {name} must be a list of integers, "
            f"got {array.dtype} of shape {array.shape}"
        )
    if array.size and (int(array.min()) < 0 or int(array.max()) > _MASK):
        raise ValueError(
            f"random bits: {name} must lie in 0 .. 2^32 - 1, "
            f"got {int(array.min())} to {int(array.max())}"
        )
    return array.astype(np.uint32)
