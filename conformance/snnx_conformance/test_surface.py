"""A backend offers what the protocol names, and refuses what it should."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from snnx import backend as protocol
from snnx.backend import Backend, BackendError, Batch
from snnx.mode import EVAL, Mode
from snnx.objective import SDT
from snnx.ops import OPS
from snnx.optim import SGD, Optim
from snnx.program import flatten
from snnx_conformance.reference import nets, program_of, session_of

NET = "conv"


def batch_of() -> Batch:
    return nets()[NET].batch(program_of(NET))


def test_backend_follows_the_protocol(snnx_backend: Backend) -> None:
    assert isinstance(snnx_backend, Backend)
    assert snnx_backend.name
    assert "float32" in snnx_backend.dtypes
    assert "fp32" in snnx_backend.precisions
    assert all(
        isinstance(k, str) and isinstance(v, str) for k, v in snnx_backend.describe().items()
    )


def test_backend_claims_only_ops_of_the_spec(snnx_backend: Backend) -> None:
    assert snnx_backend.ops <= set(OPS)
    assert snnx_backend.ops


@pytest.mark.parametrize("kind", ["Backend", "Session"])
def test_methods_have_the_parameters_of_the_protocol(snnx_backend: Backend, kind: str) -> None:
    given: Any = snnx_backend if kind == "Backend" else session_of(snnx_backend, nets()[NET])
    for name, method in vars(getattr(protocol, kind)).items():
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        wanted = list(inspect.signature(method).parameters)[1:]
        found = list(inspect.signature(getattr(given, name)).parameters)
        assert found[: len(wanted)] == wanted, name


def test_unknown_device_and_precision_are_refused(snnx_backend: Backend) -> None:
    program = program_of(NET)
    weights = nets()[NET].parameters(program)
    with pytest.raises(BackendError):
        snnx_backend.build(program, weights, device="no such device")
    with pytest.raises(BackendError):
        snnx_backend.build(program, weights, precision="fp3")


def test_unknown_dial_is_refused(snnx_backend: Backend) -> None:
    session = session_of(snnx_backend, nets()[NET])
    with pytest.raises(KeyError, match="no_such_dial"):
        session.forward(batch_of(), {"no_such_dial": 1.0})


@pytest.mark.parametrize(
    "change",
    [
        {"x": np.zeros((4, 7, 8, 1), np.float32)},
        {"x": np.zeros((0, 4, 8, 8, 1), np.float32)},
        {"y": np.array([0, 1, 2, 5])},
        {"y": np.array([0, -1, 2, 3])},
        {"index": np.arange(3)},
        {"index": np.array([0, 1, 2, -1])},
        {"length": np.array([0, 1, 1, 1])},
    ],
    ids=["shape", "no-time", "label", "negative-label", "index", "negative-index", "length"],
)
def test_bad_batch_is_refused(snnx_backend: Backend, change: dict[str, Any]) -> None:
    session = session_of(snnx_backend, nets()[NET])
    bad: Any = {**batch_of(), **change}
    with pytest.raises(ValueError, match="batch"):
        session.step([bad], {})
    with pytest.raises(ValueError, match="batch"):
        session.forward(bad, {})


def test_batch_without_an_array_and_step_without_a_batch_are_refused(
    snnx_backend: Backend,
) -> None:
    session = session_of(snnx_backend, nets()[NET])
    for name in ("x", "y", "index"):
        bad: Any = {k: v for k, v in batch_of().items() if k != name}
        with pytest.raises(ValueError, match=f"batch: has no '{name}'"):
            session.forward(bad, {})
    with pytest.raises(ValueError, match="at least one batch"):
        session.step([], {})


@pytest.mark.parametrize("value", [-1, 2**32, 0.5], ids=["negative", "large", "fraction"])
def test_counter_of_no_32_bits_is_refused(snnx_backend: Backend, value: float) -> None:
    session = session_of(snnx_backend, nets()[NET])
    with pytest.raises(ValueError, match=r"dial 'step': must be a whole number in \[0, 2\^32\)"):
        session.step([batch_of()], {"step": value})


def test_name_that_the_program_lacks_is_refused(snnx_backend: Backend) -> None:
    session, batch = session_of(snnx_backend, nets()[NET]), batch_of()
    array = np.zeros((1, 1), np.float32)
    with pytest.raises(KeyError, match="unknown taps"):
        session.forward(batch, {}, EVAL, ("nowhere",))
    with pytest.raises(KeyError, match="unknown imposed spikes"):
        session.forward(batch, {}, EVAL, impose={"nowhere": array})
    with pytest.raises(KeyError, match="unknown states"):
        session.forward(batch, {}, EVAL, state={"nowhere": (array,)})
    with pytest.raises(KeyError, match="unknown imposed spikes"):
        session.grads(batch, {}, EVAL, impose={"nowhere": array})
    with pytest.raises(KeyError, match="unknown parameters"):
        session.grads(batch, {}, EVAL, ("nowhere",))
    with pytest.raises(KeyError, match="unknown parameters"):
        session.loss(batch, {}, EVAL, {"nowhere": array})
    with pytest.raises(KeyError, match="unknown edges"):
        session.loss(batch, {}, EVAL, at="nowhere", values=array)


def test_step_that_is_not_finite_changes_nothing(snnx_backend: Backend) -> None:
    session = session_of(snnx_backend, nets()[NET], Optim(SGD(0.1, momentum=0.9)))
    session.read(session.step([batch_of()], {"step": 0}))
    before = session.export()
    bad = batch_of()
    x = np.array(bad["x"])
    x[0, 0, 0, 0] = np.nan
    pending = session.step([{**bad, "x": x}], {"step": 1}, Mode("smooth", "batch", True, "train"))
    with pytest.raises(FloatingPointError, match="step 1"):
        session.read(pending)
    after = session.export()
    for kind in ("parameters", "statistics", "moments"):
        for path, array in getattr(before, kind).items():
            np.testing.assert_array_equal(getattr(after, kind)[path], array, err_msg=path)
    assert after.count == before.count == 1


def test_checkpoint_of_another_model_is_refused_by_path(snnx_backend: Backend) -> None:
    session = session_of(snnx_backend, nets()[NET])
    other = session_of(snnx_backend, nets()["dspike"]).export()
    with pytest.raises(ValueError, match=r"missing|unknown|shape"):
        session.load(other)


def test_samples_do_not_depend_on_their_batch(snnx_backend: Backend) -> None:
    net = nets()["asgl"]
    program = program_of(net.name)
    session, batch = session_of(snnx_backend, net), net.batch(program)
    mode = Mode("mixed", "running", True, "train")
    whole = session.forward(batch, {"step": 3}, mode)
    last: Batch = {"x": batch["x"][:, 3:], "y": batch["y"][3:], "index": batch["index"][3:]}
    alone = session.forward(last, {"step": 3}, mode)
    assert whole.y.shape == (net.steps, net.samples, *program.output_shape)
    np.testing.assert_allclose(alone.y[:, 0], whole.y[:, 3], rtol=1e-4, atol=1e-5)


def test_draws_change_with_the_step_and_only_with_it(snnx_backend: Backend) -> None:
    net = nets()["dspike"]
    session, batch = session_of(snnx_backend, net), net.batch(program_of(net.name))
    mode = Mode("spike", "running", False, "train")
    tap = ("1",)
    runs = [session.forward(batch, {"step": s}, mode, tap).taps["1"] for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[0] != runs[2])


def test_losses_per_sample_are_those_of_the_mean(snnx_backend: Backend) -> None:
    session, batch = session_of(snnx_backend, nets()[NET]), batch_of()
    losses = session.loss(batch, {}, EVAL)
    assert losses.shape == (1, 4)
    mean, _ = session.grads(batch, {}, EVAL)
    assert mean == pytest.approx(float(losses.mean()), rel=1e-5)
    twice = session.loss(batch, {}, EVAL, copies=2)
    np.testing.assert_allclose(twice, np.concatenate([losses, losses]), rtol=1e-5)


def test_imposed_spikes_are_the_spikes(snnx_backend: Backend) -> None:
    net = nets()[NET]
    program = flatten(net.model)
    session, batch = session_of(snnx_backend, net), batch_of()
    path = program.spiking[0].path
    ones = np.ones((net.steps, net.samples, *program.step(path).shape))
    seen = session.forward(batch, {}, EVAL, (path,), impose={path: ones}).taps[path]
    np.testing.assert_array_equal(seen, ones)


def test_session_reports_its_figures(snnx_backend: Backend) -> None:
    program = program_of(NET)
    net = nets()[NET]
    built = snnx_backend.build(program, net.parameters(program))
    session = snnx_backend.session(built, SDT(), Optim(SGD(0.1)), steps=2)
    figures = session.read(session.step([batch_of()], {}))
    assert set(figures) >= {"loss", "correct", "samples", "gradient_norm"}
    assert figures["samples"] == 4
    assert 0 <= figures["correct"] <= 4
    assert figures["gradient_norm"] > 0
