"""The zoo: parameters, operations, neuron layers and shapes from the program alone."""

from __future__ import annotations

import inspect
import math
from itertools import groupby

import numpy as np
import pytest

import snnx
from snnx import DSR, LIF, Identity, Program, flatten
from snnx.building import initial_parameters
from snnx.models import MODELS
from snnx.serial import dumps, loads
from snnx_numpy import backend

ZOO = [name for name in MODELS if name != "digits"]  # which has a test and a signature of its own


def parameter_count(program: Program) -> int:
    return sum(p.size for p in program.parameters)


def mac_count(program: Program) -> int:
    """Return the multiply-accumulates of convolutions and linear layers in one time step."""
    shape = {p.path: p.shape for p in program.parameters}
    total = 0
    for step in program.steps:
        if step.op == "conv2d":
            total += math.prod(step.shape) * math.prod(shape[step.inputs["weight"]][1:])
        if step.op == "linear":
            total += math.prod(shape[step.inputs["weight"]])
    return total


PARAMETERS = [
    ("snn5", {}, 2_253_098),
    ("vggsnn", {}, 9_271_498),
    ("vggsnn", {"strided": True}, 9_271_498),
    ("vggsnn", {"bias": False}, 9_268_736),
    ("vgg11_dsr", {}, 9_476_327),
    ("vgg13_asgl", {}, 9_510_536),
    ("resnet18_dspike", {}, 11_247_946),
    ("resnet18_dspike", {"classes": 100}, 11_294_116),
    ("resnet18", {}, 11_173_962),
    ("resnet18", {"classes": 100}, 11_220_132),
    ("resnet19", {}, 12_697_728),
    ("resnet19", {"stem": 64, "bias": True}, 12_630_858),
    ("resnet19", {"stem": 64, "bias": True, "classes": 100}, 12_653_988),
    ("preact_resnet18", {}, 11_176_945),
    ("preact_resnet18", {"classes": 100}, 11_223_295),
    ("preact_resnet18_imagenet", {}, 11_691_660),
    ("preact_resnet", {}, 273_091),
    ("preact_resnet", {"depth": 32}, 467_983),
    ("preact_resnet", {"depth": 44}, 662_875),
    ("preact_resnet", {"depth": 56}, 857_767),
    ("preact_resnet", {"depth": 110}, 1_734_781),
    ("sew_resnet34", {}, 21_797_672),
    ("shd", {}, 230_400),
    ("medlydb", {}, 275_800),
    ("autoencoder", {}, 221_184),
    ("autoencoder", {"bias": True}, 222_384),
    ("mnist_toy", {}, 11_824),
]


@pytest.mark.parametrize(("name", "variant", "count"), PARAMETERS)
def test_parameters_equal_those_of_the_released_models(name, variant, count):
    assert parameter_count(flatten(MODELS[name](**variant))) == count
    assert f"{count:,}" in (MODELS[name].__doc__ or "")


@pytest.mark.parametrize(
    ("name", "variant", "millions", "digits"),
    [
        ("vgg13_asgl", {"plan": "standard"}, 35.4, 1),
        ("vgg16", {}, 14.72, 2),
        ("vgg16_imagenet", {}, 138.36, 2),
        ("vgg16_asgl", {}, 39.93, 2),
        ("vgg16_asgl", {"bias": False}, 39.93, 2),
        ("cifarnet", {}, 45.0, 1),
        ("cifarnet", {"head": "code"}, 36.1, 1),
        ("spiking_resnet34", {}, 21.80, 2),
    ],
)
def test_parameters_known_to_a_few_digits(name, variant, millions, digits):
    assert round(parameter_count(flatten(MODELS[name](**variant))) / 1e6, digits) == millions


@pytest.mark.parametrize(
    ("name", "variant", "millions", "digits"),
    [
        ("resnet19", {}, 2285.4, 1),  # the paper's 2285M
        ("resnet18_dspike", {}, 187.37, 2),  # the paper's 187M
        ("resnet19", {"stem": 64, "bias": True}, 2216.5, 1),
        ("resnet18", {}, 555.4, 1),
        ("snn5", {}, 150.4, 1),
        ("vggsnn", {}, 1361.7, 1),
        ("vggsnn", {"strided": True}, 660.9, 1),
        ("vgg13_asgl", {}, 1026.4, 1),
        ("cifarnet", {}, 1245.6, 1),
        ("sew_resnet34", {}, 3663.8, 1),
        ("spiking_resnet34", {}, 3680.0, -1),
    ],
)
def test_operations_equal_those_of_the_papers(name, variant, millions, digits):
    assert round(mac_count(flatten(MODELS[name](**variant))) / 1e6, digits) == millions


