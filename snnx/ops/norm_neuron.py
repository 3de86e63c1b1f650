"""norm_neuron: batch norm, the addition of a residual and a neuron over time, as one op.

    u = batch_norm(x, weight, bias)                                     where there is no residual
    u = batch_norm(x, weight, bias) + residual                          where it is added as it is
    u = batch_norm(x, weight, bias) + batch_norm(residual, residual_weight, residual_bias)
    y, state = neuron(u)

It is those ops one after another, and so is its vjp; what it saves is memory: a backend keeps x,
the residual and the statistics, and computes u, the potentials and the spikes again in its backward
pass. The arithmetic of forward and recomputation must be the same, so that no spike differs:

    a = scale weight / sqrt(var + eps)
    u[t] = (x[t] - mean) a + bias (+ the same of the residual, or residual[t])

Attributes: those of batch_norm, those of the residual's norm under "residual_eps",
"residual_momentum", "residual_scale", and those of neuron. x or residual with T = 1 is static; its
`repeat` follows from `steps`.
Raises: what batch_norm and neuron raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from snnx.neurons import IF, LIF
from snnx.ops import batch_norm, neuron
from snnx.ops._cases import bits, dyadic, generator
from snnx.ops._neuron_cases import HALF, MARGIN, Adaptive, draw_numbers, edges
from snnx.ops._op import Array, Arrays, Attributes, Op, Sample, Tolerance
from snnx.scalars import Learned
from snnx.surrogate import ArcTan, Dspike, Rectangular, Sigmoid, Triangular

BRANCHES = ("", "residual_")
NORM_INPUTS = ("weight", "bias", "running_mean", "running_var")
STATISTICS = ("running_mean", "running_var")


def norm_inputs(inputs: Arrays, branch: str) -> dict[str, Array] | None:
    """Return the inputs of a branch's batch norm under that op's names; None where it has none."""
    if f"{branch}weight" not in inputs:
        return None
    x = inputs["residual" if branch else "x"]
    return {"x": x, **{name: inputs[f"{branch}{name}"] for name in NORM_INPUTS}}


def norm_attributes(attributes: Attributes, branch: str, length: int, steps: int) -> dict[str, Any]:
    """Return the attributes of a branch's batch norm; `length` is T of its input."""
    own = {
        name: attributes[f"{branch}{name}"]
        for name in ("eps", "momentum", "scale")
        if f"{branch}{name}" in attributes
    }
    shared = {name: attributes[name] for name in ("mode", "copies") if name in attributes}
    return {**own, **shared, "repeat": steps if length < steps else 1}


def step_count(inputs: Arrays, attributes: Attributes) -> int:
    """Return T."""
    longest = max(inputs[n].shape[0] for n in ("x", "residual") if n in inputs)
    return int(attributes.get("steps", longest))


def _current(xp: Any, inputs: Arrays, attrs: Attributes) -> tuple[Array, dict[str, Array]]:
    """Return u, of one step where all that is added is static, and the running statistics."""
    steps = step_count(inputs, attrs)
    moved: dict[str, Array] = {}
    terms = []
    for branch in BRANCHES:
        given = norm_inputs(inputs, branch)
        if given is None:
            terms += [inputs["residual"]] if branch and "residual" in inputs else []
            continue
        own = norm_attributes(attrs, branch, given["x"].shape[0], steps)
        out = batch_norm.forward(xp, given, own)
        terms.append(out["y"])
        moved |= {f"{branch}{name}": out[name] for name in STATISTICS}
    return (terms[0] if len(terms) == 1 else terms[0] + terms[1]), moved


def _neuron_inputs(inputs: Arrays, u: Array) -> dict[str, Array]:
    kept = {n: a for n, a in inputs.items() if n.startswith(("state.", "p."))}
    return {"x": u, **kept, **{n: inputs[n] for n in ("mask", "spike") if n in inputs}}


def forward(xp: Any, inputs: Arrays, attributes: Attributes) -> dict[str, Array]:
    """Return y [T N *S C], the running statistics, final states and what is observed."""
    u, moved = _current(xp, inputs, attributes)
    given = {**attributes, "steps": step_count(inputs, attributes)}
    return {**neuron.forward(xp, _neuron_inputs(inputs, u), given), **moved}


