"""What is measured of a trained network: similarity, dead neurons, images, representation error."""

import math
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.analysis import (
    dead_ratio,
    psnr,
    representation_errors,
    similarity,
    smoothing_error,
    ssim,
)
from snnx.analysis.representation import constant_rate, error_parts, mean_quantisation_error
from snnx.backend import load_backend
from snnx.data import Dataset, digits
from snnx.mode import Mode
from snnx.ops.rate_mapping import if_constant_rate
from snnx.program import flatten
from snnx.random import uniform

NOISY = snnx.Chain(
    snnx.Input(8, 8, 1),
    snnx.Conv2d(4, 3, stride=2),
    snnx.LIF(threshold=0.2, analog=snnx.Dial("analog", 0.5), surrogate=snnx.Sigmoid(0.5)),
    snnx.Flatten(),
    snnx.Linear(6),
    snnx.LIF(threshold=0.1, analog=snnx.Dial("analog", 0.5), surrogate=snnx.Sigmoid(0.5)),
    snnx.Linear(10),
)


END = (snnx.Flatten(), snnx.Linear(10))
LOUD = (snnx.Flatten(), snnx.Linear(10, init=1.0))


def draw(*shape: int) -> np.ndarray:
    return (
        uniform(1, "test", "measures", 0, [0], [0], math.prod(shape))
        .reshape(shape)
        .astype(np.float64)
    )


def some_digits() -> Dataset:
    d = digits()
    return Dataset(d.x_train[:8], d.y_train[:8], d.x_test[:10], d.y_test[:10], "digits", "real")


def session_of(model: Any, steps: int = 4) -> Any:
    net = snnx.build(model, "numpy", seed=0, precision="fp64")
    return load_backend("numpy").session(net, snnx.SDT(), snnx.Optim(), steps=steps)


def test_similarity_is_the_cosine_over_neurons_and_time() -> None:
    session, program, data = session_of(NOISY), flatten(NOISY), some_digits()
    found = similarity(session, program, data, batch_size=4)
    batch: Any = {"x": data.x_test, "y": data.y_test, "index": np.arange(10)}
    taps = ["2.spike", "5.spike"]
    a = session.forward(batch, {}, Mode("mixed"), taps).taps
    s = session.forward(batch, {}, taps=taps).taps
    for path in ("2", "5"):
        u, v = (np.moveaxis(r[f"{path}.spike"], 0, 1).reshape(10, -1) for r in (a, s))
        cosine = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
        np.testing.assert_allclose(found.layers[path], cosine, rtol=1e-12)
    assert 0 < found.mean < 1
    assert found.deviation == pytest.approx(found.per_sample.std())
    assert found.mean == pytest.approx(np.mean(list(found.per_layer.values())))


def test_without_noise_the_network_is_the_one_inside_it() -> None:
    session, program = session_of(NOISY), flatten(NOISY)
    quiet = similarity(session, program, some_digits(), dials={"analog": 0.0})
    assert quiet.mean == pytest.approx(1.0, abs=1e-14)
    loud = similarity(session, program, some_digits(), dials={"analog": 1.0})
    smooth = smoothing_error(session, program, some_digits())
    assert smooth == {k: 1.0 - v for k, v in loud.per_layer.items()}
    assert all(error > 0.01 for error in smooth.values())


def test_two_silent_layers_are_alike_and_one_is_not() -> None:
    silent = snnx.Chain(
        snnx.Input(8, 8, 1), snnx.LIF(threshold=99.0, surrogate=snnx.Sigmoid(20.0)), *END
    )
    session, program = session_of(silent), flatten(silent)
    assert similarity(session, program, some_digits()).mean == 1.0
    assert smoothing_error(session, program, some_digits())["1"] == pytest.approx(1.0)
    assert dead_ratio(session, program, some_digits()) == {"1": 1.0}