def test_the_first_layer_of_dspike_costs_what_its_energy_table_says():
    program = flatten(MODELS["resnet18_dspike"]())
    assert math.prod(program.steps[0].shape) * 27 == 1_769_472  # twice: 3.54M, the table's 3.52M


@pytest.mark.parametrize(
    ("name", "variant", "count"),
    [
        ("preact_resnet18", {}, 19),
        ("preact_resnet18_imagenet", {}, 20),
        *(("preact_resnet", {"depth": depth}, depth + 1) for depth in (20, 32, 44, 56, 110)),
        ("vgg11_dsr", {}, 9),
        ("sew_resnet34", {}, 36),
        ("resnet18_dspike", {}, 19),
        ("resnet18", {}, 17),
        ("resnet19", {}, 18),
        ("cifarnet", {}, 7),
        ("vggsnn", {}, 8),
    ],
)
def test_the_number_of_neuron_layers(name, variant, count):
    assert len(flatten(MODELS[name](**variant)).spiking) == count


STAGES = [
    ("snn5", {}, "32x16 32x64 16x128 8x256 4x512"),
    ("cifarnet", {}, "32x128 32x256 16x512 8x1024 8x512 1024 512"),
    ("vggsnn", {}, "48x64 48x128 24x256 12x512 6x512"),
    ("vggsnn", {"strided": True}, "48x64 24x128 24x256 12x256 12x512 6x512 3x512"),
    ("vgg11_dsr", {}, "48x64 24x128 12x256 6x512 3x512 10"),
    ("vgg13_asgl", {}, "64x64 32x128 16x256 8x512 4x512"),
    ("vgg16_imagenet", {}, "224x64 112x128 56x256 28x512 14x512 4096"),
    ("vgg16_asgl", {}, "32x64 16x128 8x256 4x512 2x512 4096"),
    ("resnet18", {}, "32x64 16x128 8x256 4x512"),
    ("resnet18_dspike", {}, "32x64 16x64 8x128 4x256 2x512"),
    ("resnet19", {}, "32x128 16x256 8x512 256"),
    ("spiking_resnet34", {}, "112x64 56x64 28x128 14x256 7x512"),
    ("spiking_resnet34", {"stem": "deep"}, "112x32 112x64 56x64 28x128 14x256 7x512"),
    ("preact_resnet18", {}, "32x64 16x128 8x256 4x512 512 10"),
    ("preact_resnet18_imagenet", {}, "112x64 56x64 28x128 14x256 7x512 512 1000"),
    ("preact_resnet", {}, "32x16 16x32 8x64 64 10"),
    ("shd", {}, "240"),
    ("medlydb", {}, "700"),
    ("autoencoder", {}, "128 64 32 64 128"),
    ("mnist_toy", {}, "28x6"),
]


@pytest.mark.parametrize(("name", "variant", "stages"), STAGES)
def test_shapes_of_the_neurons_stage_by_stage(name, variant, stages):
    program = flatten(MODELS[name](**variant))
    # In the pre-activation nets the first neuron of a stage still has the shape before it.
    shapes = ["x".join(map(str, s.shape[1:] or s.shape)) for s in program.spiking]
    assert " ".join(shape for shape, _ in groupby(shapes)) == stages


def test_sew_sums_spikes_and_its_values_are_not_binary():
    program = flatten(MODELS["sew_resnet34"]())
    sums = [s for s in program.steps if s.op == "add"]
    assert len(sums) == 16
    assert all(program.edges[s.inputs["a"]].binary for s in sums)
    assert not any(program.edges[s.output].binary for s in sums)
    shapes = [s.shape for s in sums]
    assert [k[0] for k, _ in groupby(shapes)] == [56, 28, 14, 7]
    zero = flatten(MODELS["sew_resnet34"](last_gamma=0.0))
    starts = [p.init.value for p in zero.parameters if p.role == "norm" and "weight" in p.path]
    assert starts.count(0.0) == 16


def test_the_identity_of_a_preact_block_carries_spikes():
    program = flatten(MODELS["preact_resnet18"]())
    sums = [s for s in program.steps if s.op == "add"]
    identities = [program.edges[s.inputs["b"]] for s in sums if ".skip" not in s.inputs["b"]]
    assert len(identities) == 5
    assert all(edge.binary for edge in identities)