def vjp(
    xp: Any, inputs: Arrays, attributes: Attributes, outputs: Arrays, cotangents: Arrays
) -> dict[str, Array]:
    """Return the gradients of both inputs, norms, states and learned numbers."""
    u, _ = _current(xp, inputs, attributes)
    steps = step_count(inputs, attributes)
    given = {**attributes, "steps": steps}
    found = neuron.vjp(xp, _neuron_inputs(inputs, u), given, outputs, cotangents)
    g_u = found.pop("x")
    for branch in BRANCHES:
        norm, name = norm_inputs(inputs, branch), "residual" if branch else "x"
        if name not in inputs:
            continue
        g = g_u
        if inputs[name].shape[0] < g.shape[0]:
            g = xp.sum(g, axis=0, keepdims=True)
        if norm is None:
            found[name] = g
            continue
        own = norm_attributes(attributes, branch, norm["x"].shape[0], steps)
        pulled = batch_norm.vjp(xp, norm, own, {}, {"y": g})
        found |= {name: pulled["x"]} | {f"{branch}{n}": pulled[n] for n in ("weight", "bias")}
    return found


def _norm(rng: Any, branch: str, channels: int, exact: bool) -> dict[str, Any]:
    shape = (channels,)
    if exact:  # sqrt(var + eps) is 1 or 2
        values = (rng.choice([0.5, 1.0], shape), dyadic(rng, shape), dyadic(rng, shape))
        values = (*values, rng.choice([1.0, 4.0], shape))
    else:
        values = (rng.uniform(0.5, 1.5, shape), rng.standard_normal(shape))
        values = (*values, rng.standard_normal(shape), rng.uniform(0.5, 2.0, shape))
    return {f"{branch}{n}": v for n, v in zip(NORM_INPUTS, values, strict=True)}


def _sample(
    name: str,
    seed: int,
    unit: Any,
    shape: tuple[int, ...] = (4, 3, 2, 3),
    *,
    exact: bool = False,
    residual: str = "",
    static: tuple[str, ...] = (),
    fire: str = "spike",
    states: bool = False,
    dtypes: tuple[str, ...] = ("float32",),
    **norm: Any,
) -> Sample:
    """Return a case; `residual` is "", "plain" or "norm"; `static` inputs have one step."""
    steps, channels = shape[0], shape[-1]
    attributes = {"neuron": unit, "mode": "running" if exact else "batch", "steps": steps, **norm}
    attributes |= {"eps": 0.0, "residual_eps": 0.0} if exact else {}
    if fire != "spike":
        attributes["fire"] = fire
    for attempt in range(200):
        rng = generator(401_000 + 200 * seed + attempt)
        inputs = draw_numbers(rng, unit, shape[2:], exact)
        for given in ("x", *(("residual",) if residual else ())):
            size = (1 if given in static else steps, *shape[1:])
            plain = dyadic(rng, size, 0.5, 1.5) if exact else 0.3 + rng.standard_normal(size)
            spikes = given == "residual" and residual == "plain" and not exact
            inputs[given] = bits(rng, size) if spikes else plain
        inputs |= _norm(rng, "", channels, exact)
        inputs |= _norm(rng, "residual_", channels, exact) if residual == "norm" else {}
        if states:
            draw = dyadic(rng, shape[1:]) if exact else 0.5 * rng.standard_normal(shape[1:])
            inputs |= {f"state.{s}": draw for s in unit.states}
        if fire == "mixed":
            inputs["mask"] = bits(rng, shape) > 0
        if fire == "imposed":
            inputs["spike"] = bits(rng, shape)
        if exact or _settled(inputs, attributes):
            break
    else:
        raise ValueError(f"norm_neuron: no inputs of sample {name} lie away from the threshold")
    g = {"y": dyadic(rng, shape) if exact else rng.standard_normal(shape)}
    g |= {f"state.{s}": dyadic(rng, shape[1:]) for s in unit.states}
    if exact:
        return Sample(name, inputs, attributes, "exact", dtypes, g)
    return Sample(name, inputs, attributes, "random", dtypes, g, margin=MARGIN)


