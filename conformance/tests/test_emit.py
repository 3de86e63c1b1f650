"""Kernels as text: what they keep, what they may contain, and that Metal's text parses."""

from __future__ import annotations

import importlib.util
import re

import pytest

from snnx import DSR, LIF, Dspike, Learned, Rectangular, Sigmoid, Triangular
from snnx.emit import Rule, Variant, chunk_of, rate_backward, rate_forward, unit
from snnx.emit.c_text import CWriter
from snnx.emit.layout import Layout, kinds
from snnx.emit.triton_text import FUNCTIONS, TritonWriter
from snnx.emit.writer import unprinted
from snnx.lower import evaluate, reverse_lines
from snnx.ops.neuron import operations
from snnx.trace import OPERATIONS
from tests import metal_text
from tests.cpp_kernels import job
from tests.own_neurons import OWN

NEEDS_CLANG = pytest.mark.skipif(
    importlib.util.find_spec("clang") is None, reason="the package libclang is not installed"
)


@pytest.mark.parametrize("writer", [CWriter, TritonWriter])
def test_every_operation_of_a_list_can_be_printed(writer):
    assert unprinted(OPERATIONS, writer) == []


def test_a_rectangular_window_with_detached_reset_keeps_two_bits():
    bits = unit(LIF(detach_reset=True, surrogate=Rectangular(0.8))).bits
    assert bits is not None
    assert bits.count == 2
    soft = LIF(reset="subtract", detach_reset=True, threshold=Learned(0.5))
    assert unit(soft).bits is not None  # the threshold's gradient is -slope g and -s g
    bursting = unit(OWN["bursting"]).bits
    assert bursting is not None
    assert bursting.count == 2


@pytest.mark.parametrize(
    ("neuron", "fire"),
    [
        (LIF(), "spike"),  # an attached reset multiplies by the potential
        (LIF(detach_reset=True, surrogate=Triangular(1.0)), "spike"),
        (LIF(detach_reset=True, surrogate=Rectangular(Learned(1.0, transform="log"))), "spike"),
        (LIF(detach_reset=True, decay=Learned(0.5)), "spike"),
        (LIF(detach_reset=True), "smooth"),
    ],
)
def test_a_backward_that_needs_a_value_keeps_the_input(neuron, fire):
    assert unit(neuron, fire).bits is None


def test_the_reverse_over_bits_is_the_reverse():
    import numpy as np

    neuron = LIF(detach_reset=True, threshold=Learned(0.5), reset="subtract")
    bits = unit(neuron).bits
    assert bits is not None
    whole = reverse_lines(neuron.trace(), ("p.threshold",))
    rng = np.random.default_rng(0)
    values = {n: rng.standard_normal(50) for n in whole.inputs}
    values |= {"p.threshold": np.array(0.5), "spike": (values["spike"] > 0).astype(float)}
    table = operations(np)
    wanted = evaluate(whole, values, table)
    seen = evaluate(bits.conditions, values, table)
    known = {k: v for k, v in values.items() if k != "x" and not k.startswith("state.")}
    got = evaluate(bits.reverse, {**known, **seen}, table)
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name])


def test_bits_are_packed_over_time():
    for steps, word, parts in (
        (4, "word8", 1),
        (8, "word16", 1),
        (16, "word32", 1),
        (33, "word32", 3),
    ):
        made = job({"neuron": LIF(detach_reset=True)}, [], steps)
        assert kinds(made.forward, made.unit, made.variant)["bits"] == word
        assert made.variant.parts == parts


def test_inference_writes_nothing_but_the_output():
    from snnx.emit import forward

    of = unit(LIF())
    for writer in (CWriter, TritonWriter):
        source = forward(of, Variant(8, final=False), writer)
        assert source.names("out") == ("y",)


def test_lanes_hold_whole_periods():
    layout = Layout.of((7, 5, 3)).lanes("channel", 16, 100)
    assert (layout.total, layout.features, layout.channels) == (105, 15, 3)
    assert layout.lane % 3 == 0
    assert layout.lane >= 16
    assert layout.groups * layout.lane >= 105 - layout.lane
    assert Layout.of((7, 5, 3)).lanes("neuron", 16, 2).lane == 30


TEXTS = {
    **{name: (neuron, "spike") for name, neuron in OWN.items()},
    "mixed": (LIF(surrogate=Sigmoid(Learned(0.4, "channel", transform="log"))), "mixed"),
    "smooth": (LIF(surrogate=Dspike(), threshold=Learned(0.5, "neuron")), "smooth"),
}


@NEEDS_CLANG
@pytest.mark.parametrize("data", ["float", "half", "bfloat16_t"])
@pytest.mark.parametrize("name", sorted(TEXTS))
def test_metal_text_parses_with_address_spaces_and_has_no_double(name, data):
    neuron, fire = TEXTS[name]
    made = job({"neuron": neuron, "fire": fire}, ["state.v"], 9, chunk=4)
    for source in (made.forward, made.backward):
        text = metal_text.program(source, data, made.word)
        assert metal_text.complaints(text) == []
        assert not re.search(r"\bdouble\b|[0-9]\.[0-9]*(?:e-?[0-9]+)?(?![0-9ef])", source.text)


@NEEDS_CLANG
@pytest.mark.parametrize("data", ["float", "bfloat16_t"])
def test_metal_text_that_draws_its_masks_parses(data):
    made = job({"neuron": LIF(surrogate=Triangular(1.0)), "fire": "mixed"}, [], 9, drawn=True)
    for source in (made.forward, made.backward):
        assert "snn_draw(" in source.text
        assert metal_text.complaints(metal_text.program(source, data, made.word)) == []


@NEEDS_CLANG
def test_the_parser_sees_a_write_to_an_input():
    made = job({"neuron": LIF()}, [], 3)
    text = metal_text.program(made.forward, "float").replace("y[e] =", "x[e] =")
    assert any("not assignable" in line for line in metal_text.complaints(text))
    doubled = metal_text.program(made.forward, "float").replace("0.5f", "0.5")
    assert metal_text.complaints(doubled)


@NEEDS_CLANG
@pytest.mark.parametrize("steps", [4, 40])
def test_metal_text_of_a_rate_layer_parses(steps):
    layer = DSR.leaky()
    variant = Variant(steps, chunk=chunk_of(steps, "", 1, 0))
    rule = Rule("lif", 0.05, 1.0, None)
    for source in (
        rate_forward(unit(layer.neuron), variant, rule, CWriter),
        rate_backward(variant, rule, CWriter),
    ):
        assert metal_text.complaints(metal_text.program(source, "half")) == []


def test_equal_texts_have_equal_names_and_others_have_others():
    first, second = job({"neuron": LIF()}, [], 4), job({"neuron": LIF()}, [], 4)
    other = job({"neuron": LIF(decay=0.25)}, [], 4)
    assert first.forward == second.forward
    assert first.forward.name != other.forward.name
    assert first.backward.name != first.forward.name


def test_triton_text_uses_only_the_functions_that_it_names():
    made = unit(LIF(surrogate=Sigmoid(0.5)), "smooth")
    from snnx.emit import forward

    text = forward(made, Variant(2), TritonWriter).text
    assert set(re.findall(r"snn_\w+(?=\()", text)) <= {*FUNCTIONS, "snn_draw"}
