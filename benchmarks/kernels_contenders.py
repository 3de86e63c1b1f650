"""What `kernels.py` times: neurons, who runs them, and whether they agree with the reference."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CHECKED = (5, 2, 96)  # the shape at which a contender meets the reference


def neurons() -> dict[str, Any]:
    """Return the neurons that are measured; the last two are a user's."""
    from snnx import LIF, Rectangular
    from snnx.surrogate import ArcTan

    sys.path.insert(0, str(ROOT / "examples"))
    own_neuron = importlib.import_module("own_neuron")
    surrogate = ArcTan(1.0)
    return {
        "lif": LIF(detach_reset=True, surrogate=surrogate),
        "lif-attached": LIF(surrogate=surrogate),
        "lif-soft": LIF(reset="subtract", surrogate=surrogate),
        "lif-rectangular": LIF(detach_reset=True, surrogate=Rectangular(1.0)),
        "own-adaptive": own_neuron.AdaptiveLIF(surrogate=surrogate),
        "own-quadratic": own_neuron.QuadraticIF(surrogate=surrogate),
    }


def numbers_of(neuron: Any, features: int) -> dict[str, Any]:
    """Return the learned numbers of a neuron at their start, as NumPy arrays."""
    import numpy as np

    from snnx.ops._neuron_cases import shares
    from snnx.scalars import initial

    scalars = neuron.scalars()
    return {
        name: np.full(shape, initial(scalars[name.removeprefix("p.")]))
        for name, shape in shares(neuron, (features,)).items()
    }


Run = Callable[..., Any]  # (x, *numbers) -> y


def rule(neuron: Any, names: tuple[str, ...], how: str) -> Run:
    """Return a neuron's rule of torch as a function of tensors."""
    from snnx_torch.kernels import neuron as fused
    from snnx_torch.kernels.neuron import known
    from snnx_torch.scan import planned

    attributes = {"neuron": neuron, "implementation": how, "hand_over": False}
    attributes |= {"plan": planned(attributes)}
    attributes |= {"unit": known(attributes["plan"])}
    return lambda x, *numbers: fused(
        {"x": x, **dict(zip(names, numbers, strict=True))}, attributes
    )["y"]


def contenders(name: str, neuron: Any, names: tuple[str, ...], steps: int) -> dict[str, Run]:
    """Return what is measured for a neuron; loops are shown at the shortest T only."""
    import torch

    found = {"fused": rule(neuron, names, "triton")}
    if name != "lif":
        return found
    import plain_neurons as plain

    if steps <= 4:
        found["scan"], loop = rule(neuron, names, "generic"), plain.Loop()
        if torch.cuda.is_available():
            found["scan compiled"] = torch.compile(found["scan"], fullgraph=True)
            found["loop compiled"] = torch.compile(loop, fullgraph=True)
        else:
            found["loop"] = loop
    if importlib.util.find_spec("spikingjelly") is not None:
        for state in ("32", "own"):
            found[f"spikingjelly {state}"] = reset_first(plain.SpikingJelly(state))
    return found


def reset_first(layer: Any) -> Run:
    """Return a layer that is put at rest before each call."""

    def run(x: Any) -> Any:
        layer.reset()
        return layer(x)

    return run


def agrees(run: Run, neuron: Any, dtype: str, device: str) -> str:
    """Return how a contender disagrees with the float64 reference, or nothing."""
    import numpy as np
    import torch

    from snnx.ops import OPS
    from snnx.ops._cases import generator
    from snnx.ops._neuron_cases import random_sample
    from snnx_conformance.ops import round_to

    op = OPS["neuron"]
    sample = random_sample(generator(77), "bench", neuron, CHECKED)
    given = {k: round_to(v, dtype if k == "x" else "float32") for k, v in sample.inputs.items()}
    wanted = op.forward(np, given, sample.attributes)
    g = {k: np.zeros(v.shape) for k, v in wanted.items()}
    g["y"] = round_to(generator(78).standard_normal(CHECKED), dtype)
    gradients = op.vjp(np, given, sample.attributes, wanted, g)
    kind = getattr(torch, dtype)
    tensors = [torch.tensor(given["x"], dtype=kind, device=device).requires_grad_()]
    for name in (n for n in given if n.startswith("p.")):
        options = {"dtype": torch.float32, "device": device, "requires_grad": True}
        tensors.append(torch.tensor(given[name], **options))
    y = run(*tensors)
    cotangent = torch.tensor(g["y"], dtype=y.dtype, device=device)
    got = torch.autograd.grad(y, tensors, cotangent)
    seen = op.forward(np, given, {**sample.attributes, "observe": True})["potential"]
    near = np.any(np.abs(seen) < sample.margin, axis=0)
    if np.any((y.detach().float().cpu().numpy() != wanted["y"])[:, ~near]):
        return "its spikes are not those of the reference"
    if near.any() and dtype == "float32":
        return "the reference itself lies at a threshold"
    expected = [gradients["x"], *(gradients[n] for n in given if n.startswith("p."))]
    for have, want in zip(got, expected, strict=True):
        have = have.float().cpu().numpy()
        if near.any():  # in 16 bits a sum over neurons has some that are left out
            if have.shape != wanted["y"].shape:
                continue
            have, want = have[:, ~near], want[:, ~near]
        error = float(np.max(np.abs(have - want)) / max(np.max(np.abs(want)), 1.0))
        if not error <= op.tolerance[dtype].gradient:
            return f"a gradient is off by {error:.1e}"
    return ""
