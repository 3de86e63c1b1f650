"""`snnx train` in two processes: one run folder, the same numbers, and faults that are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from launched import run

from snnx import checkpoint as checkpoints
from snnx.backend import BackendError, default_backend, load_backend
from snnx.cli import main
from snnx.commands.failures import guarded
from snnx.launch import Launch
from snnx.ops.levels import TRAINING
from snnx.patience import Patience
from snnx.world import ALONE, RankLost, World, launched, timeout

FAULT = str(Path(__file__).with_name("parallel_fault.py"))
# every spike is smooth while it trains (ASGL with no share of spikes), so that nothing can flip
WORDS = (
    *("digits", "model.width=0.04", "batch_size=449", "epochs=1", "method=asgl", "method.p=0.0"),
    *("model.batch_norm=true", "optim.eps=1e-3", "--no-plots"),
)
BACKENDS = ("torch", "mlx")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_write_one_run_with_the_numbers_of_one(backend: str, tmp_path: Path) -> None:
    both, one = tmp_path / "both", tmp_path / "one"
    words = ("-m", "snnx", "train", *WORDS, "-b", backend, "--device", "cpu")
    done = run(backend, 2, *words, "--out", str(both))
    assert (both / "DONE").exists(), done.stderr
    assert done.stdout.count("epoch 1/1") == 1
    assert "processes  2   batch norms synchronised" in done.stdout
    assert main(["train", *WORDS, "-b", backend, "--device", "cpu", "--out", str(one)]) == 0
    results = [json.loads((path / "result.json").read_text()) for path in (both, one)]
    assert [r["processes"] for r in results] == [2, 1]
    assert results[0]["test_samples"] == results[1]["test_samples"]
    rows = [json.loads((path / "metrics.jsonl").read_text()) for path in (both, one)]
    for key in ("loss", "gradient_norm"):
        np.testing.assert_allclose(rows[0][key], rows[1][key], rtol=TRAINING)
    assert rows[0]["train_accuracy"] == pytest.approx(rows[1]["train_accuracy"], abs=2e-3)
    found, wanted = (checkpoints.load(path, pytest.fail).snapshot for path in (both, one))
    for kind in ("parameters", "statistics"):
        for name, array in getattr(wanted, kind).items():
            miss = np.abs(getattr(found, kind)[name] - array).max()
            assert miss <= TRAINING * np.abs(array).max(), f"{kind} {name} off by {miss}"


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_that_dies_ends_the_others_with_a_reason(backend: str, tmp_path: Path) -> None:
    words = (FAULT, "die", "train", *WORDS, "-b", backend, "--device", "cpu")
    done = run(backend, 2, *words, "--out", str(tmp_path / "run"))
    assert "another process of the run has died" in done.stderr
    assert (tmp_path / "run" / "FAILED").read_text().startswith("1\n")
    assert checkpoints.load(tmp_path / "run", pytest.fail).step == 0
    if backend == "torch":  # mlx.launch itself says nothing by its exit code
        assert done.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_that_hangs_is_not_waited_for_for_ever(backend: str, tmp_path: Path) -> None:
    words = (FAULT, "hang", "train", *WORDS, "-b", backend, "--device", "cpu")
    done = run(backend, 2, *words, "--out", str(tmp_path / "run"), SNNX_TIMEOUT="12")
    text = "rank 0 of 2: waited 12 s for the other processes in optimiser step"
    assert text in done.stderr
    assert text in (tmp_path / "run" / "FAILED").read_text()


def test_launchers_are_known_by_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "here", "LOCAL_RANK": "3"}
    found = launched(torchrun)
    assert found is not None
    assert (found.backend, found.rank) == ("torch", 3)
    found = launched({"MLX_RANK": "1", "MLX_HOSTFILE": "hosts.json"})
    assert found is not None
    assert (found.backend, found.rank) == ("mlx", 1)
    assert launched({"RANK": "3"}) is None
    monkeypatch.setenv("MLX_RANK", "0")
    assert default_backend() == "mlx"
    for name in ("torch", "numpy"):
        with pytest.raises(BackendError, match=r"mlx\.launch"):
            load_backend(name).world("cpu")
    monkeypatch.delenv("MLX_RANK")
    for name in ("torch", "mlx", "numpy"):
        assert load_backend(name).world("cpu") == ALONE


def test_a_timeout_that_is_no_time_is_refused() -> None:
    assert timeout({}) == 600.0
    for text in ("0", "-1", "soon", "inf", "nan"):
        with pytest.raises(BackendError, match="SNNX_TIMEOUT"):
            timeout({"SNNX_TIMEOUT": text})


@pytest.mark.parametrize(("samples", "size"), [(7, 2), (3, 4), (8, 4), (1, 3)])
def test_shares_are_the_whole_batch_in_order(samples: int, size: int) -> None:
    seen: list[int] = []
    for rank in range(size):
        own, (count, total) = World(rank, size).share(samples)
        assert total == samples
        assert len(range(samples)[own]) == max(count, 1)
        seen += list(range(samples)[own])[:count]
    assert seen == list(range(samples))


def test_processes_that_differ_are_told() -> None:
    def other(array: np.ndarray) -> np.ndarray:
        return np.stack([array, array ^ 1])

    world = World(0, 2, None, other)
    with pytest.raises(RankLost, match=r"the data: .*ranks \[1\]"):
        world.check_alike("the data", "abc")
    ALONE.check_alike("the data", "abc")


def test_patience_ends_nobody_who_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import time

    told, ended = [], threading.Event()
    monkeypatch.setattr("snnx.patience.os._exit", lambda code: ended.set())
    patience = Patience(0.2, "rank 0 of 2", told.append)
    with patience.waiting("a quick place"):
        pass
    time.sleep(0.5)
    assert not told
    with patience.waiting("step 7"):
        assert ended.wait(10)
    assert "rank 0 of 2: waited 0.2 s for the other processes in step 7" in told[0]


def test_a_session_is_given_shares_where_others_have_the_rest() -> None:
    from snnx.batch import check_share

    whole: Any = {"index": np.arange(4)}
    assert check_share(whole, None) is None
    with pytest.raises(ValueError, match="2 processes train together"):
        check_share(whole, 2)
    for share in ((3, 8), (4, 3), (0, 8)):
        with pytest.raises(ValueError, match="batch share"):
            check_share({**whole, "share": share}, 2)
    with pytest.raises(ValueError, match="no other process"):
        check_share({**whole, "share": (4, 8)}, None)
    assert check_share({**whole, "share": (4, 8)}, 2) == (4, 8)


def test_a_lost_process_is_told_once_and_without_gloos_place_in_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def all_reduce(self, *arguments: object, **options: object) -> None:
            raise RuntimeError(
                "[/x/gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:6035. This is "
                "typically caused by a crash.\nmore"
            )

        def get_rank(self, group: object) -> int:
            return 1

        def get_world_size(self, group: object) -> int:
            return 2

    ranks = pytest.importorskip("snnx_torch.ranks")
    monkeypatch.setattr(ranks, "dist", Gone())
    monkeypatch.setattr("snnx.commands.failures.launched", lambda: Launch("torchrun", "torch", 1))

    @guarded
    def command() -> None:
        ranks.Ranks(None).sum(ranks.torch.zeros(1))

    with pytest.raises(typer.Exit):
        command()
    said = capsys.readouterr().err.replace("\n", " ")
    text = "rank 1: another process of the run has died or hangs (Connection closed by peer "
    assert f"error: {text}[127.0.0.1]:6035)" in said
    assert said.count("rank 1") == 1
