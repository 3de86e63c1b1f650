"""Golden values of optimiser updates and schedules, worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from snnx.training.schedules import Constant, Cosine, Step, Warmup
from tests.spec_calls import forward


def test_first_adam_step_has_the_size_of_the_learning_rate() -> None:
    g, zero = np.array([1e-3, -7.0]), np.zeros(2)
    inputs = {"first": zero, "second": zero, "lr": np.array(0.1), "count": np.array(1.0)}
    out = forward("adam_update", {"eps": 0.0}, parameter=zero, gradient=g, **inputs)
    np.testing.assert_allclose(out["parameter"], [-0.1, 0.1], rtol=1e-12)


def test_projection_stops_at_each_end_that_is_given() -> None:
    x = np.array([-2.0, 0.25, 3.0])
    for low, high, wanted in [
        (-1.0, 1.0, [-1.0, 0.25, 1.0]),
        (0.5, None, [0.5, 0.5, 3.0]),
        (None, 0.0, [-2.0, 0.0, 0.0]),
        (None, None, [-2.0, 0.25, 3.0]),
    ]:
        found = forward("project", {"low": low, "high": high}, parameter=x)["parameter"]
        np.testing.assert_array_equal(found, wanted)


def test_rounded_update_rounds_halves_to_even() -> None:
    parameter, gradient = np.zeros(4), np.array([-0.5, -1.5, -2.5, -9.0])
    a = {"grid": 1.0, "limit": 4.0}
    out = forward("rounded_sgd_update", a, parameter=parameter, gradient=gradient, lr=np.array(1.0))
    np.testing.assert_array_equal(out["parameter"], [0.0, 2.0, 2.0, 4.0])
    with pytest.raises(ValueError, match="power of two"):
        forward(
            "rounded_sgd_update",
            {"grid": 0.1, "limit": 1.0},
            parameter=parameter,
            gradient=gradient,
            lr=np.array(1.0),
        )


def test_schedules_have_the_values_of_their_equations() -> None:
    cosine = Cosine(epochs=10)
    values = [cosine.value(0.2, epoch, 0, 7) for epoch in range(10)]
    assert values[0] == 0.2
    assert values[5] == pytest.approx(0.1)
    assert values[9] == pytest.approx(0.1 * (1.0 + math.cos(0.9 * math.pi)))
    assert cosine.value(0.2, 10, 0, 7) == 0.0
    assert Constant().value(0.2, 3, 9, 4) == 0.2
    warm = Warmup(steps=4, then=cosine)
    ramp = [warm.value(0.2, 0, step, 100) for step in range(6)]
    assert ramp == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    assert warm.value(0.2, 5, 500, 100) == pytest.approx(0.1)
    step = Step(milestones=(2, 4), factor=0.5)
    assert [step.value(1.0, e, 0, 1) for e in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    "make", [lambda: Cosine(0), lambda: Warmup(0), lambda: Step((4, 2)), lambda: Step((1,), 0.0)]
)
def test_a_schedule_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"Cosine|Warmup|Step"):
        make()
