"""The level models runs every architecture, and none of them is silent."""

from __future__ import annotations

import numpy as np
import pytest

from snnx import LIF, BatchNorm, Chain, Input, Linear, Residual, flatten
from snnx.backend import load_backend
from snnx.models import MODELS
from snnx_conformance import models
from snnx_conformance.architectures import QUICK, architectures
from snnx_conformance.reference import nets, observe
from snnx_conformance.zoo import ZooNet


def test_every_architecture_is_in_the_table_under_a_name_of_its_own() -> None:
    names = [net.name for net in architectures()]
    assert names == list(MODELS)
    assert not set(names) & set(nets())


def test_quick_run_takes_two_architectures() -> None:
    def run(quick: bool) -> set[str]:
        found = {case.name for case in models.cases(load_backend("numpy"), quick)}
        return found & {f"smooth-{name}" for name in MODELS}

    assert run(True) == {f"smooth-{name}" for name in QUICK}
    assert run(False) == {f"smooth-{name}" for name in MODELS}


@pytest.mark.parametrize("net", architectures(), ids=lambda net: net.name)
def test_every_spiking_layer_fires_and_none_always(net: ZooNet) -> None:
    for path, spikes in observe(net.name).spikes.items():
        rate = np.mean(spikes != 0)
        assert 0 < rate < 1, f"{net.name} layer {path} fires at a rate of {rate}"


def test_bias_that_norms_take_away_has_the_scale_of_its_weight() -> None:
    inner = Chain(Linear(3), BatchNorm(), LIF(), Linear(3), BatchNorm())
    model = Chain(
        *(Input(3), Linear(3), LIF(), Residual(inner, Linear(3)), BatchNorm(), LIF()),
        *(Residual(Linear(3)), BatchNorm(), LIF(), Residual(Linear(3)), Linear(2)),
    )
    program = flatten(model)
    gradients = {p.path: np.full(p.shape, -float(i)) for i, p in enumerate(program.parameters)}
    found = models.removed_scales(program, gradients)
    assert found == {
        path: -float(np.min(gradients[path.replace("bias", "weight")]))
        for path in (
            "3.body.0.bias",
            "3.body.3.bias",
            "3.body.4.bias",
            "3.skip.bias",
            "6.body.bias",
        )
    }


@pytest.mark.parametrize("name", QUICK)
def test_removed_bias_has_no_gradient_in_the_reference(name: str) -> None:
    net, seen = next(n for n in architectures() if n.name == name), observe(name)
    _, gradients = models.oracle(net).grads(seen.batch, models.COUNTERS, seen.mode)
    scales = models.removed_scales(seen.program, gradients)
    assert bool(scales) == (name == "preact_resnet")
    assert all(np.max(np.abs(gradients[p])) < 1e-12 * s for p, s in scales.items())