def test_norm_scales_stand_where_tdbn_puts_them():
    def scales(model):
        return {s.attributes["scale"] for s in flatten(model).steps if s.op == "batch_norm"}

    assert scales(MODELS["resnet19"]()) == {1.0}
    assert scales(MODELS["resnet18_dspike"]()) == {0.5}
    assert scales(MODELS["spiking_resnet34"](norm_scale=0.5)) == {0.5, 0.5 * 2**-0.5}


TINY = {
    "mnist_toy": (6, 6, 1), "snn5": (16, 16, 2), "cifarnet": (8, 8, 1), "vggsnn": (16, 16, 2),
    "vgg11_dsr": (32, 32, 1), "vgg13_asgl": (16, 16, 1), "vgg16": (32, 32, 1),
    "vgg16_asgl": (16, 16, 1), "vgg16_imagenet": (32, 32, 1), "resnet18": (8, 8, 1),
    "resnet18_dspike": (16, 16, 1), "resnet19": (8, 8, 2), "spiking_resnet34": (32, 32, 1),
    "sew_resnet34": (32, 32, 1), "preact_resnet18": (8, 8, 1),
    "preact_resnet18_imagenet": (32, 32, 1), "preact_resnet": (8, 8, 1), "shd": (9,),
    "medlydb": (9,), "autoencoder": (4, 4, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
def test_a_narrow_net_on_a_small_input_runs(name):
    program = flatten(MODELS[name](5, width=1 / 8, input=TINY[name]))
    net = backend.build(program, initial_parameters(program, 0), precision="fp32")
    x = np.random.default_rng(0).uniform(0.0, 2.0, (1, 2, *TINY[name])).astype(np.float32)
    net.training = True  # batch statistics, so that something fires behind the norms
    y, state = net(x)
    assert y.shape == (1, 2, 5)
    assert np.isfinite(y).all()
    assert set(state) == {"t", *(s.path for s in program.spiking)}


@pytest.mark.parametrize("name", ZOO)
def test_every_net_is_json_and_back(name):
    model = MODELS[name](width=0.25)
    assert loads(dumps(model)) == model


@pytest.mark.parametrize("name", ZOO)
def test_signatures_are_alike_and_documented(name):
    parameters = inspect.signature(MODELS[name]).parameters
    assert list(parameters)[:4] == ["classes", "neuron", "input", "width"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[1:])
    text = inspect.getdoc(MODELS[name]) or ""
    assert "Source:" in text
    assert "Parameters:" in text
    assert all(f"{v}" in text for v in list(parameters)[4:] if v not in ("dropout", "plan", "pool"))


@pytest.mark.parametrize("name", [name for name in ZOO if name != "shd"])
def test_the_neuron_is_a_layer_or_a_function_of_the_features(name):
    seen: list[int] = []

    def neuron(features: int) -> LIF:
        seen.append(features)
        return LIF(decay=0.3)

    program = flatten(MODELS[name](neuron=neuron, width=0.5))
    assert {s.attributes["neuron"] for s in program.spiking} == {LIF(decay=0.3)}
    assert set(seen) == {s.shape[-1] for s in program.spiking}
    assert all(s.op == "rate_neuron" for s in flatten(MODELS[name](neuron=DSR.leaky())).spiking)
    silent = flatten(MODELS[name](neuron=Identity()))
    assert not silent.spiking
    assert silent.output_shape == flatten(MODELS[name]()).output_shape


@pytest.mark.parametrize("width", [1e-3, 0.125, 2.0])
def test_width_scales_every_number_of_features(width):
    program = flatten(MODELS["resnet19"](width=width))
    assert program.spiking[-1].shape == (max(1, round(256 * width)),)
    assert program.spiking[0].shape[-1] == max(1, round(128 * width))
    assert program.output_shape == (10,)


@pytest.mark.parametrize("name", ["resnet18", "resnet19", "preact_resnet", "sew_resnet34"])
@pytest.mark.parametrize("size", [(32, 32, 3), (48, 48, 2), (64, 40, 1), (37, 53, 3)])
def test_input_sizes_are_free(name, size):
    assert flatten(MODELS[name](7, input=size, width=0.1)).output_shape == (7,)


def test_every_net_can_be_built_by_name():
    assert set(MODELS) >= set(TINY)
    assert isinstance(MODELS["digits"](), snnx.Chain)
