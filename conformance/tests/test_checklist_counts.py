"""The checklist's rows on parameters, operations and energy, of what each backend built."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from lanes import DYADIC, LANES, Lane, dyadic_session, every_lane

import snnx
from snnx.analysis.energy import measure_energy, picojoules
from snnx.analysis.operations import operations, total_macs
from snnx.backend import load_backend
from snnx.data import Dataset
from snnx.models import MODELS
from snnx.ops._cases import dyadic, generator
from snnx.program import Program, flatten

pytestmark = pytest.mark.slow


PARAMETERS: list[tuple[str, dict[str, Any], int]] = [
    ("vggsnn", {}, 9_271_498),
    ("resnet19", {"stem": 64, "bias": True}, 12_630_858),
    ("resnet19", {}, 12_697_728),
    ("resnet18", {}, 11_173_962),
    ("preact_resnet18", {}, 11_176_945),
    ("vgg11_dsr", {}, 9_476_327),
    ("shd", {}, 230_400),
    ("medlydb", {}, 275_800),
]


@cache
def program_of(name: str, *variant: tuple[str, Any]) -> Program:
    return flatten(MODELS[name](**dict(variant)))


def built(lane: Lane, program: Program) -> Any:
    """Return the backend's module, its weights zero."""
    zeros = {p.path: np.zeros(p.shape, np.float32) for p in program.parameters}
    options = {"device": "cpu", "precision": "fp64" if lane.double else "fp32"}
    return lane.backend.build(program, zeros, **options)


@every_lane
@pytest.mark.parametrize(("name", "variant", "count"), PARAMETERS)
def test_parameters_are_those_of_the_released_models(
    lane: Lane, name: str, variant: dict[str, Any], count: int
) -> None:
    net = built(lane, program_of(name, *variant.items()))
    session = load_backend(lane.name).session(net, snnx.SDT(), snnx.Optim())
    assert sum(np.size(p) for p in session.export().parameters.values()) == count


@every_lane
@pytest.mark.parametrize(
    ("name", "printed", "paper"), [("resnet19", 2285.4, 2285), ("resnet18_dspike", 187.37, 187)]
)
def test_operations_are_those_of_the_papers(
    lane: Lane, name: str, printed: float, paper: int
) -> None:
    macs = total_macs(operations(built(lane, program_of(name)).program))
    assert macs is not None
    assert round(macs / 1e6, 2 if printed == 187.37 else 1) == printed
    assert math.floor(macs / 1e6) == paper


@every_lane
def test_energy_is_that_of_dspikes_table_3(lane: Lane) -> None:
    assert picojoules(71.2e6, 3.52e6) * 1e-6 == pytest.approx(80.27, abs=5e-3)
    assert picojoules(187e6, 187e6) * 1e-6 == pytest.approx(1028.5, abs=5e-3)
    # and of a network, from the spikes that the backend makes: equal to the last one
    x = dyadic(generator(37), (6, 8), 0.25, 1.0).astype(np.float32)
    data = Dataset(x, np.arange(6) % 4, x, np.arange(6) % 4, "dyadic", "synthetic")
    found = measure_energy(dyadic_session(lane), flatten(DYADIC), data)
    wanted = measure_energy(dyadic_session(LANES[0]), flatten(DYADIC), data)
    assert found == wanted
    assert found.microjoules_dspike == picojoules(found.acs + found.macs, found.macs) * 1e-6
    assert found.acs > 0