def test_a_dead_neuron_is_one_that_is_silent_for_a_whole_sample() -> None:
    net = snnx.Chain(snnx.Input(3), snnx.LIF(decay=0.0, threshold=1.0), snnx.Linear(2))
    x = np.array([[[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]], [[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]])
    data = Dataset(x, np.zeros(2, int), x, np.zeros(2, int), "moving", "synthetic", "TNF")
    assert dead_ratio(session_of(net), flatten(net), data) == {"1": pytest.approx((1 / 3 + 1) / 2)}


def test_psnr_of_a_known_error() -> None:
    x = draw(2, 12, 12)
    np.testing.assert_allclose(psnr(x, x + 0.1), 20.0, rtol=1e-12)
    np.testing.assert_allclose(psnr(255 * x, 255 * x + 2.55, peak=255.0), 40.0, rtol=1e-12)
    assert np.isinf(psnr(x, x)).all()


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    a, b = np.full((1, 16, 16), 0.5), np.full((1, 16, 16), 0.25)
    c1 = 0.01**2
    expected = (2 * 0.5 * 0.25 + c1) / (0.5**2 + 0.25**2 + c1)
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-12)
    x = draw(3, 16, 14, 2)
    np.testing.assert_allclose(ssim(x, x), 1.0, rtol=1e-12)
    np.testing.assert_allclose(ssim(x, 1 - x), ssim(1 - x, x), rtol=1e-12)
    assert (ssim(x, 1 - x) < 0).all()


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = draw(2, 28, 28), draw(4, 28, 28)[2:]
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i in range(2):
        expected = metrics.structural_similarity(x[i], y[i], data_range=1.0, **how)
        assert ssim(x, y)[i] == pytest.approx(expected, rel=1e-10)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr(np.zeros((1, 4, 4)), np.zeros((1, 4, 5)))
    with pytest.raises(ValueError, match="window 11"):
        ssim(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match="peak"):
        psnr(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), peak=0.0)


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("steps", [1, 4, 10, 16])
def test_the_constant_input_closed_form_bit_for_bit(fraction: float, steps: int) -> None:
    layer = snnx.DSR.integrate_and_fire(2.0, fraction)
    current = np.arange(-8, 49) / 16.0
    attributes = {"neuron": layer.neuron, "kind": "if", "dt": 1.0, "tau": 1.0}
    found = constant_rate(attributes, 2.0, current[None], steps)[0] * steps
    closed = if_constant_rate(np, current, 2.0, steps, fraction) * steps
    np.testing.assert_array_equal(np.round(found / 2.0), np.round(closed / 2.0))
    np.testing.assert_allclose(found, closed, rtol=1e-13)
    inside = (current >= 0) & (current <= 2.0)
    worst = np.abs(found / steps - current)[inside].max()
    assert worst <= 2.0 / steps * max(fraction, 1 - fraction) + 1e-12


TABLE = {  # methods.md 5.6: mean |e_q| / (threshold / dt) by the share of the threshold that fires
    (20, 0.05): (0.0233, 0.0209, 0.0194, 0.0204, 0.0219, 0.0250, 0.0485),
    (15, 0.05): (0.0297, 0.0260, 0.0241, 0.0233, 0.0246, 0.0294, 0.0561),
    (10, 0.05): (0.0415, 0.0360, 0.0323, 0.0316, 0.0327, 0.0363, 0.0704),
    (5, 0.1): (0.0845, 0.0721, 0.0634, 0.0610, 0.0626, 0.0726, 0.1384),
}
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0)
BEST = {(20, 0.05): 0.3, (15, 0.05): 0.4, (10, 0.05): 0.4, (5, 0.1): 0.4}


@pytest.mark.parametrize("case", list(TABLE))
def test_the_best_share_of_the_threshold_at_which_lif_fires(case: tuple[int, float]) -> None:
    steps, dt = case
    found = [
        mean_quantisation_error(snnx.DSR.leaky(0.3, f, dt), 0.3, steps, 4001) for f in FRACTIONS
    ]
    np.testing.assert_allclose(found, TABLE[case], atol=6e-4)
    assert FRACTIONS[int(np.argmin(found))] == BEST[case]


@pytest.mark.parametrize("layer", [snnx.DSR.integrate_and_fire(0.5), snnx.DSR.leaky(0.03)])
def test_the_error_is_quantisation_plus_deviation(layer: snnx.DSR) -> None:
    net = snnx.Chain(snnx.Input(8, 8, 1), snnx.Conv2d(3, 3), layer, *LOUD, layer)
    program, session, data = flatten(net), session_of(net, 8), some_digits()
    found = representation_errors(session, program, data, batch_size=4)
    assert [e.path for e in found] == ["2", "5"]
    # the first layer sees a constant current: nothing deviates
    assert found[0].deviation == pytest.approx(0.0, abs=1e-12)
    assert found[0].total == pytest.approx(found[0].quantisation)
    assert found[1].deviation > 1e-3
    x = draw(6, 2, 5) - 0.2
    attributes = program.steps[1].attributes
    threshold = 0.5 if layer.kind == "if" else 0.03
    e_r, e_q, e_d = error_parts(attributes, threshold, x, 0.0 * x)
    np.testing.assert_array_equal(e_r, e_q + e_d)


def test_a_network_without_dsr_layers_has_no_representation_error() -> None:
    with pytest.raises(ValueError, match="no DSR layer"):
        representation_errors(session_of(NOISY), flatten(NOISY), some_digits())