def _settled(inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    seen = forward(np, inputs, {**attributes, "observe": True})["potential"]
    places = [0.0, *edges(attributes["neuron"], inputs)]
    return all(not np.any(np.abs(np.abs(seen) - place) < MARGIN) for place in places)


def samples() -> Iterator[Sample]:
    """Yield every mode of norm and fire, both residuals, static inputs, numbers, and exact ones."""
    lif = LIF(surrogate=Triangular(1.0))
    soft = LIF(decay=0.7, reset="subtract", detach_reset=True, surrogate=Rectangular(1.2))
    learned = LIF(
        decay=Learned(0.6, "channel", "decay", "logit"),
        threshold=Learned(0.8, "channel", "threshold", low=0.01),
        emit=("threshold", 1.0),
        surrogate=Rectangular(Learned(1.2, transform="log")),
    )
    image = (3, 2, 3, 5, 4)
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("batch", lif, {}),
        ("image", soft, {"shape": image}),
        ("tdbn", LIF(surrogate=ArcTan(2.0)), {"scale": 0.5, "momentum": 0.25}),
        ("frozen", lif, {"mode": "frozen_batch"}),
        ("running", soft, {"mode": "running", "states": True}),
        ("copies", lif, {"shape": (2, 6, 3, 3), "mode": "frozen_batch", "copies": 3}),
        ("residual", soft, {"residual": "plain", "shape": image}),
        ("residual-norm", lif, {"residual": "norm", "residual_scale": 0.5, "shape": image}),
        ("residual-running", lif, {"residual": "norm", "mode": "running", "residual_eps": 1e-3}),
        ("static", lif, {"static": ("x",)}),
        ("static-residual", soft, {"static": ("residual",), "residual": "norm"}),
        ("static-both", lif, {"static": ("x", "residual"), "residual": "plain"}),
        ("learned", learned, {"states": True}),
        ("learned-mixed", learned, {"fire": "mixed", "residual": "plain"}),
        ("smooth", LIF(surrogate=Sigmoid(0.5)), {"fire": "smooth", "residual": "norm"}),
        ("imposed", LIF(surrogate=Dspike(3.0)), {"fire": "imposed", "dtypes": HALF}),
        ("adaptive", Adaptive(surrogate=ArcTan(2.0)), {"states": True}),
        ("one-step", lif, {"shape": (1, 4, 5)}),
    ]
    for seed, (name, unit, more) in enumerate(cases):
        yield _sample(name, seed, unit, **more)
    plain = LIF(detach_reset=True, surrogate=Rectangular(2.0))
    few = (3, 2, 2, 3)
    for seed, residual in enumerate(("", "plain", "norm"), start=100):
        name = f"exact-{residual or 'alone'}"
        yield _sample(name, seed, plain, few, exact=True, residual=residual, states=True)
    yield _sample("exact-soft", 110, IF(reset="subtract"), few, exact=True, residual="plain")


NORM_NEURON = Op(
    name="norm_neuron",
    signature="x[T N *S C], weight[C], bias[C], running_mean[C], running_var[C], "
    "residual[R N *S C]?, residual_weight[C]?, residual_bias[C]?, residual_running_mean[C]?, "
    "residual_running_var[C]?, state.*[N *F]?, p.*[]?, mask[T N *F]?, spike[T N *F]? "
    "-> y[T N *F], running_mean[C], running_var[C], residual_running_*[C], state.*[N *F]",
    forward=forward,
    vjp=vjp,
    samples=samples,
    tolerance={
        "float32": Tolerance(1e-5, 1e-5),
        "bfloat16": Tolerance(4e-2, 8e-2),
        "float16": Tolerance(5e-3, 1e-2),
    },
    differentiable=(
        "x",
        "weight",
        "bias",
        "residual",
        "residual_weight",
        "residual_bias",
        "state.*",
        "p.*",
    ),
    source="batch_norm, add and neuron of this table, one after another",
    smooth=False,
)
