"""Time inheritance: stages of other T, an ANN before them, and a resume inside any of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import checkpoint as checkpoints
from snnx import random
from snnx.backend import installed
from snnx.cli import main
from snnx.data import Dataset
from snnx.methods import DspikeMethod
from snnx.methods.inherit import as_ann
from snnx.program import flatten
from snnx.training import loop, recipe, recipe_plan
from snnx.training.plan import Plan, Stage
from snnx.training.schedules import Cosine

FRAMEWORKS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed")
    )
    for name in ("numpy", "torch", "mlx")
]
MODEL = snnx.Chain(
    snnx.Input(6),
    snnx.Linear(8),
    snnx.BatchNorm(),
    snnx.LIF(threshold=snnx.Learned(0.75, group="threshold", low=0.1), surrogate=snnx.Dspike()),
    snnx.Dropout(0.1),
    snnx.Linear(3),
)
STAGES = (
    Stage(1, 1, Cosine(1), ann=True),
    Stage(4, 2, Cosine(2)),
    Stage(2, 2, Cosine(2), lr=0.004),
)


def data() -> Dataset:
    x = random.uniform(7, "test", "x", 0, [0], [0], 144).reshape(24, 6)
    y = np.arange(24) % 3
    x = (x + np.eye(3).repeat(2, axis=1)[y]).astype(np.float32)
    return Dataset(x[6:], y[6:], x[:6], y[:6], name="three", label="synthetic")


def plan(**changes: Any) -> Plan:
    slow = snnx.Adam(lr=snnx.Dial("lr.threshold", 0.002))
    values = {
        "model": MODEL,
        "objective": snnx.SDT(),
        "optim": snnx.Optim(snnx.Adam(lr=snnx.Dial("lr", 0.02)), {"threshold": slow}),
        "stages": STAGES,
        "batch_size": 6,
        "backend": "numpy",
        "methods": (DspikeMethod(),),
    }
    return Plan(**{**values, **changes})


class Keep(loop.Nobody):
    """Keeps rows and checkpoints, and stops after a number of steps."""

    def __init__(self, stop_after: int = 0) -> None:
        self.left = stop_after
        self.rows: list[dict[str, Any]] = []
        self.checkpoints: list[Any] = []

    def epoch(self, row: loop.Row) -> None:
        self.rows.append({k: v for k, v in row.items() if k != "seconds"})

    def checkpoint(self, checkpoint: Any) -> None:
        self.checkpoints.append(checkpoint)

    def stop(self) -> bool:
        self.left -= 1
        return self.left == 0


def same(a: Any, b: Any) -> None:
    assert a.count == b.count
    for kind in ("parameters", "statistics", "moments"):
        one, two = getattr(a, kind), getattr(b, kind)
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[k], two[k]) for k in one)


def test_each_stage_has_its_own_time_and_schedule() -> None:
    keep = Keep()
    loop.run(loop.start(plan(), data()), keep)
    assert [row["T"] for row in keep.rows] == [1, 4, 4, 2, 2]
    lr = [row["dials"]["lr"] for row in keep.rows]
    assert lr == pytest.approx([0.02, 0.02, 0.01, 0.004, 0.002])
    slow = [row["dials"].get("lr.threshold") for row in keep.rows]
    assert slow[0] is None  # an ANN has no threshold
    assert slow[1:] == pytest.approx([0.002, 0.001, 0.0004, 0.0002])
    assert [set(row["rates"]) for row in keep.rows] == [set(), *[{"3"}] * 4]
    assert ["temperature" in row["dials"] for row in keep.rows] == [False, *[True] * 4]


@pytest.mark.parametrize("stop_after", [1, 3, 5, 8, 9, 13, 14])
def test_a_run_resumed_inside_any_stage_is_bit_equal(tmp_path: Path, stop_after: int) -> None:
    whole, keep = loop.start(plan(), data()), Keep()
    loop.run(whole, keep)
    stopped = Keep(stop_after)
    with pytest.raises(loop.Interrupted):
        loop.run(loop.start(plan(), data()), stopped)
    checkpoints.save(tmp_path, stopped.checkpoints[-1])
    rest, after = loop.start(plan(), data(), checkpoints.load(tmp_path, lambda text: None)), Keep()
    loop.run(rest, after)
    same(whole.session.export(), rest.session.export())
    assert stopped.rows + after.rows == keep.rows


def test_a_run_goes_on_from_the_checkpoint_between_two_stages(tmp_path: Path) -> None:
    whole, keep = loop.start(plan(), data()), Keep()
    loop.run(whole, keep)
    for i, between in enumerate(keep.checkpoints[:-1]):
        checkpoints.save(tmp_path / str(i), between)
        found = checkpoints.load(tmp_path / str(i), lambda text: None)
        rest = loop.start(plan(), data(), found)
        loop.run(rest, loop.Nobody())
        same(whole.session.export(), rest.session.export())


def test_a_run_goes_on_from_a_checkpoint_after_any_step_of_any_stage(tmp_path: Path) -> None:
    whole, keep = loop.start(plan(), data()), Keep()
    loop.run(whole, loop.Nobody())
    loop.run(loop.start(plan(checkpoint_steps=1), data()), keep)
    assert len(keep.checkpoints) == 15 + 5
    for i, found in enumerate(keep.checkpoints):
        checkpoints.save(tmp_path / str(i), found)
        rest = loop.start(plan(), data(), checkpoints.load(tmp_path / str(i), lambda text: None))
        loop.run(rest, loop.Nobody())
        same(whole.session.export(), rest.session.export())


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_weights_and_statistics_go_on_and_moments_begin_anew(backend: str) -> None:
    keep = Keep()
    p = plan(backend=backend, compile=None if backend == "numpy" else False, methods=())
    loop.run(loop.start(p, data()), keep)
    after_ann, started = keep.checkpoints[0], loop.start(p, data(), keep.checkpoints[0])
    assert started.stage.steps == 4
    found = started.session.export()
    assert found.count == 0
    assert all(not m.any() for m in found.moments.values())
    ann = after_ann.snapshot
    assert found.parameters["3.threshold"] == np.float32(0.75)
    assert all(np.array_equal(v, found.parameters[k]) for k, v in ann.parameters.items())
    assert all(np.array_equal(v, found.statistics[k]) for k, v in ann.statistics.items())
    assert ann.statistics["2.running_mean"].any()


def test_the_ann_has_the_paths_of_its_spiking_network() -> None:
    tree = snnx.Chain(
        snnx.Input(6),
        snnx.Residual(snnx.Chain(snnx.Linear(6), snnx.LIF())),
        snnx.Linear(3),
        snnx.DSR.integrate_and_fire(),
    )
    ann = flatten(as_ann(tree))
    assert not ann.spiking
    assert [p.path for p in ann.parameters] == [
        p.path for p in flatten(tree).parameters if p.role in ("weight", "bias")
    ]
    assert [s.path for s in ann.steps] == [s.path for s in flatten(tree).steps]
    assert snnx.loads(snnx.dumps(as_ann(tree))) == as_ann(tree)


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_a_shorter_run_gives_the_first_outputs_of_a_longer_one(backend: str) -> None:
    t = loop.start(plan(backend=backend, stages=(), steps=4, compile=False), data())
    batch: Any = loop.Batches(t.dataset, "train", 6, 0).take(np.arange(6))
    long = t.session.forward(batch, t.dials, steps=7).y
    for steps in (1, 2, 4):
        np.testing.assert_array_equal(
            t.session.forward(batch, t.dials, steps=steps).y, long[:steps]
        )


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((Stage(2, 1), Stage(1, 1, ann=True)), "the last stage is an ANN"),
        (((2, 0),), "T and epochs of at least 1"),
        (((2, 1, Cosine(1), -0.5),), "lr must be above 0"),
    ],
)
def test_stages_that_cannot_be_are_refused(stages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(stages=tuple(s if isinstance(s, Stage) else Stage(*s) for s in stages))


def test_a_recurrent_layer_has_no_ann() -> None:
    tree = snnx.Chain(snnx.Input(6), snnx.Linear(4), snnx.Recurrent(snnx.LIF()), snnx.Linear(3))
    with pytest.raises(ValueError, match="Recurrent feeds its spikes back"):
        snnx.fit(tree, data(), stages=STAGES, backend="numpy")


def test_sequences_have_their_own_time() -> None:
    d = data()
    x = np.stack([d.x_train] * 4)
    sequences = Dataset(x, d.y_train, x, d.y_train, name="seq", layout="TNF")
    with pytest.raises(ValueError, match=r"T is 1, .* are sequences of 4 steps; give T = 4"):
        snnx.fit(MODEL, sequences, stages=STAGES, backend="numpy")


def test_an_ann_sees_every_step_of_a_sequence_by_itself() -> None:
    d = data()
    x = np.stack([d.x_train, 0.5 * d.x_train])
    sequences = Dataset(x, d.y_train, x, d.y_train, name="seq", layout="TNF")
    stages = (Stage(2, 2, Cosine(2), ann=True), Stage(2, 1))
    keep = Keep()
    t = loop.start(plan(stages=stages), sequences)
    loop.run(t, keep)
    assert [row["T"] for row in keep.rows] == [2, 2, 2]
    assert ["rates" in row and bool(row["rates"]) for row in keep.rows] == [False, False, True]
    ann = loop.start(plan(stages=stages), sequences)
    batch: Any = {"x": x, "y": d.y_train, "index": np.arange(len(d.y_train))}
    both = ann.session.forward(batch, {}).y
    for step in (0, 1):
        frame: Any = {**batch, "x": x[step : step + 1]}
        alone = ann.session.forward(frame, {}).y
        np.testing.assert_array_equal(alone[0], both[step])


def test_an_ann_has_no_time() -> None:
    stages = (Stage(2, 1, ann=True), Stage(2, 1))
    with pytest.raises(ValueError, match="its T is 1, not 2"):
        snnx.fit(MODEL, data(), stages=stages, backend="numpy")


def made(*words: str) -> recipe.Resolved:
    return recipe.resolve([recipe.read_recipe("digits"), *map(recipe.override, words)])


WORD = "stages=[{T=1, epochs=1, ann=true}, {T=4, epochs=2, lr=0.004}]"


def test_stages_are_a_key_of_recipes(tmp_path: Path) -> None:
    found = made(WORD, "schedule=cosine")
    assert (found.values["T"], found.values["epochs"]) == (4, 3)
    p = recipe_plan.make_plan(found.values, snnx.data.load("digits"))
    assert p.stages == (Stage(1, 1, Cosine(1), ann=True), Stage(4, 2, Cosine(2), 0.004))
    (tmp_path / "again.toml").write_text(found.toml())
    again = recipe.resolve([recipe.read_recipe(str(tmp_path / "again.toml"))])
    assert again.values == found.values
    with pytest.raises(recipe.RecipeError, match=r"epochs \(command line\): the stages say"):
        made(WORD, "epochs=7")
    with pytest.raises(recipe.RecipeError, match=r"stages\.0\.T"):
        made("stages=[{T=0, epochs=1}]")


def test_a_staged_run_is_resumed_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    tiny = ("-b", "numpy", "model.width=0.04", "batch_size=450", "--no-plots", WORD)
    assert main(["train", *tiny, "-o", "whole"]) == 0
    assert "1 epochs at T=1 as an ANN then 2 epochs at T=4" in capsys.readouterr().out
    assert main(["train", *tiny, "-o", "part", "--max-steps", "2"]) == 0
    assert main(["train", "--resume", "part", "--no-plots"]) == 0
    for name in ("model.safetensors", "train_state.safetensors"):
        last = Path("checkpoints/last") / name
        assert ("whole" / last).read_bytes() == ("part" / last).read_bytes()
    assert main(["eval", "part", "--T", "1,2,4"]) == 0
