"""The stream of random bits against published vectors, and the laws that make it shareable."""

import hashlib
import math

import numpy as np
import pytest

from snnx import random

ALL_ONES = 0xFFFFFFFF
VECTORS = {  # Random123 1.14, tests/kat_vectors, philox4x32 10
    "zeros": (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    "ones": (
        (ALL_ONES, ALL_ONES, ALL_ONES, ALL_ONES),
        (ALL_ONES, ALL_ONES),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_philox_gives_the_published_vectors(name: str) -> None:
    counter, key, expected = VECTORS[name]
    words = random.philox4x32(np.array(counter, np.uint32), np.array(key, np.uint32))
    assert words.dtype == np.uint32
    assert [hex(word) for word in words] == [hex(word) for word in expected]


def test_philox_is_vectorised_over_counters_and_keys() -> None:
    counters = np.array([counter for counter, _, _ in VECTORS.values()], np.uint32)
    keys = np.array([key for _, key, _ in VECTORS.values()], np.uint32)
    expected = np.array([words for _, _, words in VECTORS.values()], np.uint32)
    assert np.array_equal(random.philox4x32(counters, keys), expected)
    assert random.philox4x32(counters[:, None], keys[None]).shape == (3, 3, 4)


def test_philox_refuses_other_dtypes_and_shapes() -> None:
    four, two = np.zeros(4, np.uint32), np.zeros(2, np.uint32)
    with pytest.raises(TypeError, match="counter must be uint32, got int64"):
        random.philox4x32(four.astype(np.int64), two)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"key must be \[..., 2\], got \(4,\)"):
        random.philox4x32(four, four)


def test_key_hash_is_fnv1a_of_purpose_zero_path() -> None:
    value = 2166136261
    for byte in b"dropout\x00body.3":
        value = (value ^ byte) * 16777619 % 2**32
    assert random.key_hash("dropout", "body.3") == value
    assert random.key_hash("", "") == 0x050C5D1F  # FNV-1a of one zero byte, as published
    assert random.key_hash("ab", "c") != random.key_hash("a", "bc")
    with pytest.raises(ValueError, match="zero byte"):
        random.key_hash("a\0b", "c")


def test_bits_are_the_blocks_of_their_counter() -> None:
    words = random.bits(7, "dropout", "body.3", 11, [5, 2], [4, 3, 9], 6)
    assert words.shape == (3, 2, 6)
    key = np.array([7, random.key_hash("dropout", "body.3")], np.uint32)
    for t, time in enumerate([4, 3, 9]):
        for n, sample in enumerate([5, 2]):
            blocks = [
                random.philox4x32(np.array([11, sample, time, block], np.uint32), key)
                for block in range(2)
            ]
            assert np.array_equal(words[t, n], np.concatenate(blocks)[:6])


def test_a_draw_does_not_depend_on_the_split_of_batch_time_or_elements() -> None:
    whole = random.bits(0, "noise", "", 3, range(8), range(5), 10)
    assert np.array_equal(random.bits(0, "noise", "", 3, [6, 7], range(5), 10), whole[:, 6:])
    assert np.array_equal(random.bits(0, "noise", "", 3, range(8), [4], 10), whole[4:])
    assert np.array_equal(random.bits(0, "noise", "", 3, range(8), range(5), 3), whole[..., :3])


def test_seed_purpose_path_and_step_make_different_streams() -> None:
    def draw(seed: int = 0, purpose: str = "a", path: str = "b", step: int = 0) -> bytes:
        return random.bits(seed, purpose, path, step, [0], [0], 8).tobytes()

    streams = [draw(), draw(seed=1), draw(purpose="b"), draw(path="a"), draw(step=1)]
    assert len(set(streams)) == len(streams)


def test_bits_without_samples_times_or_elements_are_empty() -> None:
    assert random.bits(0, "a", "", 0, [], [0], 3).shape == (1, 0, 3)
    assert random.bits(0, "a", "", 0, [0], [], 3).shape == (0, 1, 3)
    assert random.bits(0, "a", "", 0, [0], [0], 0).shape == (1, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, "a", "", 0, [0], [0], 1), "seed must lie in"),
        ((2**32, "a", "", 0, [0], [0], 1), "seed must lie in"),
        ((0, "a", "", -1, [0], [0], 1), "counter0 must lie in"),
        ((0, "a", "", 0, [-1], [0], 1), "samples must lie in"),
        ((0, "a", "", 0, [0], [2**32], 1), "times must lie in"),
        ((0, "a", "", 0, [0.5], [0], 1), "samples must be a list of integers, got float64"),
        ((0, "a", "", 0, [0], [[0]], 1), "times must be a list of integers"),
        ((0, "a", "", 0, [0], [0], -1), "elements must lie in"),
    ],
)
def test_bits_refuse_what_does_not_fit_a_counter(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random.bits(*arguments)


def test_uniform_is_the_upper_24_bits_exactly() -> None:
    words = np.array([0, 255, 256, 0x80000000, ALL_ONES], np.uint32)
    expected = [0.0, 0.0, 2.0**-24, 0.5, 1 - 2.0**-24]
    assert random.to_uniform(words).tolist() == expected
    drawn = random.uniform(0, "u", "", 0, range(100), range(10), 100)
    assert drawn.dtype == np.float32
    assert abs(float(drawn.mean(dtype=np.float64)) - 0.5) < 4 / math.sqrt(12 * drawn.size)


def test_bernoulli_is_uniform_below_p() -> None:
    stream = (3, "b", "", 0, range(20), range(5), 50)
    drawn = random.bernoulli(0.3, *stream)
    assert np.array_equal(drawn, random.uniform(*stream) < np.float32(0.3))
    assert abs(drawn.mean() - 0.3) < 4 * math.sqrt(0.21 / drawn.size)
    assert not random.bernoulli(0.0, *stream).any()
    assert random.bernoulli(1.0, *stream).all()
    rates = np.linspace(0, 1, 50, dtype=np.float32)
    assert np.array_equal(random.bernoulli(rates, *stream), random.uniform(*stream) < rates)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_bernoulli_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match="p must lie in"):
        random.bernoulli(p, 0, "b", "", 0, [0], [0], 1)


