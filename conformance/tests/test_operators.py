"""The operators of torch's kernels: what they declare is what they do, and nothing is changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snnx.backend import load_backend
from snnx.ops import OPS
from tests.test_emit_cpp import outcome

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
CALLED = {
    "neuron": {"neuron_forward", "neuron_backward"},
    "norm_neuron": {"neuron_forward", "neuron_backward"},
    "rate_neuron": {"rate_forward", "rate_backward"},
    "recurrent": {"recurrent_forward", "recurrent_backward"},
}


class Noted(TorchDispatchMode):
    """Keeps one call of each operator of snnx for every number of arrays that it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Any, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func.namespace == "snnx":
            key = (func._opname, len(found) if isinstance(found, list) else 1)
            self.calls.setdefault(key, (func, args))
        return found


@pytest.mark.parametrize("name", CALLED)
def test_an_operator_does_what_it_declares(name: str) -> None:
    backend, op, noted = load_backend("torch"), OPS[name], Noted()
    samples = list(op.samples())
    for sample in samples[:: max(len(samples) // 6, 1)]:
        fast = replace(sample, attributes={**sample.attributes, "implementation": "cpp"})
        with noted:
            assert outcome(backend, op, fast, "float32").passed
    assert {each for each, _ in noted.calls} >= CALLED[name]
    for func, args in noted.calls.values():
        torch.library.opcheck(func, args, test_utils=("test_schema", "test_faketensor"))


def test_a_call_that_hands_back_what_it_was_given_is_found() -> None:
    from snnx_torch.kernels.operator import fake, operator

    @operator("hands_back")
    def op(x: torch.Tensor) -> torch.Tensor:
        return x

    @fake(op)
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    with pytest.raises(Exception, match="alias"):
        torch.library.opcheck(op, (torch.ones(2),), test_utils=("test_schema",))
