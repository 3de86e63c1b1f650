"""The suite's own comparison: it fails where it must, and says everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnx_conformance.case import Case, Outcome
from snnx_conformance.compare import Comparison
from snnx_conformance.ops import round_to

A = np.array([[1.0, -2.0], [0.5, 4.0]])


def compared(got: Any, allowed: float | None = 1e-3, **more: Any) -> Outcome:
    found = Comparison("toy linear normal float32", "reproduce: this")
    found.check("output", {"y": A}, {"y": np.asarray(got)}, allowed, **more)
    return found.outcome()


def moved(by: float, at: tuple[int, int] = (1, 0)) -> np.ndarray:
    b = A.copy()
    b[at] += by
    return b


def test_equal_arrays_pass() -> None:
    outcome = compared(A)
    assert outcome.passed
    assert (outcome.compared, outcome.total, outcome.error) == (4, 4, 0.0)


@pytest.mark.parametrize(("by", "passed"), [(0.0039, True), (0.0041, False)])
def test_error_is_relative_to_the_largest_reference_number(by: float, passed: bool) -> None:
    assert compared(moved(by)).passed is passed


def test_bits_differ_by_the_smallest_step() -> None:
    assert not compared(np.nextafter(A, 9.0), None).passed
    assert compared(A.copy(), None).passed


def test_minus_zero_is_zero_in_bits_and_digest() -> None:
    outcomes = []
    for zero in (0.0, -0.0):
        found = Comparison("")
        found.check("output", {"y": np.zeros(2)}, {"y": np.full(2, zero)}, None)
        outcomes.append(found.outcome())
    assert outcomes[0].passed
    assert outcomes[0].digest == outcomes[1].digest != ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("allowed", [None, 1e9])
def test_number_that_is_not_finite_fails_anywhere(bad: float, allowed: float | None) -> None:
    b = A.copy()
    b[0, 1] = bad
    keep = {"y": np.array([[True, False], [True, True]])}  # left out, and yet it fails
    assert not compared(b, allowed, keep=keep).passed


def test_reference_that_is_not_finite_fails() -> None:
    found = Comparison("")
    found.check("output", {"y": np.array([np.nan])}, {"y": np.array([np.nan])}, 1.0)
    assert not found.outcome().passed


def test_case_that_compared_nothing_fails() -> None:
    assert not Comparison("").outcome().passed
    outcome = compared(A, keep={"y": np.zeros((2, 2), bool)})
    assert not outcome.passed
    assert "nothing was compared" in outcome.message


def test_elements_left_out_are_counted_and_not_compared() -> None:
    keep = {"y": np.array([[True, True], [False, True]])}
    outcome = compared(moved(1.0), keep=keep)
    assert outcome.passed
    assert (outcome.compared, outcome.total) == (3, 4)


@pytest.mark.parametrize("got", [{}, {"y": A, "z": A}, {"z": A}], ids=["none", "more", "other"])
def test_missing_and_extra_arrays_fail(got: dict[str, np.ndarray]) -> None:
    found = Comparison("")
    found.check("gradient", {"y": A}, got, 1.0)
    assert not found.outcome().passed


def test_shape_is_compared_before_values() -> None:
    outcome = compared(A[:1])
    assert "has shape (1, 2), the reference (2, 2)" in outcome.message


def test_reference_of_zeros_wants_zeros() -> None:
    found = Comparison("")
    found.check("output", {"y": np.zeros(3)}, {"y": np.full(3, 1e-12)}, 0.1)
    assert not found.outcome().passed


def test_message_says_everything() -> None:
    message = compared(moved(0.25)).message
    for part in (
        "toy linear normal float32",
        "output y off by 0.25 at [1, 0]",
        "allowed 0.004",
        "reference 0.5, got 0.75",
        "1 of 4 are off",
        "100 % of numbers compared",
        "reproduce: this",
    ):
        assert part in message


def test_what_a_backend_raises_is_a_failure_with_its_text() -> None:
    def crash() -> Outcome:
        raise NotImplementedError("no kernel for this")

    outcome = Case("ops", "linear-normal", "toy", crash).run()
    assert outcome.status == "failed"
    assert "toy ops linear-normal: NotImplementedError: no kernel for this" in outcome.message
    assert "snnx conform --backends toy --level ops --case linear-normal" in outcome.message


def test_rounding_to_bfloat16_is_to_nearest_even() -> None:
    x = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-9, -3.14159])
    wanted = [1.0, 1.0, 1 + 4 * 2.0**-8, 1.0, -3.140625]
    np.testing.assert_array_equal(round_to(x, "bfloat16"), wanted)
    labels = np.array([1, 2])
    assert round_to(labels, "bfloat16") is labels