def test_integers_cover_their_range_evenly() -> None:
    drawn = random.integers(6, 1, "i", "", 0, range(600), [0], 100)
    counts = np.bincount(drawn.ravel(), minlength=6)
    assert counts.size == 6
    assert np.abs(counts - 10_000).max() < 4 * math.sqrt(10_000)
    assert not random.integers(1, 0, "i", "", 0, [0], [0], 9).any()
    with pytest.raises(ValueError, match="high must lie in"):
        random.integers(0, 0, "i", "", 0, [0], [0], 1)


def test_normal_is_box_muller_of_the_pairs() -> None:
    drawn = random.normal(5, "init", "0.weight", 0, [0], [0], 4095)[0, 0]
    words = random.bits(5, "init", "0.weight", 0, [0], [0], 4096)[0, 0].astype(np.float64)
    radius = np.sqrt(-2 * np.log((words[0::2] + 0.5) * 2.0**-32))
    angle = 2 * np.pi * words[1::2] * 2.0**-32
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).ravel()
    assert drawn.dtype == np.float64
    assert np.abs(drawn - expected[:4095]).max() < 1e-14
    assert abs(drawn.mean()) < 4 / math.sqrt(drawn.size)
    assert abs(drawn.var() - 1) < 4 * math.sqrt(2 / drawn.size)


def test_log_and_turn_are_right_at_their_edges() -> None:
    u = np.array([2.0**-33, 0.5 - 2.0**-33, 0.5, math.sqrt(0.5), 1 - 2.0**-33])
    assert np.abs(random._log(u) / np.log(u) - 1).max() < 1e-15
    turn = np.array([0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1 - 2.0**-32])
    cosine, sine = random._turn(turn)
    assert np.abs(cosine - np.cos(2 * np.pi * turn)).max() < 1e-15
    assert np.abs(sine - np.sin(2 * np.pi * turn)).max() < 1e-15


def test_normal_has_the_same_bits_on_every_machine() -> None:
    drawn = random.normal(0, "init", "", 0, [0], [0], 1 << 16).astype("<f8")
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == NORMAL_DIGEST


# A law and not a measurement: only operations that IEEE 754 rounds in one way are used.
NORMAL_DIGEST = "0b616032ead0ad9e856f13d722075675183cf4755b6b6b2b5b667f289a8239d4"


def test_permutation_is_a_shuffle_that_depends_on_seed_and_epoch() -> None:
    order = random.permutation(0, "shuffle", "train", 1000, 0)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(1000))
    assert np.array_equal(order, random.permutation(0, "shuffle", "train", 1000, 0))
    assert not np.array_equal(order, random.permutation(0, "shuffle", "train", 1000, 1))
    assert not np.array_equal(order, random.permutation(1, "shuffle", "train", 1000, 0))
    assert random.permutation(0, "shuffle", "", 0, 0).shape == (0,)
