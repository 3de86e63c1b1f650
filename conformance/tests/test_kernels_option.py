"""`kernels`: what runs the neurons is the user's choice, and is never changed in silence."""

from typing import Any

import numpy as np
import pytest

import snnx
from snnx import LIF, BatchNorm, Chain, Conv2d, Flatten, Input, Linear
from snnx.backend import BackendError
from snnx.training.fit import fit
from snnx.training.recipe import RecipeError, override, read_recipe, resolve
from snnx.training.recipe_data import open_data
from snnx.training.recipe_plan import make_plan
from snnx_torch.kernels.host import compiler

MODEL = Chain(Input(4, 4, 1), Conv2d(4, 3), BatchNorm(), LIF(), Flatten(), Linear(3))
compiles = pytest.mark.skipif(compiler() is None, reason="g++ is not on PATH")


def images(samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, samples)
    x = rng.uniform(size=(samples, 4, 4, 1)) + 0.5 * y[:, None, None, None]
    return x.astype(np.float32), y


def trained(**form: Any) -> list[Any]:
    options: dict[str, Any] = {"steps": 3, "epochs": 2, "batch_size": 16, "device": "cpu"}
    train, test = images(64), images(32)
    return list(fit(MODEL, (*train, *test), backend="torch", **options, **form).history)


@compiles
def test_fused_kernels_train_as_the_generic_lists_do() -> None:
    # the same list without contraction: every step gives the same bits
    rows, wanted = (trained(kernels=kernels) for kernels in ("fused", "generic"))
    assert [row["loss"] for row in rows] == [row["loss"] for row in wanted]


@compiles
def test_the_network_says_which_kernels_run() -> None:
    for kernels, name in (("fused", "cpp (asked for)"), ("generic", "generic (asked for)")):
        net = snnx.build(MODEL, "torch", device="cpu", kernels=kernels)
        assert list(net.implementations().values()) == [f"neuron: {name}"]
    assert "on cpu" in str(snnx.build(MODEL, "torch", device="cpu").implementations())


@pytest.mark.parametrize("backend", ["numpy", "mlx"])
def test_kernels_that_are_not_there_are_refused_when_the_network_is_built(backend: str) -> None:
    assert snnx.build(MODEL, backend, device="cpu", kernels="generic") is not None
    with pytest.raises((BackendError, ValueError), match="kernels"):
        snnx.build(MODEL, backend, device="cpu", kernels="fused")


@pytest.mark.parametrize("backend", ["torch", "mlx", "numpy"])
def test_an_unknown_choice_is_refused(backend: str) -> None:
    with pytest.raises((BackendError, ValueError), match="'quick'"):
        snnx.build(MODEL, backend, device="cpu", kernels="quick")


def test_a_recipe_has_the_key() -> None:
    values = resolve([read_recipe("digits"), override("kernels=fused")]).values
    plan = make_plan(values, open_data(values["data"]))
    assert plan.build_options()["kernels"] == "fused"
    with pytest.raises(RecipeError, match="kernels"):
        resolve([read_recipe("digits"), override("kernels=quick")])
