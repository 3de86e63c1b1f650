"""Runs of several processes that are told to stop, and go on with another number of them."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launched import started

import snnx
from snnx import checkpoint as checkpoints
from snnx.cli import main
from snnx.random import integers
from snnx_conformance.training import ROUNDED

STOP = str(Path(__file__).with_name("parallel_stop.py"))
BACKENDS = ("torch", "mlx")
STOPPED = 143
EXACT = (
    *("model=net.json", "data=data.npz", "objective=rate_mse", "objective.high=2.0", "T=4"),
    *("optim=rounded_sgd", "optim.lr=0.5", "optim.grid=0.125", "schedule=constant", "method=plain"),
    *("batch_size=8", "--no-plots", "--device", "cpu"),
)
WEIGHTS = Path("checkpoints/last/model.safetensors")


@pytest.fixture(autouse=True)
def exact_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network and data on a dyadic grid, the last batch of which has four samples."""
    monkeypatch.chdir(tmp_path)
    Path("net.json").write_text(snnx.dumps(ROUNDED[0][0].model))
    x = integers(3, 1, "test", "stop", 0, [0], [0], 44 * 8).reshape(44, 8) / np.float32(2)
    y = np.arange(44) % 4
    np.savez("data.npz", x_train=x[:36], y_train=y[:36], x_test=x[36:], y_test=y[36:])


def place(folder: str) -> Any:
    return checkpoints.load(folder, pytest.fail)


def launched_train(backend: str, processes: int, whom: str, folder: str, *words: str) -> str:
    """Run `snnx train` under a launcher, or here where it is one process; return what it said."""
    if processes == 1:
        assert main(["train", *words]) == 0
        return ""
    given = (STOP, whom, folder, "train", *words)
    codes, until = Path(f"{folder}.codes"), time.monotonic() + 60
    codes.write_text("")
    with started(backend, processes, *given, LAST=str(processes - 1)) as launcher:
        text = "".join(launcher.communicate(timeout=240))
        while len(codes.read_text().split()) < 2 * processes and time.monotonic() < until:
            time.sleep(0.1)  # the launcher may end before they do
    return text


def stopped(backend: str, processes: int, whom: str) -> Any:
    """Start a long run, have it stopped, and return where it stands."""
    words = (*EXACT, "-b", backend, "epochs=5000", "-o", "run")
    text = launched_train(backend, processes, whom, "run", *words)
    steps = dict(line.split() for line in Path("run.steps").read_text().splitlines())
    assert len(steps) == processes, text
    assert len(set(steps.values())) == 1, text  # all end after the same step
    codes = Path("run.codes").read_text().splitlines()
    assert set(codes) == {f"{rank} {STOPPED}" for rank in range(processes)}, text
    assert Path("run/FAILED").read_text().startswith(f"{STOPPED}\n")
    found = place("run")
    assert found.step == int(steps["0"])
    assert found.epoch >= 2
    return found


def goes_on(backend: str, processes: int, epochs: int) -> None:
    """Resume to the end of an epoch; the end has the bits of the run that was never stopped."""
    words = ("--resume", "run", f"epochs={epochs}", "--no-plots")
    text = launched_train(backend, processes, "nobody", "run", *words)
    assert Path("run/DONE").exists(), text
    assert place("run").step == 5 * epochs
    assert main(["train", *EXACT, "-b", "numpy", f"epochs={epochs}", "-o", "whole", "-q"]) == 0
    ours, wanted = (place(folder).snapshot.parameters for folder in ("run", "whole"))
    assert ours.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
        assert np.any(array)
    assert Path("run", WEIGHTS).read_bytes() == Path("whole", WEIGHTS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "whom"),
    [
        pytest.param("torch", "one", marks=pytest.mark.long),
        ("torch", "launcher"),
        ("mlx", "one"),
        ("mlx", "launcher"),
        pytest.param("mlx", "group", marks=pytest.mark.long),
    ],
)
def test_two_processes_stop_after_one_step_and_go_on_as_one(backend: str, whom: str) -> None:
    found = stopped(backend, 2, whom)
    goes_on(backend, 1, found.epoch + 2)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_of_one_process_goes_on_in_two(backend: str) -> None:
    words = (*EXACT, "-b", backend, "epochs=4", "max_steps=13", "-o", "run")
    launched_train(backend, 1, "nobody", "run", *words)
    assert place("run").step == 13
    goes_on(backend, 2, 4)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_four_processes_stop_after_one_step_and_go_on_as_two(backend: str) -> None:
    found = stopped(backend, 4, "one")
    goes_on(backend, 2, found.epoch + 2)
