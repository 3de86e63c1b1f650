"""Kernels that infer write nothing that only a gradient would read, and still have a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnx import DSR, LIF, Learned, Triangular
from snnx_torch.kernels.host import compiler

pytest.importorskip("torch")
pytest.importorskip("mlx.core")
pytestmark = pytest.mark.skipif(compiler() is None, reason="g++ is not on PATH")

STEPS = 70  # longer than a chunk of the backward
NEURON = LIF(threshold=Learned(0.3), surrogate=Triangular(1.0))
RATES: dict[str, Any] = {"kind": "if", "dt": 1.0, "tau": 1.0, "kappa": 0.05}
CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "neuron": (NEURON, {}, "checkpoints"),
    "rate_neuron": (DSR.integrate_and_fire(0.3).neuron, RATES, "code"),
}


def values() -> np.ndarray:
    return (0.6 * np.random.default_rng(5).random((STEPS, 2, 9))).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_mlx_writes_the_output_alone_and_has_the_gradient(host: Any, name: str) -> None:
    import mlx.core as mx

    from snnx_mlx.kernels import neuron, rate_neuron

    unit, more, extra = CASES[name]
    rule = {"neuron": neuron, "rate_neuron": rate_neuron}[name]
    x, threshold = mx.array(values()), mx.array(0.3)
    written: list[set[str]] = []

    def loss(a: Any, b: Any, trains: bool) -> Any:
        attributes = {"neuron": unit, "trains": trains, "hand_over": False, **more}
        y = rule({"x": a, "p.threshold": b}, attributes)["y"]
        return mx.sum(y * mx.cos(mx.arange(9.0)))

    def run() -> list[Any]:
        found = []
        for trains in (True, False):
            before = set(host.sources)
            plain = loss(x, threshold, trains)
            mx.eval(plain)
            new = [key[0] for key in host.sources if key not in before]
            written.append({n for source in new for n in source.names("out")})
            value, g = mx.value_and_grad(loss, (0, 1))(x, threshold, trains)
            mx.eval(value, g)
            found.append([np.array(a) for a in (plain, value, *g)])
        return found

    run()
    assert extra in written[0]
    assert written[1] == {"y"}
    host.compile()
    trained, inferred = run()
    assert np.abs(trained[2]).max() > 0.0
    assert np.abs(trained[3]).max() > 0.0
    for a, b in zip(trained, inferred, strict=True):
        assert np.array_equal(a, b)


def test_torch_runs_a_rate_layer_by_the_neuron_where_nothing_learns() -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from snnx_torch.kernels import rate_neuron

    called: list[tuple[str, int]] = []

    class Called(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kw: Any = None) -> Any:
            found = func(*args, **(kw or {}))
            if func.namespace == "snnx":
                called.append((func._opname, len(found)))
            return found

    unit, more, _ = CASES["rate_neuron"]
    inputs = {"x": torch.tensor(values()), "p.threshold": torch.tensor(0.3)}
    attributes = {"neuron": unit, "implementation": "cpp", "hand_over": False, **more}
    with Called():
        trained = rate_neuron(inputs, attributes)["y"]
        with torch.no_grad():
            inferred = rate_neuron(inputs, attributes)["y"]
    assert called == [("rate_forward", 2), ("neuron_forward", 1)]
    assert torch.equal(trained, inferred)
    assert trained.sum() > 0
