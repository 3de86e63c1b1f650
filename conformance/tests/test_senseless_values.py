"""Recipe keys with values that mean nothing: one line that names the key, never a traceback."""

from __future__ import annotations

from typing import Any

import pytest

import snnx
from snnx import BatchNorm
from snnx.cli import main
from snnx.data.digits import digits
from snnx.methods import DspikeMethod
from snnx.methods.rewrite import layers_in
from snnx.models import mnist_toy, resnet18_dspike
from snnx.training.recipe import RecipeError, override, read_recipe, resolve
from snnx.training.recipe_plan import make_plan
from snnx.training.recipe_schema import TABLES

VALUES = ("0", "-1", "1e-300", "1e300", "100000", "'x'", "[]", "{}", "true")
NEEDED = {
    "clif": ["neuron.membrane_decay=0.9", "neuron.synapse_decay=0.6", "neuron.gain=2.0"],
    "step": ["schedule.milestones=[2]"],
    "dsr": ["method.kind='lif'"],
}
KINDS = ("method", "neuron", "surrogate", "objective", "optim", "schedule")
TABLE = [(kind, name) for kind in KINDS for name in TABLES[kind]]


def plan_of(*words: str) -> Any:
    values = resolve([read_recipe("digits"), *map(override, words)]).values
    return make_plan({**values, "backend": "numpy"}, digits())


@pytest.mark.parametrize(("kind", "name"), TABLE, ids=[" ".join(t) for t in TABLE])
def test_every_key_takes_a_value_or_refuses_it_as_a_mistake_of_the_recipe(
    kind: str, name: str
) -> None:
    said: dict[str, str] = {}
    for key in TABLES[kind][name].model_fields:
        if key == "name":
            continue
        for value in VALUES:
            word = f"{kind}.{key}={value}"
            try:
                plan_of(f"{kind}={name}", *NEEDED.get(name, []), word)
            except RecipeError as error:
                said[word] = str(error)
    assert said or set(TABLES[kind][name].model_fields) == {"name"}
    assert all(text.strip() for text in said.values()), said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=dsr", "method.kind=lif", "method.dt=0"], "method dsr: dt must be above 0, not 0"),
        (["method=dsr", "method.kind=lif", "method.tau=0"], "method dsr: tau must be above 0"),
        (["method=dsr", "method.tau=-1"], "method dsr: tau must be above 0, not -1"),
        (["method=dsr", "method.low=-1"], "method dsr: low must be above 0, not -1"),
        (["method=dsr", "method.threshold=0"], "method dsr: threshold must be above 0, not 0"),
        (["method=dsr", "method.fire_fraction=1.5"], r"in \(0, 1\], not 1.5"),
        (["method=dsr", "method.kappa=-1"], "method dsr: kappa must be at least 0, not -1"),
        (
            ["method=dsr", "method.learned=false", "method.kappa=0.5"],
            "method dsr: kappa scales the gradient of the thresholds, and learned is false",
        ),
        (["objective=sdt", "objective.decay=-1"], r"SDT: decay .* in \(0, 1\], not -1"),
        (["objective=sdt", "objective.decay=2"], r"SDT: decay .* in \(0, 1\], not 2"),
        (["objective=rate_mse", "objective.high=0"], "RateMSE: high, .* must be above low, not 0"),
        (["neuron=clif"], r"neuron.gain .*: is needed and has no default; give neuron.gain=\.\.\."),
        (["neuron.reset={}"], r"neuron.reset \(the recipe\): .*, got \{\}"),
        (["model=resnet19", "model.stem=-1"], "a layer needs at least 1 feature, not -1"),
    ],
)
def test_a_senseless_number_is_named_with_what_it_may_be(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        plan_of(*words)


def test_the_command_line_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["method=dsr", "method.kind=lif", "method.dt=0", "--dry-run", "--backend", "numpy"]
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert said == "error: method dsr: dt must be above 0, not 0.0"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snnx.DSR.leaky(dt=0.0), "DSR.leaky: dt must be above 0, not 0.0"),
        (lambda: snnx.DSR.leaky(tau=-1.0), "DSR.leaky: tau must be above 0, not -1.0"),
        (
            lambda: snnx.DSR(snnx.DSR.integrate_and_fire().neuron, kappa=-0.5),
            "DSR: kappa must be at least 0, not -0.5",
        ),
        (
            lambda: snnx.DSR(snnx.DSR.integrate_and_fire().neuron, tau=float("nan")),
            "DSR: tau must be above 0, not nan",
        ),
    ],
)
def test_a_dsr_layer_refuses_what_its_mapping_cannot_have(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_tdbn_writes_over_no_scale_that_a_model_brought() -> None:
    method = DspikeMethod(tdbn=True)
    twice = resnet18_dspike(width=0.0625, sum_scale=2**-0.5)
    with pytest.raises(ValueError, match=r"scaled by \[0.35\d+\] already, tdBN scales by 0.5"):
        method.rewrite(twice)
    for once in (resnet18_dspike(width=0.0625), resnet18_dspike(width=0.0625, norm_scale=1.0)):
        found = [v.scale for v in layers_in(method.rewrite(once)) if isinstance(v, BatchNorm)]
        assert set(found) == {0.5}
    with pytest.raises(ValueError, match="no BatchNorm to scale; put one into it"):
        method.rewrite(mnist_toy())
