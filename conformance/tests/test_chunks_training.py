"""Truncated BPTT as a user trains with it: `fit` and `evaluate` in chunks of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import LIF, TET, Chain, Input, Linear, Optim
from snnx.data import Dataset
from snnx.training.evaluate import evaluate

pytest.importorskip("torch")


def test_fit_in_chunks_learns_and_evaluates_as_the_whole() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 40)
    x = (rng.random((10, 40, 6)) * 0.5 + 0.5 * y[None, :, None] * (np.arange(6) < 3)).astype("f4")
    data = Dataset(x, y, x, y, name="rates", layout="TNF")
    model = Chain(Input(6), Linear(16), LIF(surrogate=snnx.Triangular()), Linear(2))
    options: Any = {
        "epochs": 10,
        "batch_size": 10,
        "backend": "torch",
        "optim": Optim(snnx.Adam(0.02)),
    }
    results = {chunk: snnx.fit(model, data, **options, chunk=chunk) for chunk in (None, 4)}
    for result in results.values():
        assert result.test_accuracy > 0.9
    chunked = results[4]
    program = snnx.flatten(model)
    one, two = (
        evaluate(chunked.session, program, TET(), data, steps=10, chunk=chunk)
        for chunk in (None, 3)
    )
    assert (one.accuracy, one.samples) == (two.accuracy, two.samples)
    assert one.rates == pytest.approx(two.rates)
    assert one.loss == pytest.approx(two.loss, rel=1e-6)
