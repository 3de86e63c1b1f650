"""The neutral loop, on the reference backend; what is resumed, on every one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx import checkpoint as checkpoints
from snnx.backend import Session, installed
from snnx.checkpoint import Checkpoint
from snnx.data import Dataset
from snnx.methods import Method
from snnx.training import loop, recipe, recipe_plan
from snnx.training.plan import Plan
from snnx.training.schedules import Cosine

FRAMEWORKS = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is absent"))
    for name in ("torch", "mlx")
]


def data(samples: int = 24, features: int = 6) -> Dataset:
    """Three classes that differ in which features are large; no random numbers."""
    y = np.arange(samples) % 3
    x = 0.3 + 0.1 * np.cos(np.arange(samples * features).reshape(samples, features))
    x += np.eye(3).repeat(features // 3, axis=1)[y]
    x = x.astype(np.float32)
    return Dataset(x[6:], y[6:], x[:6], y[:6], name="three", label="synthetic")


def model(surrogate: snnx.Dspike | snnx.Triangular | None = None) -> snnx.Chain:
    return snnx.Chain(
        snnx.Input(6),
        snnx.Linear(8),
        snnx.BatchNorm(),
        snnx.LIF(surrogate=surrogate or snnx.Triangular()),
        snnx.Dropout(0.1),
        snnx.Linear(3),
    )


def plan(**changes: Any) -> Plan:
    values = {
        "model": model(),
        "optim": snnx.Optim(snnx.Adam(lr=snnx.Dial("lr", 0.02))),
        "schedule": Cosine(3),
        "steps": 3,
        "epochs": 3,
        "batch_size": 5,
        "backend": "numpy",
    }
    return Plan(**{**values, **changes})


@dataclass
class Keep(loop.Nobody):
    """Keeps rows and checkpoints, and stops after a number of steps."""

    stop_after: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    asked: int = 0

    def epoch(self, row: loop.Row) -> None:
        self.rows.append({k: v for k, v in row.items() if k != "seconds"})

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)

    def stop(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_after


def same(a: Session, b: Session) -> None:
    one, two = a.export(), b.export()
    assert one.count == two.count
    for kind in ("parameters", "statistics", "moments"):
        x, y = getattr(one, kind), getattr(two, kind)
        assert x.keys() == y.keys()
        assert x
        assert all(np.array_equal(x[k], y[k]) for k in x)


def test_the_loss_falls_and_every_epoch_has_a_row() -> None:
    training, keep = loop.start(plan(), data()), Keep()
    loop.run(training, keep)
    assert [row["epoch"] for row in keep.rows] == [1, 2, 3]
    assert keep.rows[-1]["loss"] < keep.rows[0]["loss"]
    assert [row["dials"]["lr"] for row in keep.rows] == pytest.approx([0.02, 0.015, 0.005])
    assert training.step == 12


@pytest.mark.parametrize("stop_after", [1, 4, 6, 11])
@pytest.mark.parametrize("backend", ["numpy", *FRAMEWORKS])
def test_a_resumed_run_equals_one_that_never_stopped(
    tmp_path: Path, backend: str, stop_after: int
) -> None:
    asked = plan(backend=backend, compile=False)
    whole, keep = loop.start(asked, data()), Keep()
    loop.run(whole, keep)
    stopped = Keep(stop_after)
    with pytest.raises(loop.Interrupted, match=f"after optimiser step {stop_after}"):
        loop.run(loop.start(asked, data()), stopped)
    checkpoints.save(tmp_path, stopped.checkpoints[-1])
    found = checkpoints.load(tmp_path, lambda text: None)
    rest, after = loop.start(asked, data(), found), Keep()
    loop.run(rest, after)
    same(whole.session, rest.session)
    assert stopped.rows + after.rows == keep.rows


def test_max_steps_ends_in_the_middle_of_an_epoch_and_goes_on_from_there() -> None:
    whole = loop.start(plan(), data())
    loop.run(whole, loop.Nobody())
    keep = Keep()
    part = loop.start(plan(max_steps=5), data())
    loop.run(part, keep)
    assert (part.step, part.epoch, part.batch) == (5, 1, 1)
    rest = loop.start(plan(), data(), keep.checkpoints[-1])
    loop.run(rest, loop.Nobody())
    same(whole.session, rest.session)


@dataclass(frozen=True)
class Warm(Method):
    """A method that raises a temperature every epoch, from what the last one was."""

    seen: list[float] = field(default_factory=list)

    def before_epoch(self, training: loop.Training) -> None:
        training.dials["temperature"] *= 2.0
        training.note("warmth", training.dials["temperature"])
        self.seen.append(training.dials["temperature"])


def test_a_method_sets_a_dial_before_each_epoch() -> None:
    warm, cold = Warm(), loop.start(plan(model=model(snnx.Dspike())), data())
    training = loop.start(plan(model=model(snnx.Dspike()), methods=(warm,)), data())
    loop.run(training, loop.Nobody())
    loop.run(cold, loop.Nobody())
    assert warm.seen == [2.0, 4.0, 8.0]
    a, b = training.session.export().parameters, cold.session.export().parameters
    assert not np.array_equal(a["1.weight"], b["1.weight"])


def test_a_method_goes_on_where_it_was() -> None:
    whole = loop.start(plan(model=model(snnx.Dspike()), methods=(Warm(),)), data())
    loop.run(whole, loop.Nobody())
    stopped = Keep(6)
    first = loop.start(plan(model=model(snnx.Dspike()), methods=(Warm(),)), data())
    with pytest.raises(loop.Interrupted):
        loop.run(first, stopped)
    warm = Warm()
    changed = plan(model=model(snnx.Dspike()), methods=(warm,))
    rest = loop.start(changed, data(), stopped.checkpoints[-1])
    loop.run(rest, loop.Nobody())
    assert warm.seen == [8.0]
    same(whole.session, rest.session)


def test_a_loss_that_is_not_finite_stops_with_its_step_and_place() -> None:
    huge = plan(optim=snnx.Optim(snnx.SGD(lr=snnx.Dial("lr", 1e38))), schedule=Cosine(9))
    with pytest.raises(loop.Diverged, match=r"step \d+.*not finite|overflow") as caught:
        loop.run(loop.start(huge, data()), loop.Nobody())
    assert caught.value.step < 12


def test_a_checkpoint_of_another_model_is_refused() -> None:
    keep = Keep()
    loop.run(loop.start(plan(max_steps=1), data()), keep)
    other = snnx.Chain(snnx.Input(6), snnx.Linear(4), snnx.LIF(), snnx.Linear(3))
    with pytest.raises(checkpoints.CheckpointError, match="does not fit the model"):
        loop.start(plan(model=other), data(), keep.checkpoints[-1])


def test_fit_trains_on_arrays_and_keeps_the_run(tmp_path: Path) -> None:
    d = data()
    arrays = (d.x_train, d.y_train, d.x_test, d.y_test)
    options: dict[str, Any] = {"backend": "numpy", "steps": 2, "batch_size": 6}
    out = tmp_path / "run"
    result = snnx.fit(model(), arrays, epochs=2, out=out, **options)
    assert len(result.history) == 2
    assert 0.0 <= result.test_accuracy <= 1.0
    assert (out / "DONE").exists()
    more = snnx.fit(model(), arrays, epochs=3, resume=out, **options)
    assert [row["epoch"] for row in more.history] == [3]
    straight = snnx.fit(model(), arrays, epochs=3, **options)
    same(straight.session, more.session)


def test_sequences_bring_their_own_number_of_steps() -> None:
    d = data()
    x_train = np.stack([d.x_train] * 4)
    sequences = Dataset(
        x_train, d.y_train, x_train[:, :6], d.y_train[:6], name="seq", layout="TNF",
        lengths_test=np.array([1, 2, 3, 4, 4, 4]),
    )  # fmt: skip
    result = snnx.fit(model(), sequences, epochs=1, backend="numpy")
    assert result.values["T"] == 4


@pytest.mark.parametrize("change", [{"epochs": 0}, {"seed": -1}, {"objective": snnx.MSE()}])
def test_a_plan_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"epochs|seed|MSE"):
        plan(**change)


def made(*words: str) -> recipe.Resolved:
    return recipe.resolve([recipe.read_recipe("digits"), *map(recipe.override, words)])


def test_later_layers_win_and_are_named() -> None:
    layers = [
        recipe.read_recipe("digits"),
        recipe.override("epochs=3"),
        ({"epochs": 4}, "--epochs"),
    ]
    found = recipe.resolve(layers)
    assert found.values["epochs"] == 4
    assert found.origins["epochs"] == "--epochs"
    assert found.origins["batch_size"] == "recipe digits"
    assert found.origins["optim.eps"] == "default"


def test_the_printed_recipe_is_a_recipe(tmp_path: Path) -> None:
    found = made('optim.groups."1.weight".lr=0.5', "optim.betas=[0.8, 0.9]")
    (tmp_path / "again.toml").write_text(found.toml())
    again = recipe.resolve([recipe.read_recipe(str(tmp_path / "again.toml"))])
    assert again.values == found.values


def test_another_name_begins_its_table_anew() -> None:
    found = made("optim=sgd", "optim.momentum=0.9")
    assert found.values["optim"]["lr"] == 0.1
    assert found.origins["optim.name"] == "command line"


def test_a_group_has_a_learning_rate_of_its_own() -> None:
    values = made("optim.groups.bias.lr=0.5").values
    made_plan = recipe_plan.make_plan(values, snnx_digits())
    dials = made_plan.optim.dials(made_plan.program())
    assert dials == {"lr": values["optim"]["lr"], "lr.bias": 0.5}


def snnx_digits() -> Dataset:
    from snnx.data import digits

    return digits()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lr=3", r"lr \(command line\): unknown key; did you mean 'optim.lr'"),
        ("optim.lrr=3", "did you mean 'optim.lr'"),
        ("epoch=3", "did you mean 'epochs'"),
        ("optim=adan", "there is no optim 'adan'; did you mean 'adam'"),
        ("optim=3", "expects a name or a table, got 3"),
        ("epochs=0", "greater than or equal to 1, got 0"),
        ("epochs=2.5", "valid integer, got 2.5"),
        ("T=", "valid integer, got ''"),
        ("seed=4294967296", "less than 4294967296"),
        ("objective.mse=true", "valid number, got True"),
        ("objective.mse=2", "share in"),
        ("neuron.decay=nan", "finite number"),
        ("neuron.reset=foo", "neuron.reset"),
        ("surrogate.width=-1", "width must be above 0"),
        ("optim.groups.wieght.lr=1", "no parameter has the group or path"),
        ("model=resnet", "there is no model 'resnet'"),
        ("model=none.json", "none.json: cannot be read: No such file"),
        ("=3", "expects KEY=VALUE"),
        ("precision=fp8", "precision"),
    ],
)
def test_a_wrong_key_or_value_is_named(word: str, message: str) -> None:
    with pytest.raises(recipe.RecipeError, match=message):
        recipe_plan.make_plan(made(word).values, snnx_digits())


def test_a_model_file_refuses_neuron_options(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(snnx.dumps(model()))
    values = made(f"model={path}").values
    assert recipe_plan.make_plan(values, data()).model == model()
    with pytest.raises(recipe.RecipeError, match="holds its own neurons"):
        made(f"model={path}", "neuron.decay=0.1")
    with pytest.raises(recipe.RecipeError, match=r"Input is \(6,\), the samples"):
        recipe_plan.make_plan(values, snnx_digits())
