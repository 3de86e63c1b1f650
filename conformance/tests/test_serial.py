"""Models as JSON: what is written comes back, and nothing else is taken."""

import json
from dataclasses import dataclass

import pytest

import snnx
from snnx import serial
from snnx.array_layer import ArrayLayer
from snnx.models import MODELS
from snnx.serial import SerialError

TREE = snnx.Chain(
    snnx.Input(4, 4, 2),
    snnx.Residual(
        snnx.Chain(snnx.Conv2d(3, 3, init=0.1), snnx.BatchNorm(scale=0.5)), snnx.Conv2d(3, 1)
    ),
    snnx.LIF(
        threshold=snnx.Learned(1.0, share="channel", low=0.1),
        surrogate=snnx.Dspike(),
        emit=("threshold", 2.0),
    ),
    snnx.MaxPool2d(2),
    snnx.Dropout(0.1),
    snnx.Flatten(),
    snnx.Linear(5),
    snnx.Recurrent(snnx.LIF(gain="1-decay", reset="subtract")),
    snnx.Linear(5),
    snnx.DSR.leaky(),
)


@dataclass(frozen=True, slots=True)
class Doubled(ArrayLayer):
    """A layer of a user."""

    factor: float = 2.0


def document(model: object, **more: object) -> str:
    return json.dumps({"format": 1, "model": model, **more})


def node(kind: str, **fields: object) -> dict[str, object]:
    return {"class": kind, **fields}


def test_a_tree_comes_back_equal() -> None:
    assert snnx.loads(snnx.dumps(TREE)) == TREE


@pytest.mark.parametrize("name", MODELS)
def test_every_zoo_model_comes_back_equal(name: str) -> None:
    model = MODELS[name]()
    assert snnx.loads(snnx.dumps(model)) == model


def test_an_optimiser_comes_back_equal() -> None:
    optim = snnx.Optim(snnx.AdamW(), {"norm": snnx.SGD(momentum=0.9)}, clip_norm=1.0)
    assert serial.decode(json.loads(json.dumps(serial.encode(optim)))) == optim


def test_a_field_left_out_has_its_default() -> None:
    assert snnx.loads(document(node("Conv2d", features=3, kernel=1))) == snnx.Conv2d(3, 1)


def test_a_class_of_ones_own_is_read_after_it_was_registered() -> None:
    with pytest.raises(SerialError, match=r"Doubled is not registered; call snnx\.register"):
        snnx.dumps(Doubled())
    with pytest.raises(SerialError, match="unknown class 'Doubled'"):
        snnx.loads(document(node("Doubled")))
    try:
        assert snnx.register(Doubled) is Doubled
        assert snnx.loads(snnx.dumps(snnx.Chain(Doubled(3.0)))) == snnx.Chain(Doubled(3.0))
        other = dataclass(frozen=True)(type("Doubled", (), {}))
        with pytest.raises(ValueError, match="the name 'Doubled' belongs to"):
            snnx.register(other)
    finally:
        serial._CLASSES.pop("Doubled", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        (b"\x80\x04\x95", "no text"),
        ("[1]", "expects a JSON object, gets list"),
        ("{}", '"format" is None'),
        ('{"format": true, "model": 1}', '"format" is True'),
        ('{"format": 2, "model": 1}', "format 2 is newer than 1"),
        (document(1, more=2), r'"format" and "model" only'),
        ('{"format": 1, "format": 1}', "'format' stands twice"),
        ('{"format": 1, "model": NaN}', "NaN is no number"),
        (document(node("os.system")), "unknown class 'os.system'"),
        (document(node("Linear", features=3, width=1)), "Linear: unknown field 'width'"),
        (document(node("Linear", features="3")), "features is '3', expects int"),
        (document(node("Linear", features=True)), "features is True, expects int"),
        (document(node("Linear", features=0)), "whole number >= 1"),
        (document(node("Linear")), "features"),
        (document(node("Chain", layers=[node("Linear", features=1, bias=1)])), r"layers\[0\] Lin"),
        (document(node("Chain", layers=[1])), "layers is"),
        (document(node("LIF", surrogate=node("Linear", features=1))), "surrogate is"),
        (document(node("LIF", decay=2)), r"decay must be in \[0, 1\]"),
        ("[" * 200_000, "deeper"),
        (
            '{"format": 1, "model": ' + '{"class": "Residual", "body": ' * 100 + "1" + "}" * 101,
            "de",
        ),
    ],
)
def test_what_dumps_would_not_write_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(SerialError, match=message):
        snnx.loads(text)


def test_too_much_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(SerialError, match="more than"):
        snnx.loads(" " * (serial.MAX_CHARACTERS + 1))
