"""The scripts for a GPU: a row that fails costs no other, and no wrong net has a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)

import network_check as check  # noqa: E402
import network_common as common  # noqa: E402
import network_group as groups  # noqa: E402
import network_ours as ours  # noqa: E402
import network_plain as plain  # noqa: E402
import networks  # noqa: E402
import plain_neurons  # noqa: E402
import rows  # noqa: E402

TINY: common.Case = {
    "model": "resnet18", "T": 2, "batch": 2, "width": 0.04, "input": [8, 8, 3],
    "precision": "fp32", "compile": False, "how": "ours",
}  # fmt: skip
SHD: common.Case = {**TINY, "model": "shd", "T": 5, "width": 0.05}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "TIMED", 1)
    monkeypatch.setattr(groups, "ROUNDS", 1)
    monkeypatch.setattr(common, "NARROW", 0.08)


def chosen(tmp_path: Path, *words: str) -> Any:
    return rows.options("", 60.0).parse_args(["--out", str(tmp_path / "o.json"), *words])


def test_a_row_that_fails_hangs_or_says_nothing_costs_no_other(tmp_path: Path) -> None:
    codes = {
        "good": "print('chatter'); print('{\"ms\": 1.5}')",
        "raises": "raise ValueError('the reason')",
        "hangs": "import time; time.sleep(60)",
        "dies": "import os; os.kill(os.getpid(), 11)",
        "talks": "print('no JSON')",
        "last": "print('{\"ms\": 2.5}')",
    }

    def run(row: rows.Row, seconds: float) -> rows.Row:
        return rows.measured([sys.executable, "-c", codes[row["row"]]], {}, seconds)

    listed = [({"row": name}, 3.0 if name == "hangs" else 30.0) for name in codes]
    failed = rows.taken(chosen(tmp_path), listed, run, str)
    found = json.loads((tmp_path / "o.json").read_text())
    by_name = {row["row"]: row for row in found["rows"]}
    assert failed == found["failed"] == 4
    assert (by_name["good"]["ms"], by_name["last"]["ms"]) == (1.5, 2.5)
    assert "the reason" in by_name["raises"]["failed"]
    assert "no answer in 3 s" in by_name["hangs"]["failed"]
    assert "exit -11" in by_name["dies"]["failed"]
    assert "no JSON" in by_name["talks"]["failed"]


def test_what_a_row_started_ends_with_it() -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', "
    code += "'import time; time.sleep(60)']); print('{}')"
    row = rows.measured([sys.executable, "-c", code], {}, 20.0)
    assert "failed" not in row
    assert row["seconds"] < 15.0, "a grandchild that holds the output is not waited for"


def test_a_spent_budget_is_said_and_the_json_stands_after_every_row(tmp_path: Path) -> None:
    out, seen = tmp_path / "o.json", []

    def run(row: rows.Row, seconds: float) -> rows.Row:
        seen.append((row["row"], seconds, out.exists()))
        return {}

    both = [({"row": "a 1"}, 30.0), ({"row": "a 2"}, 90.0), ({"row": "b"}, 30.0)]
    rows.taken(chosen(tmp_path, "--rows", "a"), both, run, str)
    assert [(name, there) for name, _, there in seen] == [("a 1", False), ("a 2", True)]
    assert seen[1][1] <= 60.0, "no row may take more than what is left"
    rows.taken(chosen(tmp_path, "--budget", "1"), both, run, str)
    found = json.loads(out.read_text())
    assert found["skipped"] == 3
    assert "the budget of 1 s" in found["rows"][0]["skipped"]
    with pytest.raises(SystemExit, match="no row begins with"):
        rows.taken(chosen(tmp_path, "--rows", "c"), both, run, str)


@pytest.mark.slow
def test_our_own_net_is_that_of_the_reference_in_the_step_that_is_timed() -> None:
    found = ours.ours(TINY)
    assert found["check"]["error"] <= found["check"]["allowed"] == 1e-4
    assert found["check"]["spikes"] > 1000
    assert check.RATES[0] <= found["rate"] <= check.RATES[1]
    assert found["device_ms"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["a weight", "a gradient", "a spike"])
def test_a_session_that_is_wrong_has_no_time(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    right = check.session_answer

    def damaged(*given: Any, **more: Any) -> check.Answer:
        answer = right(*given, **more)
        first = next(iter(answer.spikes))
        if wrong == "a gradient":
            name, g = max(answer.gradients.items(), key=lambda kv: float(np.abs(kv[1]).max()))
            answer.gradients = {**answer.gradients, name: g * 1.01}
        elif wrong == "a spike":
            answer.spikes[first].flat[0] = 1.0 - answer.spikes[first].flat[0]  # type: ignore[index]
        return answer

    monkeypatch.setattr(ours, "session_answer", damaged)
    if wrong == "a weight":
        weights = common.weights
        shifted = lambda *a: {k: v * np.float32(1.02) for k, v in weights(*a).items()}  # noqa: E731
        calls = iter([weights, shifted])
        monkeypatch.setattr(ours, "weights", lambda *a: next(calls, shifted)(*a))
    found = ours.ours(TINY)
    assert "device_ms" not in found
    assert found["check"]["batches"] == check.TRIES
    assert found["refused"]


@pytest.mark.parametrize("how", ["relu", "loop", "inference loop"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_plain_nets_meet_the_same_reference(how: str, precision: str) -> None:
    found = plain.checked({**TINY, "how": how, "precision": precision})
    assert "refused" not in found, found
    assert (found["check"]["spikes"] > 0) == (how != "relu")
    if how == "relu" and precision == "bf16":
        assert found["check"]["gradients_in_fp32"]["allowed"] == 1e-4


def test_a_plain_net_of_another_neuron_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(plain_neurons.Loop):
        def forward(self, x: Any) -> Any:
            return super().forward(0.9 * x)

    monkeypatch.setattr(plain_neurons, "Loop", Other)
    found = plain.plain({**TINY, "how": "loop"})
    assert "spikes are not those of the reference" in found["refused"]
    assert "device_ms" not in found


def test_the_recurrent_nets_agree_and_fire_as_they_are_to() -> None:
    for how, checked in (("ours", ours.checked), ("loop", plain.checked)):
        assert "refused" not in checked({**SHD, "how": how})
    full = {**SHD, "T": 60, "batch": 8, "width": 1.0, "kernels": "generic"}
    rate = ours.at_rate(ours.session_of(full), full)
    assert "refused" not in rate, rate


def test_a_net_outside_of_its_rates_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "FIRST_WEIGHTS", {"shd": 1.0})
    assert "mean rate is 0.0" in ours.at_rate(ours.session_of(SHD), SHD)["refused"]
    found = plain.plain({**SHD, "how": "loop"})
    assert "mean rate" in found["refused"]


@pytest.mark.slow
def test_one_process_in_a_group_keeps_every_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = groups.group({**TINY, "how": "group"})
    assert found["group"] == "gloo"
    assert found["gradients_equal"] is True
    assert found["repeats_itself"] is True
    assert found["ratio"] == pytest.approx(found["device_ms"] / found["alone_ms"])
    assert found["within"] == (found["ratio"] <= 1.05)


@pytest.mark.slow
def test_a_group_that_changes_a_bit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnx_torch.ranks import Ranks

    right = Ranks.sum
    monkeypatch.setattr(Ranks, "sum", lambda self, x: right(self, x) * (1.0 + 2.0**-23))
    found = groups.group({**TINY, "how": "group"})
    assert found["gradients_equal"] is False
    assert "after step 0" in found["differing"][0]
    assert "has other bits" in found["refused"]
    assert "device_ms" not in found


def test_rows_that_a_table_names_are_there_and_the_important_come_first() -> None:
    listed = networks.cases(cpu=False)
    names = list(dict.fromkeys(case["row"] for case in listed))
    assert names[0] == "resnet18 T=4 bf16"
    for row in ("resnet18 T=4 tf32", "resnet19 T=4 bf16", "resnet19 T=6 bf16"):
        hows = [case["how"] for case in listed if case["row"] == row]
        assert {"ours", "relu", "spikingjelly 32"} <= set(hows)
    assert set(names) >= {"nccl", "as a run", "first step", "recurrent", "dsr", "inference", "mlx"}
    assert next(iter(networks.cases(cpu=True)))["row"] == names[0]
