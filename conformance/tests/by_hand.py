"""Derivatives written by hand, or by autograd of a loop written by hand: what tests compare with.

Each function draws its numbers once, rounded to float32, so that every dtype sees the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from snnx.clif import CLIF
from snnx.neurons import LIF
from snnx.ops import OPS
from snnx.ops._cases import generator
from snnx.ops._op import Op
from snnx.ops._xp import step_weights
from snnx.scalars import Learned
from snnx.surrogate import ArcTan, Triangular

Arrays = Mapping[str, np.ndarray]
Call = Callable[..., Mapping[str, np.ndarray]]  # (op, inputs, attributes[, cotangents])


@dataclass(frozen=True)
class Derived:
    """Inputs and attributes of an op, cotangents, and the gradients that they must give."""

    op: Op
    inputs: dict[str, np.ndarray]
    attributes: dict[str, Any]
    cotangents: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


def single(x: Any) -> np.ndarray:
    """Return the numbers that float32 holds, as float64."""
    return np.asarray(x, np.float32).astype(np.float64)


def lif_by_autograd(reset: Any, detach: bool) -> Derived:
    """Return a LIF with every number learned, and torch's gradients of its loop."""
    torch = pytest.importorskip("torch")

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, width: Any) -> Any:
            ctx.save_for_backward(x, width)
            return (x >= 0).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, width = ctx.saved_tensors
            h = torch.clamp(width - x.abs(), min=0) / width**2
            return g * h, (g * -(x / width) * h).sum()

    rng = generator(23)
    numbers = {"x": 0.4 + rng.standard_normal((6, 3, 5)), "v": 0.3 * rng.standard_normal((3, 5))}
    numbers |= {"decay": np.array(0.6), "threshold": np.array(0.8), "width": np.array(1.3)}
    numbers = {k: single(v) for k, v in numbers.items()}
    g_y, g_v = (single(rng.standard_normal(shape)) for shape in ((6, 3, 5), (3, 5)))
    t = {k: torch.tensor(a, requires_grad=True) for k, a in numbers.items()}
    v, loss = t["v"], 0.0
    for step in range(6):
        u = t["decay"] * v + t["x"][step]
        s = Spike.apply(u - 0.75 * t["threshold"], t["width"])
        r = s.detach() if detach else s
        v = u - t["threshold"] * r if reset == "subtract" else u * (1 - r) + reset * r
        loss = loss + (torch.tensor(g_y[step]) * 2.0 * t["threshold"] * s).sum()
    (loss + (torch.tensor(g_v) * v).sum()).backward()
    neuron = LIF(
        decay=Learned(0.6, group="decay"),
        threshold=Learned(0.8, low=0.1),
        fire_fraction=0.75,
        reset=reset,
        detach_reset=detach,
        emit=("threshold", 2.0),
        surrogate=Triangular(Learned(1.3, transform="log")),
    )
    names = {"x": "x", "v": "state.v", "decay": "p.decay", "threshold": "p.threshold"}
    names["width"] = "p.surrogate.width"
    return Derived(
        OPS["neuron"],
        {names[k]: a for k, a in numbers.items()},
        {"neuron": neuron},
        {"y": g_y, "state.v": g_v},
        {names[k]: a.grad.numpy() for k, a in t.items()},
    )


def recurrent_by_autograd() -> Derived:
    """Return a smooth recurrent layer, and torch's gradients of its loop (methods.md 2.5)."""
    torch = pytest.importorskip("torch")
    rng = generator(29)
    inputs = {"x": rng.standard_normal((5, 2, 3)), "feedback": 0.5 * rng.standard_normal((3, 3))}
    inputs = {k: single(v) for k, v in (inputs | {"synapse_decay": np.array(0.4)}).items()}
    g = single(rng.standard_normal((5, 2, 3)))
    t = {k: torch.tensor(a, requires_grad=True) for k, a in inputs.items()}
    c = v = y = torch.zeros(2, 3, dtype=torch.float64)
    loss: Any = 0.0
    for step in range(5):
        c = t["synapse_decay"] * c + t["x"][step] + y @ t["feedback"].T
        u = 0.5 * v + c
        y = 0.5 + torch.atan(math.pi * (u - 1) / 2) / math.pi
        v = u * (1 - y)
        loss = loss + (torch.tensor(g[step]) * y).sum()
    loss.backward()
    attributes = {"neuron": LIF(surrogate=ArcTan(2.0)), "fire": "smooth"}
    gradients = {k: a.grad.numpy() for k, a in t.items()}
    return Derived(OPS["recurrent"], inputs, attributes, {"y": g}, gradients)


CLIF_NUMBERS = ("membrane_decay", "synapse_decay", "gain", "threshold")


def learned_clif(**fields: Any) -> CLIF:
    """Return the MedlyDB neuron with every number learned and a wide window."""
    start = CLIF.from_tau()
    numbers = {name: Learned(getattr(start, name)) for name in CLIF_NUMBERS}
    return CLIF(**numbers, surrogate=Triangular(2.0), **fields)


def values(neuron: CLIF) -> dict[str, float]:
    """Return the numbers of a neuron whose fields are all learned."""
    return {name: getattr(neuron, name).init for name in CLIF_NUMBERS}


