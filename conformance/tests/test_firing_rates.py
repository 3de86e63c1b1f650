"""Firing rates, accuracy over time, and operation counts of a program."""

import numpy as np
import pytest

import snnx
from snnx.analysis import firing_rates, operations
from snnx.analysis.operations import total_macs
from snnx.program import flatten
from tests.small_runs import SEQUENCE, SILENT, TINY, Played, sequences, session_of, some_digits
from tests.small_runs import drawn as drawn


def test_rates_count_valid_steps_only() -> None:
    spikes = np.zeros((4, 3, 3))
    spikes[:, :, 0] = 1.0  # always, in the padding too
    spikes[3, :, 1] = 1.0  # at the last step: valid for one sample of three
    logits = np.zeros((4, 3, 2))
    found = firing_rates(
        Played(spikes, logits),  # type: ignore[arg-type]
        flatten(SEQUENCE),
        sequences([4, 1, 3]),
        batch_size=2,
    )
    (layer,) = found.layers
    assert layer.per_neuron.tolist() == [1.0, 1 / 8, 0.0]
    assert layer.over_time.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert (layer.dead, layer.saturated) == (1 / 3, 1 / 3)
    assert found.spikes == pytest.approx(layer.rate)


def test_accuracy_over_time_reads_each_sample_up_to_its_length() -> None:
    logits = np.zeros((3, 2, 2))
    logits[:, 0] = [[0, 1], [3, 0], [0, 0]]  # class 0: wrong at first, right from the second step
    logits[:, 1] = [[0, 1], [9, 0], [9, 0]]  # class 1, one step long: right for ever
    found = firing_rates(
        Played(np.zeros((3, 2, 3)), logits),  # type: ignore[arg-type]
        flatten(SEQUENCE),
        sequences([3, 1]),
        readout={"decay": 1.0},
    )
    assert found.accuracy is not None
    assert found.accuracy.tolist() == [0.5, 1.0, 1.0]


def test_rates_do_not_depend_on_the_batch_size() -> None:
    session, data = session_of(TINY), some_digits()
    program = flatten(TINY)
    a, b = (
        firing_rates(session, program, data, batch_size=n, readout={"decay": 1.0}) for n in (5, 24)
    )
    np.testing.assert_allclose(a.layers[0].per_neuron, b.layers[0].per_neuron, rtol=1e-12)
    np.testing.assert_allclose(a.layers[0].over_time, b.layers[0].over_time, rtol=1e-12)
    assert a.accuracy is not None
    assert b.accuracy is not None
    assert a.accuracy.tolist() == b.accuracy.tolist()
    assert 0 < a.layers[0].rate < 1


def test_accuracy_after_t_steps_is_that_of_evaluating_with_t() -> None:
    session, data, program = session_of(TINY), some_digits(), flatten(TINY)
    long = firing_rates(session, program, data, steps=4, readout={"decay": 1.0}).accuracy
    assert long is not None
    for t in (1, 2, 3):
        short = firing_rates(session, program, data, steps=t, readout={"decay": 1.0}).accuracy
        assert short is not None
        assert short[-1] == long[t - 1]


def test_a_model_that_never_spikes_has_no_rate() -> None:
    found = firing_rates(session_of(SILENT), flatten(SILENT), some_digits(), samples=5)
    assert (found.layers, found.spikes, found.samples) == ((), None, 5)


def test_rates_over_no_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="samples must be at least 1"):
        firing_rates(session_of(TINY), flatten(TINY), some_digits(), samples=0)


def test_macs_and_parameters_follow_from_shapes() -> None:
    model = snnx.Chain(
        snnx.Input(8, 8, 2),
        snnx.Conv2d(4, 3, stride=2, groups=2),
        snnx.BatchNorm(),
        snnx.LIF(),
        snnx.Flatten(),
        snnx.Linear(5, bias=False),
        snnx.Recurrent(snnx.LIF(threshold=snnx.Learned(1.0))),
        snnx.Linear(3),
    )
    counts = {c.path: c for c in operations(flatten(model))}
    assert counts["1"].macs == 4 * 4 * 4 * 3 * 3 * 1
    assert counts["1"].parameters == 4 * 3 * 3 * 1 + 4
    assert (counts["2"].macs, counts["2"].parameters) == (0, 8)
    assert (counts["5"].macs, counts["5"].parameters) == (5 * 64, 5 * 64)
    assert (counts["6"].macs, counts["6"].parameters) == (25, 26)
    assert [p for p, c in counts.items() if c.binary] == ["5", "6", "7"]
    assert sum(c.parameters for c in counts.values()) == sum(p.size for p in snnx.parameters(model))
    assert total_macs(tuple(counts.values())) == 576 + 320 + 25 + 15


def test_macs_of_a_users_layer_are_not_known() -> None:
    model = snnx.Chain(snnx.Input(4), snnx.ArrayLayer(), snnx.Linear(2))
    counts = operations(flatten(model))
    assert counts[0].macs is None
    assert total_macs(counts) is None


# choices
