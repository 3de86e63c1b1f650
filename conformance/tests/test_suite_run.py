"""`snnx conform`, its records and explanations, and a third-party backend under the suite."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import snnx.installed
from snnx.backend import load_backend
from snnx_conformance import explain
from snnx_conformance.record import RecordError, compare_records, read
from snnx_conformance.reference import nets
from snnx_conformance.run import main

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register the backends of toy_backend.py as an installed package would."""
    spec = importlib.util.spec_from_file_location("toy_backend", HERE / "toy_backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy_backend", module)
    spec.loader.exec_module(module)
    group = "snnx.backends"
    points = EntryPoints(
        [
            EntryPoint("toy", "toy_backend:backend", group),
            EntryPoint("wrong", "toy_backend:wrong", group),
        ]
    )
    monkeypatch.setattr(snnx.installed, "entry_points", lambda group: points)
    return module


def test_third_party_backend_runs_the_suite(
    toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "matrix.json"
    code = main(["--backends", "numpy,toy", "--quick", "--json", str(place)])
    out = capsys.readouterr().out
    assert code == 0, out
    table = json.loads(place.read_text())
    assert table["passed"]
    assert table["matrix"]["ops/toy"]["missing"] == 1
    assert table["matrix"]["exact/toy"]["passed"] > 5
    assert table["matrix"]["models/toy"]["share"] == 1.0
    assert table["matrix"]["models/toy"]["missing"] > 0  # the networks with a Poisson encoder
    assert "1 missing" in out


def test_wrong_backend_turns_the_suite_red(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backends", "wrong", "--level", "ops", "--quick"]) == 5
    assert "gradient x off by" in capsys.readouterr().out


def test_absent_backend_is_an_error_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backends", "numpy,nope"]) == 4
    assert "no backend 'nope'; there are numpy" in capsys.readouterr().out


def test_unknown_level_and_option_are_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--level", "oops"]) == 2
    assert main(["--tol", "1"]) == 2
    assert main(["--help"]) == 0
    capsys.readouterr()


def test_run_of_no_case_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backends", "numpy", "--level", "ops", "--case", "no such case"]) == 5
    assert "nothing was compared" in capsys.readouterr().out


@pytest.fixture
def records(toy: Any, tmp_path: Path) -> list[Path]:
    places = [tmp_path / f"{name}.json" for name in ("numpy", "toy")]
    for place in places:
        argv = ["--backends", place.stem, "--level", "ops,exact", "--quick"]
        assert main([*argv, "--record", str(place)]) == 0
    return places


def test_records_are_compared_without_a_framework(records: list[Path]) -> None:
    code = (
        "import sys; from snnx_conformance.run import main; "
        f"code = main(['--compare', {str(records[0])!r}, {str(records[1])!r}]); "
        "assert not {'torch', 'mlx'} & set(sys.modules); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cases bit for bit" in done.stdout


def test_records_of_other_bits_specs_or_nothing_are_no_match(records: list[Path]) -> None:
    a, b = (read(place) for place in records)
    verdict = compare_records(a, b)
    assert verdict.passed
    assert verdict.exact > 20
    assert verdict.close > 20
    key = next(k for k, v in b["backends"]["toy"]["cases"].items() if v["digest"])
    b["backends"]["toy"]["cases"][key]["digest"] = "0" * 64
    problems = compare_records(a, b).problems
    assert len(problems) == 1
    assert key in problems[0]
    b["backends"]["toy"]["cases"] = {}
    assert any("nothing was compared" in p for p in compare_records(a, b).problems)
    with pytest.raises(RecordError, match="different specs"):
        compare_records(a, {**b, "spec": "0" * 64})


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"backends": {}, "spec": "a", "format": 9}'])
def test_file_that_is_no_record_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "record.json"
    place.write_text(text)
    assert main(["--compare", str(place), str(place)]) == 3
    assert str(place) in capsys.readouterr().out.replace("\n", "")


def test_missing_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 3
    capsys.readouterr()


def test_first_flip_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy, net = load_backend("numpy"), nets()["deep"]
    assert explain.explain(numpy, numpy, net, 0) is None
    plain = explain.observed

    class Other:
        name = "other"

    monkeypatch.setattr(
        explain, "observed", lambda b, n, s: _flipped(plain(numpy, n, s), b.name == "other")
    )
    text = explain.explain(numpy, Other(), net, 0)  # type: ignore[arg-type]
    assert text is not None
    assert "step 2 (LIF), time 3, sample 1, neuron [5]" in text
    assert "1 spikes differ" in text


def _flipped(runs: dict[str, Any], flip: bool) -> dict[str, Any]:
    if flip:
        spikes = runs["2.spike"].copy()
        spikes[3, 1, 5] = 1 - spikes[3, 1, 5]
        runs["2.spike"] = spikes
    return runs
