"""MLX's recurrent kernels as text for Metal and CUDA, and when they are chosen."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from snnx import LIF, Chain, Input, Linear, Recurrent, flatten
from snnx.backend import load_backend
from snnx.building import initial_parameters
from snnx.emit import Loop, recurrent_backward, recurrent_forward, unit
from snnx.emit.group_rows import GroupResident, GroupRows
from tests import metal_text
from tests.mlx_host import INSTALLED
from tests.own_neurons import OWN

pytestmark = pytest.mark.skipif(not INSTALLED, reason="mlx is not installed, or g++ not on PATH")
NEEDS_CLANG = pytest.mark.skipif(
    importlib.util.find_spec("clang") is None, reason="libclang is not installed"
)


@NEEDS_CLANG
@pytest.mark.parametrize("data", ["float", "half", "bfloat16_t"])
@pytest.mark.parametrize("make", [GroupResident, GroupRows])
@pytest.mark.parametrize("name", sorted(OWN))
def test_metal_text_parses_with_address_spaces(name, make, data):
    loop = Loop(40, given=True, trains=True, decay="neuron", learns=True, bits=True)
    for build in (recurrent_forward, recurrent_backward):
        source = build(unit(OWN[name]), loop, make)
        text = metal_text.program(source, data)
        assert metal_text.complaints(text) == []
        wrong = text.replace("fed_back[h] =", "currents[e] = fed_back[h] =")
        if build is recurrent_backward:
            assert any("not assignable" in line for line in metal_text.complaints(wrong))
        hidden = text.replace("uint3 threadgroup_position_in_grid", "uint3 other")
        assert metal_text.complaints(hidden)


@pytest.mark.parametrize("language", ["metal", "cuda"])
def test_kernels_are_made_under_names_of_their_own(language):
    import mlx.core as mx

    from snnx_mlx.kernels.launch import body, kernel

    names = set()
    for make in (GroupResident, GroupRows):
        for build in (recurrent_forward, recurrent_backward):
            source = build(unit(LIF()), Loop(40, trains=True, bits=True), make)
            names.add(source.name)
            assert source.name not in source.text
            assert ("threads_per_threadgroup" in body(source, language)) == (language == "metal")
            if language == "metal" or mx.cuda.is_available():
                assert callable(kernel(source, language))
    assert len(names) == 4


def test_the_choice_is_announced(monkeypatch):
    import mlx.core as mx

    from snnx_mlx.kernels import implementation, launch

    program = flatten(Chain(Input(5), Linear(9), Recurrent(LIF()), Linear(2)))
    backend: Any = load_backend("mlx")
    net = backend.build(program, initial_parameters(program, 0), device="cpu")
    assert "no kernels on the CPU" in net.implementations()["2"]
    monkeypatch.setattr(launch, "target", lambda: "metal")
    assert net.implementations()["2"].startswith("recurrent: metal (")
    attributes = {"neuron": LIF()}
    found = implementation(attributes, mx.float32, 2000, 2000)
    assert found.name == "generic"
    assert "above 1024 units" in found.reason
    asked = {**attributes, "implementation": "fused"}
    assert implementation(asked, mx.float32, 2000, 2000).name == "metal"
    assert implementation(attributes, mx.float32, 2000).name == "metal"  # nothing is fed back
    with pytest.raises(ValueError, match="4096 recurrent units"):
        implementation(asked, mx.float32, 5000, 5000)
