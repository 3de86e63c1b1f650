"""The shipped recipes: each parses, builds its network, and says its paper and what is open."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnx import data
from snnx.cli import main
from snnx.data import Batches, DataError, Dataset
from snnx.data.augmented import Augmented, held_out
from snnx.data.events import FRAMINGS
from snnx.program import Program, flatten
from snnx.training import recipe, recipe_data, recipe_plan
from snnx.training.plan import Plan

ROWS = [name for name in recipe.recipe_names() if "/" in name]
SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "digits": ((8, 8, 1), 10),
    "mnist": ((28, 28, 1), 10),
    "fashion-mnist": ((28, 28, 1), 10),
    "saccade-digits": ((14, 14, 2), 10),
    "japanese-vowels": ((12,), 9),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "tiny-imagenet": ((64, 64, 3), 200),
    "imagenet": ((224, 224, 3), 1000),
    "dvs-cifar10": ((48, 48, 2), 10),
    "dvs-gesture": ((128, 128, 2), 11),
    "shd": ((700,), 20),
    "medlydb": ((384,), 10),
}
SEQUENCES = (
    "saccade-digits",
    "japanese-vowels",
    "dvs-cifar10",
    "dvs-gesture",
    "shd",
    "medlydb",
)


@dataclass(frozen=True)
class Shape:
    """What a plan asks of a data set, without its samples."""

    name: str
    features: tuple[int, ...]
    classes: int
    layout: str
    steps: int

    def size(self, split: str) -> int:
        return 1

    def take(self, split: str, draws: Any) -> tuple[np.ndarray, np.ndarray, None]:
        shape = (self.steps, 1, *self.features) if self.layout == "TNF" else (1, *self.features)
        return np.zeros(shape, np.uint8), np.zeros(1, np.int64), None

    @property
    def full_scale(self) -> float:
        return 1.0


def values_of(name: str, *changes: str) -> dict[str, Any]:
    layers = [recipe.read_recipe(name), *map(recipe.override, changes)]
    return recipe.resolve(layers).values


def plan_of(name: str) -> Plan:
    values = values_of(name)
    table = values["data"]
    features, classes = SHAPES[table["name"]]
    layout = "TNF" if table["name"] in SEQUENCES else "NF"
    shape: Any = Shape(table["name"], features, classes, layout, values["T"])
    return recipe_plan.make_plan(values, shape)


def parameters(program: Program) -> int:
    return sum(p.size for p in program.parameters)


@pytest.mark.parametrize("name", recipe.recipe_names())
def test_a_recipe_builds_its_network(name: str) -> None:
    plan = plan_of(name)
    program = plan.program()
    assert program.output_shape == (SHAPES[plan.config["data"]["name"]][1],)
    for stage in plan.stages:
        assert stage.steps == 1 or not stage.ann
    augment = plan.config["data"]["augment"]
    if augment is not None:
        data.augmentation(augment, plan.config["data"]["name"])
    if "framing" in plan.config["data"]:
        rule = FRAMINGS[plan.config["data"]["framing"]]
        assert rule.frames == plan.steps
        assert (rule.side or 128) == program.input_shape[0]


@pytest.mark.parametrize("name", ROWS)
def test_a_published_row_says_what_it_is(name: str) -> None:
    values = values_of(name)
    assert values["paper"]
    assert 0.5 < values["expected_accuracy"] < 1
    assert values["undetermined"]
    for text in values["undetermined"]:
        keys, _, what = text.partition(": ")
        known = recipe.known_keys(values)
        for key in keys.split(", "):
            assert key in known or key in {k.partition(".")[0] for k in known}, text
        assert "; " in what, f"{text!r} does not say what was open and what was chosen"
    assert values["name"] == name.replace("/", "-")
    first = (recipe.recipe_folder() / f"{name}.toml").read_text("utf-8").partition("\n")[0]
    assert f"{100 * values['expected_accuracy']:.2f}".rstrip("0").rstrip(".") in first


def test_every_published_row_has_a_recipe() -> None:
    papers = {name.partition("/")[0] for name in ROWS}
    assert papers == {"asgl", "dspike", "dsr", "tet"}
    counts = {paper: sum(name.startswith(f"{paper}/") for name in ROWS) for paper in papers}
    assert counts == {"dspike": 9, "dsr": 8, "asgl": 14, "tet": 10}


DSR_LAYERS = {"preact_resnet18": 19, "vgg11_dsr": 9, "preact_resnet18_imagenet": 20}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("tet/cifar10-resnet19-t6", 12_630_858),
        ("tet/cifar100-resnet19-t2", 12_653_988),
        ("tet/dvs-cifar10-vggsnn", 9_271_498),
        ("tet/imagenet-sew-resnet34-t4", 21_797_672),
        ("dspike/cifar10-resnet18-t2", 11_247_946),
        ("dspike/cifar100-resnet18-t6", 11_294_116),
        ("dsr/cifar10-preact18-if-t20", 11_176_945),
        ("dsr/cifar10-preact18-lif-t5", 11_176_945),
        ("dsr/cifar100-preact18-lif-t20", 11_223_295),
        ("dsr/dvs-cifar10-vgg11-lif", 9_476_327),
        ("dsr/imagenet-preact18-if-t50", 11_691_660),
        # ASGL's learned widths, one for each neuron layer, come on top of the paper's counts
        ("asgl/cifar10-resnet18-t2", 11_173_962),
        ("asgl/cifar100-resnet18-t4", 11_220_132),
        ("asgl/dvs-cifar10-vggsnn", 9_268_736),
        ("asgl/tiny-imagenet-vgg13-t8", 9_510_536),
        ("asgl/shd-recurrent", 230_400),
        ("asgl/medlydb-clif", 275_800),
    ],
)
def test_a_recipe_has_the_parameters_of_its_paper(name: str, count: int) -> None:
    program = plan_of(name).program()
    widths = sum(p.size for p in program.parameters if p.role == "surrogate.width")
    assert parameters(program) - widths == count
    assert widths == (len(program.spiking) if name.startswith("asgl/") else 0)
    thresholds = sum(p.role == "threshold" for p in program.parameters)
    assert thresholds == DSR_LAYERS.get(values_of(name)["model"]["name"], 0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("expected_acuracy = 0.9", "did you mean 'expected_accuracy'"),
        ("[data]\nname = 'cifar10'\naugmnt = 'unit'", "did you mean 'data.augment'"),
        ("[data]\nname = 'dvs-cifar10'\nframming = 'tet_dvs'", "did you mean 'data.framing'"),
        ("[model]\nname = 'resnet19'\nstemm = 64", "did you mean 'model.stem'"),
        ("[neuron]\nname = 'clif'\nsynapse_deca = 0.5", "did you mean 'neuron.synapse_decay'"),
        ("[method]\nname = 'asgl'\nzeeta = 0.5", "did you mean 'method.zeta'"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(recipe.RecipeError, match=hint):
        recipe.resolve([recipe.read_recipe(str(path))])


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(recipe.RecipeError, match="did you mean 'tet/cifar10-resnet19-t"):
        recipe.read_recipe("tet/cifar10-resnet19-t5")


def test_what_is_open_is_printed_before_training_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("mine.toml").write_text(
        'paper = "A paper"\nexpected_accuracy = 0.9472\nundetermined = ["optim.lr: not given; 1"]\n'
    )
    words = ["train", "mine.toml", "-b", "numpy", "model.width=0.04", "--max-steps", "1"]
    assert main([*words, "--no-plots", "-o", "run"]) == 0
    printed = capsys.readouterr().out
    assert "A paper" in printed
    assert "94.72 % as published" in printed
    assert printed.index("optim.lr: not given; 1") < printed.index("1/15")
    result = data_of(Path("run/result.json"))
    assert result["paper"] == "A paper"
    assert result["undetermined"] == ["optim.lr: not given; 1"]
    assert result["expected_accuracy"] == 0.9472
    kept = tomllib.loads(Path("run/config.toml").read_text())
    assert kept["undetermined"] == ["optim.lr: not given; 1"]


def data_of(path: Path) -> dict[str, Any]:
    import json

    return json.loads(path.read_text())


def bytes_set(count: int = 20) -> Dataset:
    x = np.arange(count * 16 * 16 * 3).astype(np.uint8).reshape(count, 16, 16, 3)
    y = np.arange(count) % 5
    return Dataset(x, y, x[:5], y[:5], name="cifar10", label="synthetic", full_scale=255.0)


def test_a_validation_share_of_training_stands_in_for_the_test_split() -> None:
    whole = bytes_set()
    part = held_out(whole, 0.25)
    assert isinstance(part, Dataset)
    assert (part.size("train"), part.size("test"), part.name) == (15, 5, "cifar10-validation")
    both = np.concatenate([part.x_train, part.x_test])
    assert {row.tobytes() for row in both} == {row.tobytes() for row in whole.x_train}
    assert held_out(whole, 0.25).hash == part.hash
    for share in (0.0, 1.0, 0.001, 0.99):
        with pytest.raises(DataError, match="validation is a share"):
            held_out(whole, share)


def test_an_augmented_data_set_augments_training_and_normalises_both() -> None:
    table = {"name": "cifar10", "augment": "tet_cifar", "validation": 0.25, "lazy": False}
    found = recipe_data.prepared(bytes_set(), table)
    assert isinstance(found, Augmented)
    first, second = (
        next(iter(Batches(found, "train", 15, shuffle=False).epoch(epoch)))["x"] for epoch in (0, 1)
    )
    assert not np.array_equal(first, second)
    held = [next(iter(Batches(found, "test", 5, shuffle=False).epoch(e)))["x"] for e in (0, 1)]
    assert np.array_equal(held[0], held[1])
    mean, std = np.float32(0.4914), np.float32(0.2023)
    stored: Any = found.base
    wanted = (stored.x_test[..., 0] / np.float32(255) - mean) / std
    np.testing.assert_array_equal(held[0][..., 0], wanted)
    assert (found.label, found.hash) == ("synthetic", stored.hash)
    with pytest.raises(recipe.RecipeError, match=r"data\.augment: there is no augmentation"):
        recipe_data.prepared(bytes_set(), {"augment": "tet_cifr"})


def test_a_stage_may_have_its_own_optimiser_and_batch_size() -> None:
    plan = plan_of("dsr/imagenet-preact18-if-t50")
    ann, begin = plan.stage(0)
    assert (begin, ann.batch_size, type(ann.optim.default).__name__) == (0, 256, "SGD")
    spiking, begin = plan.stage(90)
    assert (begin, spiking.batch_size, type(spiking.optim.default).__name__) == (90, 144, "Adam")
    assert plan.steps_before(90, 512) == 180
    assert flatten(ann.model).spiking == ()
