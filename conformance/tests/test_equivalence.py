"""The test of equivalence: its numbers, its resumption, and the result that is committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from snnx.ops import hash_of
from snnx_conformance import equivalence
from snnx_conformance.equivalence import identity, main, tost

RECORDS = Path(__file__).parents[1] / "records"
COMMITTED = [
    RECORDS / "equivalence.json",
    RECORDS / "equivalence-kernels-digits.json",
    RECORDS / "equivalence-kernels-fashion.json",
]


A = [0.985, 0.981, 0.987, 0.983, 0.984, 0.986, 0.982, 0.985, 0.983, 0.984]


def test_two_samples_worked_by_hand() -> None:
    """Equal variances: s^2 = 3.33e-6 on each side, so the error is sqrt(2 s^2 / 10), 18 degrees."""
    b = [x - 0.002 for x in A]
    found = tost(A, b)
    variance = sum((x - 0.984) ** 2 for x in A) / 9
    assert found["difference"] == pytest.approx(0.002)
    assert found["standard_error"] == pytest.approx((2 * variance / 10) ** 0.5)
    assert found["degrees_of_freedom"] == pytest.approx(18.0)
    t = 0.008 / found["standard_error"]
    assert found["p"] == pytest.approx(float(stats.t.sf(t, 18.0)))
    assert found["equivalent"]


@pytest.mark.parametrize("shift", [0.0099, 0.012, -0.012, 0.3])
def test_difference_near_or_over_the_margin_is_not_equivalent(shift: float) -> None:
    assert not tost(A, [x + shift for x in A])["equivalent"]


def test_noise_is_not_equivalence() -> None:
    wide = [0.9, 1.0, 0.93, 0.99, 0.91, 0.97]
    assert not tost(wide, wide)["equivalent"]


def test_runs_without_any_spread() -> None:
    assert tost([0.98, 0.98], [0.98, 0.98])["equivalent"]
    assert not tost([0.98, 0.98], [0.96, 0.96])["equivalent"]
    with pytest.raises(ValueError, match="two runs a side"):
        tost([0.98], [0.98, 0.97])


def test_stopped_test_goes_on_seed_by_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[str, int]] = []

    def accuracy(recipe: str, backend: str, seed: int, words: Any) -> dict[str, Any]:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((backend, seed))
        return {"test_accuracy": A[seed], "seconds": 1.0, "describe": {}}

    monkeypatch.setattr(equivalence, "accuracy", accuracy)
    argv = ["--seeds", "2", "--out", str(tmp_path / "e.json"), "--sides", "torch,mlx"]
    with pytest.raises(KeyboardInterrupt):
        main(argv)
    first, made[:] = list(made), []
    assert main(argv) == 0
    assert first + made == [("torch", 0), ("mlx", 0), ("torch", 1), ("mlx", 1)]
    assert main([*argv, "epochs=1"]) == 2  # the file is of another recipe
    assert "move the file away" in capsys.readouterr().err


@pytest.mark.parametrize("place", COMMITTED, ids=lambda place: place.stem)
def test_committed_result_is_of_this_spec_and_passed(place: Path) -> None:
    content = json.loads(place.read_text(encoding="utf-8"))
    recipe, *words = content["recipe"]
    assert content["spec"] == hash_of(content["ops"])
    if recipe == "digits":  # embedded; other data need not be here
        now = identity(recipe, words)
        assert {key: content[key] for key in now} == now
    runs = [[run["test_accuracy"] for run in r.values()] for r in content["runs"].values()]
    assert [len(r) for r in runs] == [equivalence.SEEDS] * 2
    assert content["test"] == tost(runs[0], runs[1]) | {
        k: pytest.approx(content["test"][k])
        for k in ("difference", "standard_error", "degrees_of_freedom", "p")
    } | {"means": pytest.approx(content["test"]["means"])}
    assert content["test"]["equivalent"]


@pytest.mark.parametrize("place", COMMITTED[1:], ids=lambda place: place.stem)
def test_a_side_was_run_as_it_says(place: Path) -> None:
    runs = json.loads(place.read_text(encoding="utf-8"))["runs"]
    for side, name in (("generic/lean=false", "neuron: generic"), ("fused/lean=true", "cpp")):
        found = [r for key, r in runs.items() if key.endswith(side)]
        assert found
        assert all(name in run["describe"]["neurons"] for run in found[0].values())
