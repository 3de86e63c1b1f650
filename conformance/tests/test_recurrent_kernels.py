"""The kernels of a recurrent layer: by g++, by Triton's interpreter, and compiled for a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import snnx  # noqa: E402
from snnx import LIF, Input, Linear, Recurrent, flatten  # noqa: E402
from snnx.backend import load_backend  # noqa: E402
from snnx.building import initial_parameters  # noqa: E402
from snnx.emit import Loop, chunk_of_loop, recurrent_backward, recurrent_forward, unit  # noqa: E402
from snnx.emit.rows import CRows, TritonResident, TritonRows  # noqa: E402
from snnx.surrogate import ArcTan  # noqa: E402
from snnx_torch.kernels import host, implementation, recurrent_ops  # noqa: E402
from tests import recurrent_kernels as law  # noqa: E402
from tests.own_neurons import OWN  # noqa: E402
from tests.test_compiled_pairs import made, types_of, used  # noqa: E402

HERE = Path(__file__).parent
NEEDS_CPP = pytest.mark.skipif(host.compiler() is None, reason="g++ is not on PATH")
NEEDS_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
COMPILES = os.environ.get("TRITON_INTERPRET") != "1"
SAMPLES = list(law.OP.samples())
SIZES = (100, 240, 600, 2000)


@NEEDS_CPP
@pytest.mark.parametrize("sample", SAMPLES[::5], ids=lambda s: s.name)
def test_samples_agree_with_the_reference(sample):
    law.agrees(sample, "cpp")


@NEEDS_CPP
@pytest.mark.slow
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_every_sample_agrees_with_the_reference_as_well_as_the_generic_path(sample):
    law.agrees(sample, "cpp")


@NEEDS_CPP
def test_dyadic_inputs_are_bit_equal_to_the_generic_rule():
    law.dyadic("cpp")


@NEEDS_CPP
@pytest.mark.parametrize("fire", ["spike", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sequences_longer_than_a_word(dtype, fire):
    law.longer_than_a_word("cpp", dtype, fire, (70, 3, 13))


@NEEDS_CPP
def test_states_are_handed_over_bit_for_bit():
    law.handed_over("cpp")


@NEEDS_CPP
def test_mask_bits_are_drawn_in_the_kernel():
    law.drawn_in_the_kernel("cpp")


@NEEDS_CPP
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_one_graph_holds_forward_and_backward():
    law.one_graph("cpp")


@NEEDS_TRITON
@pytest.mark.slow
def test_the_interpreted_kernels_pass():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / "triton_recurrent.py")],
        cwd=HERE.parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=2400,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) == 41


@NEEDS_TRITON
@pytest.mark.skipif(not COMPILES, reason="Triton interprets in this process")
@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize(
    "neuron", [LIF(surrogate=ArcTan(2.0)), OWN["adaptive"]], ids=["lif", "own"]
)
def test_the_kernels_compile_for_a_gpu_and_spill_nothing(units, neuron, tmp_path):
    resident = units <= recurrent_ops.RESIDENT
    make = TritonResident if resident else TritonRows
    form = recurrent_ops.form(256, units, resident)
    blocks = {name: form[name] for name in make.blocks}
    blocks |= dict.fromkeys(make.constants, units)
    steps = 250
    loop = Loop(steps, trains=True, decay=0.6, bits=True, chunk=chunk_of_loop(steps))
    for source in (
        recurrent_forward(unit(neuron), loop, make),
        recurrent_backward(unit(neuron), loop, make),
    ):
        kernel = made(source, types_of(source, "fp32"), blocks, form["num_warps"])
        ptx = kernel.asm["ptx"]
        assert "fma.rn.f32" in ptx
        assert "bar.sync" in ptx
        assert "f64" not in ptx
        assert "local" not in ptx
        registers, spilled = used(kernel, tmp_path)
        assert spilled <= (0 if resident else 64)  # bytes; in blocks nothing runs through time
        assert registers * 32 * form["num_warps"] <= 2**16
        assert kernel.metadata.shared <= 2**15  # what is not shared is cache for the rest


def test_pieces_of_the_matrix_stay_in_registers_where_they_fit():
    assert recurrent_ops.kept(2, 100) == 13  # all of them
    assert recurrent_ops.kept(8, 128) == 16
    assert recurrent_ops.kept(2, 240) == 44  # of 60, each of 4 rows
    assert recurrent_ops.kept(2, 150) == 38
    assert recurrent_ops.kept(4, 240) == 24
    assert recurrent_ops.kept(2, 257) == 0
    form = recurrent_ops.form(256, 240, True)
    assert (form["ROWS"], form["TILE"], form["num_warps"]) == (2, 256, 8)
    assert recurrent_ops.form(256, 600, True)["num_warps"] == 16
    told = {units: implementation({}, "meta", torch.float32, 9, units).reason for units in SIZES}
    assert "all of the feedback's 100 rows stay in registers" in told[100]
    assert "up to 176 of the feedback's 240 rows" in told[240]
    assert "read from the cache at every step" in told[600]


def test_chunks_fill_a_word_and_divide_a_length_where_they_can():
    assert [chunk_of_loop(n) for n in (1, 20, 32, 64, 250, 37, 100)] == [1, 20, 32, 32, 25, 32, 25]


def test_what_is_kept_is_the_current_the_states_of_chunks_and_bits():
    loop = Loop(250, trains=True, bits=True, chunk=25)
    source = recurrent_forward(unit(LIF()), loop, CRows)
    shapes = recurrent_ops.recurrent_shapes(source, unit(LIF()), loop, 7)
    assert shapes["bits"] == (10, 7)
    assert shapes["checkpoints"] == (10, 1, 7)
    assert shapes["currents"] == (251, 7)
    inference = recurrent_forward(unit(LIF()), Loop(250), TritonResident)
    assert inference.names("out") == ("y", "c_out", "s0_out")


def test_the_choice_is_announced():
    attributes = {"neuron": LIF()}
    assert implementation(attributes, "cpu", torch.float32, 5, 5).name == "generic"
    found = implementation(attributes, "cuda", torch.float32, 2000, 2000)
    assert found.name == "generic"
    assert "above 1024 units" in found.reason
    asked = {**attributes, "implementation": "cpp"}
    if host.compiler() is not None:
        assert implementation(asked, "cpu", torch.float32, 2000, 2000).name == "cpp"


@NEEDS_CPP
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("compile", [None, "aot_eager"])
def test_a_session_trains_on_it_as_without(compile):
    import numpy as np

    neuron = LIF(analog=0.2, surrogate=law.Triangular(1.0))
    model = snnx.Chain(Input(12), Linear(9), Recurrent(neuron, synapse_decay=0.6), Linear(4))
    backend: Any = load_backend("torch")
    program = flatten(model)
    rng = np.random.default_rng(2)
    x = (rng.uniform(size=(11, 6, 12)) < 0.4).astype(np.float32)
    batch: Any = {"x": x, "y": np.arange(6) % 4, "index": np.arange(6)}
    batch["length"] = np.array([11, 3, 7, 1, 9, 11])
    results: dict[str, Any] = {}
    for how in ("generic", "cpp"):
        net = backend.build(program, initial_parameters(program, 0), device="cpu", kernels=how)
        assert how in next(iter(net.implementations().values()))
        options = {"steps": 11, "compile": compile}
        session = backend.session(net, snnx.TET(), snnx.Optim(snnx.Adam(lr=0.01)), **options)
        losses = [
            session.read(session.step([batch], {"step": step, "seed": 5}))["loss"]
            for step in range(3)
        ]
        results[how] = (losses, session.export().parameters)
    assert results["cpp"][0] == pytest.approx(results["generic"][0], rel=1e-5)
    for path, value in results["generic"][1].items():
        np.testing.assert_allclose(results["cpp"][1][path], value, atol=1e-5, err_msg=path)


@NEEDS_CPP
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_sessions_of_several_sizes_live_in_one_process():
    import numpy as np

    backend: Any = load_backend("torch")
    for units in (5, 6, 7):  # the second size makes sizes symbols of the graph
        model = snnx.Chain(Input(3), Linear(units), Recurrent(LIF(), synapse_decay=0.6), Linear(2))
        program = flatten(model)
        batch: Any = {"x": np.ones((units, 4, 3), np.float32), "y": np.arange(4) % 2}
        batch["index"] = np.arange(4)
        net = backend.build(program, initial_parameters(program, 0), device="cpu", kernels="cpp")
        options = {"steps": units, "compile": "aot_eager"}
        session = backend.session(net, snnx.TET(), snnx.Optim(snnx.Adam()), **options)
        assert np.isfinite(session.read(session.step([batch], {}))["loss"])
