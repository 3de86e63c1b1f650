"""Keys of recipes that carry more than a number: learned numbers, clipping, stages of their own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.backend import installed, load_backend
from snnx.cli import main
from snnx.data import Dataset
from snnx.program import flatten
from snnx.random import uniform
from snnx.training import recipe, recipe_plan
from snnx.training.plan import Plan
from snnx.training.schedules import Constant, Cosine, Warmup

BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed")
    )
    for name in ("numpy", "torch", "mlx")
]
TINY = ("-b", "numpy", "model.width=0.04", "batch_size=450", "--no-plots")
LEAK = 'neuron.decay={init=0.5, transform="logit"}'


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def resolved(*words: str) -> recipe.Resolved:
    return recipe.resolve([recipe.read_recipe("digits"), *map(recipe.override, words)])


def plan_of(*words: str) -> Plan:
    return recipe_plan.make_plan(resolved(*words).values, snnx.data.load("digits"))


# learned numbers


def test_a_number_of_a_neuron_may_be_learned() -> None:
    plan = plan_of(LEAK, "neuron.threshold.init=1.0", "neuron.threshold.low=0.1", "method=asgl")
    found = {p.path: p for p in flatten(plan.model).parameters if p.learned is not None}
    leak = snnx.Learned(0.5, transform="logit")
    assert [p.learned for p in found.values() if p.role == "decay"] == [leak, leak]
    assert {p.learned.low for p in found.values() if p.role == "threshold" and p.learned} == {0.1}
    # the group of the widths: ASGL's Adam trains the leak too, as the CIFAR script does
    assert plan.optim.rule(found["3.decay"]) == snnx.Adam(lr=3e-4)


def test_a_learned_number_of_a_surrogate_and_of_a_model() -> None:
    plan = plan_of('surrogate.width={init=2.0, transform="log"}')
    assert [p.path for p in flatten(plan.model).parameters if p.learned] == [
        "3.surrogate.width",
        "7.surrogate.width",
    ]
    plan = plan_of("model=shd", 'model.synapse_decay={init=0.5, group="synapse"}')
    assert "synapse" in {p.group for p in flatten(plan.model).parameters}


def test_a_learned_number_goes_through_toml_and_back(tmp_path: Path) -> None:
    found = resolved(LEAK)
    assert found.values["neuron"]["decay"] == {
        "init": 0.5,
        "share": "layer",
        "group": "width",
        "transform": "logit",
    }
    assert found.origins["neuron.decay.init"] == "command line"
    assert found.origins["neuron.decay.share"] == "default"
    path = tmp_path / "again.toml"
    path.write_text(found.toml())
    assert recipe.resolve([recipe.read_recipe(str(path))]).values == found.values
    # a constant on top stands for the whole table
    assert resolved(LEAK, "neuron.decay=0.25").values["neuron"]["decay"] == 0.25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["neuron.decay.inti=0.5"], "neuron.decay.inti (command line): unknown key; did you mean "),
        (['neuron.decay={init=0.5, transform="cube"}'], "neuron.decay.transform (command line): "),
        (['neuron.decay={share="layer"}'], "neuron.decay.init (the recipe): is needed and has"),
        (["neuron.decay=true"], "neuron.decay (command line): Input should be a valid number"),
        (["optim.lr={init=0.5}"], "optim.lr (command line): Input should be a valid number"),
    ],
)
def test_a_learned_number_that_is_wrong_is_named(words: list[str], message: str) -> None:
    with pytest.raises(recipe.RecipeError) as error:
        resolved(*words)
    assert message in str(error.value)
    assert "Learned" not in str(error.value)


def test_a_learned_number_out_of_range_is_refused() -> None:
    with pytest.raises(recipe.RecipeError, match=r"init 0.5 lies outside \[0.6, None\]"):
        plan_of("neuron.decay={init=0.5, low=0.6}")


def test_a_learned_leak_is_trained_recorded_and_resumed() -> None:
    assert snnx_train("-o", "whole", "--epochs", "2") == 0
    rows = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    assert rows[0]["decay.3"] == pytest.approx(0.5)
    assert rows[1]["decay.3"] != rows[0]["decay.3"]
    assert snnx_train("-o", "part", "--epochs", "2", "--max-steps", "4") == 0
    assert main(["train", "--resume", "part", "--no-plots"]) == 0
    last = Path("checkpoints/last/model.safetensors")
    assert ("whole" / last).read_bytes() == ("part" / last).read_bytes()


def snnx_train(*words: str) -> int:
    return main(["train", *TINY, LEAK, *words])


# clipping


@pytest.mark.parametrize("backend", BACKENDS)
def test_clip_value_clips_every_element_of_every_gradient(backend: str) -> None:
    x = uniform(3, "test", "clip", 0, [0], [0], 30).reshape(6, 5).astype(np.float32)
    batch: Any = {"x": x, "y": np.arange(6) % 3, "index": np.arange(6)}
    model = snnx.Chain(snnx.Input(5), snnx.Linear(4), snnx.LIF(threshold=0.2), snnx.Linear(3))
    most, lr = 0.02, 0.5

    def session(**clip: Any) -> Any:
        net = snnx.build(model, backend, seed=0)
        optim = snnx.Optim(snnx.SGD(lr=lr), **clip)
        return load_backend(backend).session(net, snnx.SDT(), optim, steps=3, compile=False)

    s = session(clip_value=most)
    before, (_, grads) = s.export().parameters, s.grads(batch, {})
    norm = s.read(s.step([batch], {}))["gradient_norm"]
    after, cut = s.export().parameters, 0
    for path, g in grads.items():
        wanted = before[path] - lr * np.clip(g, -most, most)
        np.testing.assert_allclose(after[path], wanted, rtol=1e-5, atol=1e-7)
        cut += int((np.abs(g) > most).sum())
    assert 0 < cut < sum(g.size for g in grads.values())
    assert norm == pytest.approx(math.sqrt(sum(float((g**2).sum()) for g in grads.values())), 1e-5)


def test_clipping_is_by_value_or_by_norm() -> None:
    assert plan_of("optim.clip_value=5.0").optim.clip_value == 5.0
    with pytest.raises(recipe.RecipeError, match="clip_norm or clip_value, not both"):
        plan_of("optim.clip_value=5.0", "optim.clip_norm=1.0")


# stages


SWITCH = (
    'stages=[{T=4, epochs=2, objective="sdt"}, '
    '{T=4, epochs=1, objective={name="tet", mse=0.1}, schedule="constant"}]'
)


def test_a_stage_has_its_own_objective_and_schedule() -> None:
    plan = plan_of(SWITCH, "schedule.warmup_steps=3")
    first, second = (plan.stage(epoch)[0] for epoch in (0, 2))
    assert (first.objective, second.objective) == (snnx.SDT(), snnx.TET(mse=0.1))
    assert (first.schedule, second.schedule) == (Warmup(3, Cosine(2)), Constant())
    assert plan.ops() >= {"sdt_loss", "tet_loss"}


def test_a_run_changes_its_loss_at_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, SWITCH, "-o", "run"]) == 0
    assert "SDT then TET" in capsys.readouterr().out
    result = json.loads(Path("run/result.json").read_text())
    assert result["objective"] == "TET"
    # the same weights under both losses: TET's is never below that of the mean
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    checkpoint = snnx.checkpoint.load("run", print)
    assert checkpoint.config["plan"]["objective"]["class"] == "TET"
    assert [row["dials"]["lr"] for row in rows] == pytest.approx([0.005, 0.0025, 0.005])
    assert main(["train", *TINY, SWITCH, "-o", "part", "--max-steps", "7"]) == 0
    assert main(["train", "--resume", "part", "--no-plots"]) == 0
    last = Path("checkpoints/last/model.safetensors")
    assert ("run" / last).read_bytes() == ("part" / last).read_bytes()


@pytest.mark.parametrize(
    ("method", "objective", "message"),
    [("dsr", "tet", "method dsr: TET looks at every step"), ("tet", "sdt", "method tet: is the")],
)
def test_a_stage_with_an_objective_that_makes_no_sense_is_refused(
    method: str, objective: str, message: str
) -> None:
    stages = f'stages=[{{T=4, epochs=1}}, {{T=4, epochs=1, objective="{objective}"}}]'
    with pytest.raises(recipe.RecipeError, match=message):
        plan_of(f"method={method}", stages)


def test_the_rate_of_dsr_is_weighted_in_every_stage() -> None:
    stages = 'stages=[{T=5, epochs=1}, {T=5, epochs=1, objective="sdt"}]'
    plan = plan_of("method=dsr", "method.kind=lif", stages)
    objectives = [plan.stage(epoch)[0].objective for epoch in (0, 1)]
    assert objectives[0] == objectives[1] == snnx.SDT(math.exp(-0.1))


def test_a_stage_needs_a_loss_on_labels() -> None:
    stages = (snnx.training.plan.Stage(2, 1, objective=snnx.MSE()),)
    x = np.zeros((4, 3), np.float32)
    data = Dataset(x, np.arange(4) % 2, x, np.arange(4) % 2, "zeros", "synthetic")
    model = snnx.Chain(snnx.Input(3), snnx.Linear(2), snnx.LIF(), snnx.Linear(2))
    with pytest.raises(ValueError, match="MSE needs target arrays"):
        snnx.fit(model, data, stages=stages, backend="numpy")


# what a recipe says of itself


def test_the_published_deviation_is_shown_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    said = ("expected_accuracy=0.9472", "expected_deviation=0.0012", "--epochs", "1")
    assert main(["train", *TINY, *said, "-o", "run"]) == 0
    assert "94.72 +- 0.12 % as published" in capsys.readouterr().out
    assert json.loads(Path("run/result.json").read_text())["expected_deviation"] == 0.0012


def test_a_name_may_stand_after_what_is_said_of_the_named() -> None:
    for words in (["optim.lr=0.25", "optim=sgd"], ["optim=sgd", "optim.lr=0.25"]):
        values = recipe.resolve([recipe.read_recipe("digits"), *map(recipe.override, words)]).values
        assert values["optim"]["name"] == "sgd"
        assert values["optim"]["lr"] == 0.25
    words = ["optim.betas=[0.9, 0.99]", "optim=sgd"]
    with pytest.raises(recipe.RecipeError, match=r"optim\.betas"):  # Adam's: refused, not dropped
        recipe.resolve([recipe.read_recipe("digits"), *map(recipe.override, words)])
