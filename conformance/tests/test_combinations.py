"""Methods x objectives x neurons: what is sensible trains, what is not is refused with a reason."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.activation import ReLU
from snnx.data import Dataset
from snnx.methods import ASGLMethod, DspikeMethod, DSRMethod, Method, TETMethod
from snnx.objective import Objective
from snnx.random import uniform

THRESHOLD = 0.3
METHOD: dict[str, Method] = {
    "plain": Method(),
    "tet": TETMethod(),
    "dspike": DspikeMethod(),
    "dsr if": DSRMethod(),
    "dsr lif": DSRMethod(kind="lif"),
    "dsr means": DSRMethod(backward="means"),
    "asgl": ASGLMethod(similar=2),
    "asgl fixed": ASGLMethod(learned=False, similar=0),
}
OBJECTIVE: dict[str, Objective] = {
    "sdt": snnx.SDT(),
    "late sdt": snnx.SDT(0.9),
    "tet": snnx.TET(),
    "rate mse": snnx.RateMSE(),
    "mse": snnx.MSE(),
}
LEAK = snnx.Learned(0.5, transform="logit")
WIDTH = snnx.Triangular(snnx.Learned(1.0, transform="log"))
NEURON: dict[str, Callable[[], Any]] = {
    "lif": lambda: snnx.LIF(threshold=THRESHOLD),
    "if": lambda: snnx.IF(threshold=THRESHOLD, reset="subtract"),
    "clif": lambda: snnx.CLIF.from_tau(threshold=0.1),
    "recurrent": lambda: snnx.Recurrent(snnx.LIF(threshold=THRESHOLD)),
    "recurrent clif": lambda: snnx.Recurrent(snnx.CLIF.from_tau(threshold=0.1)),
    "analog": lambda: snnx.LIF(threshold=THRESHOLD, analog=0.3),
    "dspike": lambda: snnx.LIF(threshold=THRESHOLD, surrogate=snnx.Dspike(2.0)),
    "learned leak": lambda: snnx.LIF(decay=LEAK, threshold=THRESHOLD),
    "learned width": lambda: snnx.LIF(threshold=THRESHOLD, surrogate=WIDTH),
    "dsr if": lambda: snnx.DSR.integrate_and_fire(),
    "dsr lif": lambda: snnx.DSR.leaky(0.6, 0.5, 0.1, 1.0, 0.001),
    "relu": ReLU,
    "none": snnx.Identity,
}
# what a method says of a neuron, whatever the objective
OF_NEURON = {
    ("dspike", "dsr"): "method dspike: the backward pass of a DSR layer has no surrogate",
    ("dspike", "relu"): "method dspike: the model has no spiking neuron",
    ("dspike", "none"): "method dspike: the model has no spiking neuron",
    ("dspike", "learned width"): "method dspike: puts its own surrogate",
    ("dsr", "clif"): "method dsr: CLIF has no rate mapping",
    ("dsr", "recurrent"): "method dsr: a recurrent layer has no rate mapping",
    ("dsr", "analog"): "method dsr: a DSR layer emits no analog values",
    ("dsr", "learned leak"): "method dsr: puts its own layer .* decay of this one is learned",
    ("dsr", "learned width"): "method dsr: puts its own layer .* surrogate.width of this one is",
    ("dsr", "relu"): "method dsr: the model has no spiking neuron",
    ("dsr", "none"): "method dsr: the model has no spiking neuron",
    ("dsr if", "dsr lif"): "method dsr: the model holds DSR layers of kind",
    ("dsr means", "dsr lif"): "method dsr: the model holds DSR layers of kind",
    ("dsr lif", "dsr if"): "method dsr: the model holds DSR layers of kind",
    ("asgl", "dsr"): "method asgl: a DSR layer trains by its rate",
    ("asgl", "relu"): "method asgl: the model has no spiking neuron",
    ("asgl", "none"): "method asgl: the model has no spiking neuron",
    ("asgl", "analog"): "method asgl: the share of analog outputs is 1 - p",
    ("asgl fixed", "learned width"): "method asgl: learned is false",
    ("asgl", "dspike"): "method asgl: surrogate Dspike has no width to learn",
}


def reason(method: str, objective: str, neuron: str) -> str | None:
    """Return a pattern of the reason for which a combination is refused, None where it trains."""
    for (m, n), text in OF_NEURON.items():
        if method.startswith(m) and neuron.startswith(n):
            if (m, n, method) == ("asgl", "dspike", "asgl fixed"):
                continue
            return text
    if method == "tet" and objective != "tet":
        return "method tet: is the objective TET"
    if method.startswith("dsr"):
        if objective == "tet":
            return "method dsr: TET looks at every step"
        if objective == "late sdt" or (method == "dsr lif" and objective != "sdt"):
            return "method dsr: .* weights the steps of the output by decay"
    if objective == "tet" and neuron.startswith("dsr"):
        return "objective TET looks at every step by itself, and a DSR layer"
    return "MSE needs target arrays" if objective == "mse" else None


def data() -> Dataset:
    x = uniform(0, "test", "combinations", 0, [0], [0], 40).reshape(8, 5).astype(np.float32)
    y = np.arange(8) % 3
    return Dataset(x, y, x, y, "noise", "synthetic")


@pytest.mark.parametrize(("method", "neuron"), list(itertools.product(METHOD, NEURON)))
def test_a_combination_trains_or_is_refused_with_a_reason(method: str, neuron: str) -> None:
    for name, objective in OBJECTIVE.items():
        wanted = reason(method, name, neuron)
        model = snnx.Chain(
            snnx.Input(5), snnx.Linear(6), snnx.BatchNorm(), NEURON[neuron](), snnx.Linear(3)
        )

        def run(model: Any = model, objective: Any = objective) -> Any:
            return snnx.fit(
                model,
                data(),
                objective=objective,
                methods=(METHOD[method],),
                optim=snnx.Optim(snnx.SGD(0.01)),
                steps=5,
                epochs=1,
                batch_size=4,
                backend="numpy",
            )

        if wanted is None:
            found = run()
            assert math.isfinite(found.history[-1]["loss"]), name
        else:
            with pytest.raises(ValueError, match=wanted):
                run()


def test_no_combination_is_refused_by_accident() -> None:
    cells = list(itertools.product(METHOD, OBJECTIVE, NEURON))
    trained = [cell for cell in cells if reason(*cell) is None]
    assert len(trained) >= 169  # a refusal more is a decision, and is made here
    for method in METHOD:
        assert any(cell[0] == method for cell in trained)
    assert all(re.compile(text) for text in OF_NEURON.values())
