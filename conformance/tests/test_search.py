"""Who lets cuDNN try algorithms: a session on CUDA, in its steps, unless it is deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx.building import initial_parameters

torch = pytest.importorskip("torch")

from snnx_torch import backend, session  # noqa: E402
from snnx_torch.compiling import TRIED, algorithms, searches  # noqa: E402


@pytest.fixture(autouse=True)
def _restored() -> Any:
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = before


def settings() -> tuple[bool, int | None]:
    return torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit


def made(monkeypatch: pytest.MonkeyPatch, kind: str, deterministic: bool = False) -> Any:
    """Return a session that is told that its net lies on a device of this kind."""
    program = snnx.flatten(snnx.Chain(snnx.Input(4), snnx.Linear(3), snnx.LIF(), snnx.Linear(2)))
    net = backend.build(program, initial_parameters(program, 0), device="cpu")
    fixed: Any = (snnx.TET(), snnx.Optim(snnx.SGD()), 2, False, deterministic, None)
    place = torch.device(kind)
    monkeypatch.setattr(session, "searches", lambda device, ordered: searches(place, ordered))
    return session.TorchSession(net, *fixed)


def seen_in(call: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, int | None]:
    """Return cuDNN's settings while a step of a session runs, and check them after it."""
    found: list[tuple[bool, int | None]] = []
    before, right = settings(), call.taker._take
    monkeypatch.setattr(call.taker, "_take", lambda *a: (found.append(settings()), right(*a))[1])
    batch = {"x": np.ones((2, 4), np.float32), "y": np.array([0, 1]), "index": np.arange(2)}
    call.read(call.step([batch], {}))
    assert settings() == before
    return found[0]


def test_a_step_on_cuda_searches_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_in(made(monkeypatch, "cuda"), monkeypatch) == (True, TRIED)


def test_a_step_elsewhere_and_a_deterministic_one_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_in(made(monkeypatch, "cpu"), monkeypatch)[0] is False
    assert seen_in(made(monkeypatch, "cuda", deterministic=True), monkeypatch)[0] is False
    torch.backends.cudnn.benchmark = True
    assert seen_in(made(monkeypatch, "cuda", deterministic=True), monkeypatch)[0] is False


def test_a_users_own_search_keeps_its_limit() -> None:
    torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, 0
    with algorithms(False, True):
        assert settings() == (True, 0)
    assert settings() == (True, 0)


def test_an_error_leaves_no_setting_behind() -> None:
    before = settings()
    with pytest.raises(ZeroDivisionError), algorithms(False, True):
        torch.backends.cudnn.benchmark_limit = 1 // 0
    assert settings() == before