def clif_by_hand(detach_reset: bool) -> tuple[Derived, dict[str, np.ndarray]]:
    """Return a C-LIF whose outputs and gradients follow the printed recurrences (methods.md 2.4).

    e and s[t-1] are kept apart, as printed. The outputs stand second.
    """
    neuron = learned_clif(detach_reset=detach_reset)
    rng = generator(5)
    inputs = {"x": rng.normal(0.4, 1.0, (7, 3, 4))}
    inputs |= {f"state.{name}": rng.normal(0.0, 0.3, (3, 4)) for name in neuron.states}
    inputs |= {f"p.{name}": np.array(value) for name, value in values(neuron).items()}
    inputs = {k: single(v) for k, v in inputs.items()}
    outputs = _clif_outputs(inputs)
    g = {n: single(rng.normal(size=outputs[n].shape)) for n in ("y", "state.m", "state.w")}
    g["state.e"] = single(rng.normal(size=(3, 4)))
    gradients = _clif_gradients(neuron, inputs, outputs, g)
    seen = {name: outputs[name] for name in ("y", "state.m", "state.w", "state.e")}
    return Derived(OPS["neuron"], inputs, {"neuron": neuron}, g, gradients), seen


def _clif_outputs(inputs: Arrays) -> dict[str, Any]:
    bm, bs, gain, th = (inputs[f"p.{name}"] for name in CLIF_NUMBERS)
    m, w, e = ([inputs[f"state.{name}"]] for name in "mwe")
    s: list[Any] = [None]
    u: list[Any] = [None]
    for t, x in enumerate(inputs["x"], start=1):
        m.append(bm * m[-1] + gain * x)
        w.append(bs * w[-1] + gain * x)
        e.append(e[0] if t == 1 else bm * e[-1] + th * s[-1])
        u.append(m[t] - w[t] - e[t])
        s.append((u[t] >= th).astype(float))
    last = {"state.m": m[-1], "state.w": w[-1], "state.e": bm * e[-1] + th * s[-1]}
    return {"y": np.stack(s[1:]), **last, "lists": (m, w, e, s, u)}


def _clif_gradients(
    neuron: CLIF, inputs: Arrays, outputs: Mapping[str, Any], g: Arrays
) -> dict[str, Any]:
    bm, bs, gain, th = (inputs[f"p.{name}"] for name in CLIF_NUMBERS)
    m, w, e, s, u = outputs["lists"]
    x = inputs["x"]
    found: dict[str, Any] = dict.fromkeys((f"p.{name}" for name in CLIF_NUMBERS), 0.0)
    found["x"] = np.zeros_like(x)
    gm, gw, ge = g["state.m"] / bm, g["state.w"] / bs, g["state.e"]
    found["p.membrane_decay"] += np.sum(ge * e[-1])
    found["p.threshold"] += np.sum(ge * s[-1])
    for t in range(len(x), 0, -1):
        gs = g["y"][t - 1] + (0.0 if neuron.detach_reset else th * ge)
        gu = gs * np.maximum(0.0, 2.0 - np.abs(u[t] - th)) / 4.0
        found["p.threshold"] -= np.sum(gu)
        gm, gw, ge = bm * gm + gu, bs * gw - gu, bm * ge - gu
        found["x"][t - 1] = gain * (gm + gw)
        found["p.gain"] += np.sum((gm + gw) * x[t - 1])
        found["p.membrane_decay"] += np.sum(gm * m[t - 1])
        found["p.synapse_decay"] += np.sum(gw * w[t - 1])
        if t > 1:  # e[t] = bm e[t-1] + th s[t-1]
            found["p.membrane_decay"] += np.sum(ge * e[t - 1])
            found["p.threshold"] += np.sum(ge * s[t - 1])
    return {**found, "state.m": bm * gm, "state.w": bs * gw, "state.e": ge}


def two_ops_of_a_block(
    run: Call, vjp: Call, inputs: Arrays, attributes: Mapping[str, Any], g: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return outputs and gradients of a rate block as its products, sum and norm, each step."""
    norm = OPS["batch_norm"]
    parts = [("", "x", attributes)]
    if "skip" in inputs:
        parts.append(("skip_", "skip", attributes.get("skip", {})))
    products, z = [], np.zeros(())
    for prefix, name, how in parts:
        first = {k: inputs[prefix + k] for k in ("weight", "bias") if prefix + k in inputs}
        first["x"] = inputs[name]
        if "weight" not in first:
            z = z + inputs[name]
            continue
        product = OPS["conv2d" if first["weight"].ndim == 4 else "linear"]
        z = z + run(product, first, how)["y"]
        products.append((prefix, name, how, product, first))
    second = {"weight": inputs["norm_weight"], "bias": inputs["norm_bias"], "x": z}
    second |= {k: inputs[k] for k in ("running_mean", "running_var")}
    outputs = run(norm, second, attributes)
    zeros = {k: np.zeros(np.shape(v)) for k, v in outputs.items()}
    into = vjp(norm, second, attributes, {**zeros, "y": g})
    found = {"norm_weight": into["weight"], "norm_bias": into["bias"]}
    if "skip" in inputs:
        found["skip"] = into["x"]
    for prefix, name, how, product, first in products:
        for k, v in vjp(product, first, how, {"y": into["x"]}).items():
            found[name if k == "x" else prefix + k] = v
    return dict(outputs), found


def weighted_sum(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Return the sum over time by which a rate sees a sequence: what a block's g_x is known by."""
    return (step_weights(np, x, None, attributes.get("decay", 1.0)) * x).sum(0)
