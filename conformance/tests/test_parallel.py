"""Two and four processes compute what one does: gradients, updates, norms, masks, evaluation."""

import fcntl
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launched import run
from parallel_cases import (
    CLOSE,
    EXACT,
    GRADIENTS,
    everything,
    observe,
    thresholds,
    wanted_gradients,
)

from snnx.backend import load_backend
from snnx.ops.levels import NETWORK, TRAINING
from snnx.world import World
from snnx_conformance.compare import Comparison
from snnx_conformance.models import removed_scales
from snnx_conformance.training import ROUNDED, prove

WORKER = str(Path(__file__).with_name("parallel_worker.py"))
FOUR = pytest.mark.long
PROCESSES = [
    ("torch", 2),
    ("mlx", 2),
    pytest.param(("torch", 4), marks=FOUR),
    pytest.param(("mlx", 4), marks=FOUR),
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def together(request: Any, tmp_path_factory: Any) -> Any:
    """What so many processes of a backend found, all of them the same bits."""
    backend, processes = request.param
    root = tmp_path_factory.getbasetemp()
    # the workers of pytest-xdist share one answer: the processes of two fill a small machine
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    path = root / f"together-{backend}-{processes}.npz"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            done = run(backend, processes, WORKER, backend, str(path), timeout=560)
            assert path.exists(), done.stderr
    with np.load(path) as found:
        assert found["size"] == processes
        return backend, {k: found[k] for k in found if k != "size"}


@cache
def alone(backend: str) -> dict[str, np.ndarray]:
    """What one process finds; the same for all that read it."""
    return everything(load_backend(backend), World())


def of(found: dict[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(f"{case}: "): v for k, v in found.items() if k.startswith(f"{case}: ")}


@pytest.mark.parametrize("together", PROCESSES, indirect=True, scope="module")
class TestTogether:
    @pytest.mark.parametrize("case", GRADIENTS)
    def test_loss_and_gradients_are_those_of_the_whole_batch(
        self, together: Any, case: str
    ) -> None:
        backend, found = together
        name, n, smooth = GRADIENTS[case]
        compared = Comparison(f"{backend} {case}")
        for wanted in (wanted_gradients(name, n, smooth), of(alone(backend), case)):
            got = of(found, case)
            loss = {"loss": wanted.pop("loss")}
            compared.check("loss", loss, {"loss": got.pop("loss")}, NETWORK.forward)
            scales = removed_scales(observe(name).program, wanted)
            compared.check("gradient", wanted, got, NETWORK.gradient, None, scales)
        assert compared.outcome().status == "passed", compared.problems

    @pytest.mark.parametrize("case", CLOSE)
    def test_updates_and_running_statistics_are_those_of_one_process(
        self, together: Any, case: str
    ) -> None:
        backend, found = together
        compared = Comparison(f"{backend} {case}")
        wanted, got = of(alone(backend), case), of(found, case)
        compared.check("figure", wanted, got, TRAINING)
        assert compared.outcome().status == "passed", compared.problems

    @pytest.mark.parametrize("case", EXACT)
    def test_exact_numbers_are_those_of_one_process_bit_for_bit(
        self, together: Any, case: str
    ) -> None:
        backend, found = together
        wanted, got = of(alone(backend), case), of(found, case)
        assert wanted.keys() == got.keys()
        for name in wanted:
            np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)

    def test_all_refuse_what_is_not_finite_in_one_and_count_votes(self, together: Any) -> None:
        found = of(together[1], "agreement")
        assert found["refused"] == 1
        assert found["same"]
        assert found["count"] == 0
        assert found["votes"] == 1

    def test_ranges_that_are_computed_again_change_no_bit(self, together: Any) -> None:
        found = of(together[1], "again")
        assert len(found) == 3
        for name, same in found.items():
            assert same.size > 10
            assert same.all(), name

    def test_the_native_module_works_in_torchs_own_data_parallel(self, together: Any) -> None:
        backend, found = together
        if backend == "torch":
            assert found["ddp: same"].size
            assert found["ddp: same"].all()

    def test_norms_by_process_are_others_and_their_running_statistics_move(
        self, together: Any
    ) -> None:
        backend, found = together
        own, whole = of(found, "local"), of(alone(backend), "local")
        assert abs(own["loss"] - whole["loss"]) > 1e-4
        name = "2.running_mean"  # of the first norm, whose input is the same: a mean of means
        np.testing.assert_allclose(own[name], whole[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("index", range(len(ROUNDED)))
def test_weights_on_a_grid_are_the_same_on_every_backend_and_certified(index: int) -> None:
    wanted = prove(index).weights[-1]
    for backend in ("torch", "mlx"):
        found = of(alone(backend), f"rounded {index}")
        assert found.keys() == wanted.keys()
        for name, weights in wanted.items():
            np.testing.assert_array_equal(found[name], weights, err_msg=f"{backend} {name}")


def test_thresholds_on_a_grid_have_the_bits_of_the_float64_reference() -> None:
    wanted = thresholds(load_backend("numpy"), World())
    assert wanted["2.threshold"] != 0
    for backend in ("torch", "mlx"):
        found = of(alone(backend), "thresholds")
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{backend} {name}")
