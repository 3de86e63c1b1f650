"""A step that takes gradients from outside: what they replace, and what they leave alone."""

from typing import Any

import numpy as np
import pytest
from mlx_nets import batch, small

import snnx
from snnx.backend import installed, load_backend
from snnx.optim import Rule

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is absent"))
    for name in ("numpy", "torch", "mlx")
]
FIRST = "1.weight"
DIALS = {"lr": 0.1, "seed": 1, "step": 0}


def session(backend: str, rule: Rule | None = None, **more: Any) -> Any:
    net = snnx.build(small(), backend, seed=3, precision="fp64" if backend == "numpy" else "fp32")
    optim = snnx.Optim(rule or snnx.SGD(momentum=0.9), clip_norm=more.pop("clip_norm", None))
    return load_backend(backend).session(net, snnx.SDT(), optim, steps=2, **more)


def after(s: Any, gradients: Any = None, parts: Any = None) -> tuple[Any, dict[str, float]]:
    figures = s.read(s.step(parts or [batch(small())], DIALS, gradients=gradients))
    return s.export(), figures


def planted(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)  # asymmetric, so a turned axis would show
    return {FIRST: rng.normal(size=(4, 3, 3, 1))}


def close(one: Any, two: Any, rtol: float = 1e-5) -> None:
    for kind in ("parameters", "statistics", "moments"):
        a, b = getattr(one, kind), getattr(two, kind)
        assert set(a) == set(b)
        for path in a:
            np.testing.assert_allclose(a[path], b[path], rtol, 1e-7, err_msg=path)


@pytest.mark.parametrize("rule", [snnx.SGD(momentum=0.9), snnx.Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_its_own_gradients_imposed_give_the_same_update(backend: str, rule: Rule) -> None:
    free, bound = session(backend, rule), session(backend, rule)
    _, own = bound.grads(batch(small()), DIALS)
    wanted, figures = after(free)
    found, again = after(bound, own)
    close(found, wanted)
    assert again == pytest.approx(figures, rel=1e-5)
    assert found.count == wanted.count == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_planted_gradient_changes_its_parameter_alone(backend: str) -> None:
    wanted, figures = after(session(backend))
    s = session(backend)
    before, given = s.export().parameters[FIRST], planted()
    found, again = after(s, given)
    moved = before - 0.1 * given[FIRST]  # SGD from rest: w - lr g
    np.testing.assert_allclose(found.parameters[FIRST], moved, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.moments[f"{FIRST}.velocity"], given[FIRST], rtol=1e-6)
    assert not np.allclose(found.parameters[FIRST], wanted.parameters[FIRST], atol=1e-3)
    for path in set(wanted.parameters) - {FIRST}:
        np.testing.assert_allclose(found.parameters[path], wanted.parameters[path], 1e-6)
    for path, value in wanted.statistics.items():
        np.testing.assert_allclose(found.statistics[path], value, 1e-6)
    assert again["loss"] == pytest.approx(figures["loss"])
    assert again["gradient_norm"] > figures["gradient_norm"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_clipping_sees_the_imposed_gradient(backend: str) -> None:
    s = session(backend, clip_norm=0.5)
    before, given = s.export().parameters[FIRST], planted()
    found, figures = after(s, given)
    scale = 0.5 / (figures["gradient_norm"] + 1e-6)
    assert scale < 0.2
    moved = before - 0.1 * scale * given[FIRST]
    np.testing.assert_allclose(found.parameters[FIRST], moved, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_several_parts_it_stands_for_the_gradient_of_their_mean(backend: str) -> None:
    whole, given = batch(small(), 6), planted()
    parts = [{k: v[:2] for k, v in whole.items()}, {k: v[2:] for k, v in whole.items()}]
    s = session(backend)
    before = s.export().parameters[FIRST]
    found, _ = after(s, given, parts)
    moved = before - 0.1 * given[FIRST]
    np.testing.assert_allclose(found.parameters[FIRST], moved, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_is_not_finite_changes_nothing(backend: str) -> None:
    s = session(backend)
    before, given = s.export(), planted()
    given[FIRST][1, 2, 0, 0] = np.nan
    with np.errstate(all="ignore"):
        pending = s.step([batch(small())], DIALS, gradients=given)
    with pytest.raises(FloatingPointError, match="step 0"):
        s.read(pending)
    close(s.export(), before, rtol=0.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_fits_no_parameter_is_refused(backend: str) -> None:
    s, one = session(backend), [batch(small())]
    turned = planted()[FIRST].transpose(0, 3, 1, 2)  # torch's own order
    for gradients, error, words in (
        (
            {"first": turned},
            KeyError,
            r"unknown imposed gradients \['first'\]; there are .*1.weight",
        ),
        ({FIRST: turned}, snnx.ShapeError, r"gradient of 1.weight: .* \(4, 3, 3, 1\), gets \(4, 1"),
        ({FIRST: planted()[FIRST] > 0}, TypeError, "gradient of 1.weight: expects real numbers"),
    ):
        with pytest.raises(error, match=words):
            s.step(one, DIALS, gradients=gradients)
    assert s.export().count == 0


@pytest.mark.slow
@pytest.mark.filterwarnings(  # torch's own, while it traces an autograd.Function
    "ignore:.*should not be instantiated:DeprecationWarning"
)
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_a_compiled_step_takes_new_gradients_without_a_new_graph(backend: str) -> None:
    compile = "aot_eager" if backend == "torch" else True
    s, t = session(backend, compile=compile), session(backend)
    for seed in (0, 1):
        found, wanted = after(s, planted(seed))[0], after(t, planted(seed))[0]
        close(found, wanted)
    assert s.compilations() == 1
    close(after(s)[0], after(t)[0])  # and without them it takes its own again
    assert s.compilations() == 2
