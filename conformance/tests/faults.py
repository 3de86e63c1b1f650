"""Faults planted in the code paths of snnx_torch and snnx_mlx; the shipped suite must see each.

`python conformance/tests/faults.py > docs/faults.md` writes which level caught which.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from snnx.backend import load_backend
from snnx.neurons import LIF
from snnx.surrogate import Rectangular, Surrogate
from snnx_conformance.case import LEVELS
from snnx_conformance.levels import cases

Patch = pytest.MonkeyPatch
Mutate = Callable[[Any], Any]


class Kit:
    """What a fault needs of a backend: its modules, and the few array calls that differ."""

    def __init__(self, name: str) -> None:
        self.name = name
        module = lambda part: importlib.import_module(f"snnx_{name}.{part}")  # noqa: E731
        self.ops, self.sequence, self.draws = module("ops"), module("sequence"), module("draws")
        self.updates = self.ops if name == "torch" else module("updates")
        self.rules: dict[str, Any] = self.ops.RULES

    def swap(self, x: Any) -> Any:
        """Return x with its first two axes swapped."""
        if self.name == "torch":
            return x.transpose(0, 1)
        return importlib.import_module("mlx.core").swapaxes(x, 0, 1)

    def turn(self, x: Any, axes: tuple[int, ...]) -> Any:
        """Return x with its axes in another order."""
        return x.permute(axes) if self.name == "torch" else x.transpose(axes)

    def counting(self, like: Any) -> Any:
        """Return 0, 1, ... of the length and dtype of `like`."""
        if self.name == "torch":
            return importlib.import_module("torch").arange(len(like), dtype=like.dtype)
        return importlib.import_module("mlx.core").arange(like.shape[0]).astype(like.dtype)

    def ones(self, like: Any) -> Any:
        """Return ones of the shape of `like`."""
        return like * 0.0 + 1.0

    def wrap(self, patch: Patch, op: str, around: Callable[..., Any]) -> None:
        """Replace a rule by around(rule, inputs, attributes)."""
        rule = self.rules[op]
        patch.setitem(self.rules, op, lambda inputs, attributes: around(rule, inputs, attributes))

    def neurons(self, patch: Patch, mutate: Mutate) -> None:
        """Let the backend run every neuron as another one."""
        name = "plan" if self.name == "torch" else "_scan"
        at = 0 if self.name == "torch" else 1
        made = getattr(self.sequence, name)

        def planted(*given: Any) -> Any:
            return made(*given[:at], mutate(given[at]), *given[at + 1 :])

        patch.setattr(self.sequence, name, planted)

    def fresh(self) -> None:
        """Forget what the backend has planned so far."""
        made = self.sequence.plan if self.name == "torch" else self.sequence._scan
        made.cache_clear()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name; `plant` patches it into the backend of a kit."""

    name: str
    plant: Callable[[Kit, Patch], None]
    backends: tuple[str, ...] = ("torch", "mlx")
    refused: bool = False  # the backend itself raises; elsewhere only numbers may tell


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late(LIF):
    """Decays after the input was added."""

    def step(self, ops: Any, x: Any, state: Any, p: Any) -> Any:
        return LIF.step(self, ops, p.decay * x, state, p)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stale(LIF):
    """Fires by the potential of the step before."""

    def step(self, ops: Any, x: Any, state: Any, p: Any) -> Any:
        gain = 1.0 - p.decay if self.gain == "1-decay" else p.gain
        s = ops.spike(state["v"] - p.fire_fraction * p.threshold)
        return s, {"v": (p.decay * state["v"] + gain * x) * (1.0 - s)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shallow(LIF):
    """Subtracts the level at which it fires, not the threshold."""

    def step(self, ops: Any, x: Any, state: Any, p: Any) -> Any:
        y, new = LIF.step(self, ops, x, state, p)
        if self.reset == "subtract":
            u = p.decay * state["v"] + (1.0 - p.decay if self.gain == "1-decay" else p.gain) * x
            new = {"v": u - p.fire_fraction * (u - new["v"])}
        return y, new


@dataclass(frozen=True, slots=True)
class _Scaled(Surrogate):
    """A surrogate whose slope is 1 % too large, or 0."""

    inner: Surrogate = Rectangular()
    factor: float = 1.01

    def value(self, ops: Any, x: Any, p: Any) -> Any:
        return self.inner.value(ops, x, p)

    def slope(self, ops: Any, x: Any, p: Any) -> Any:
        return self.factor * self.inner.slope(ops, x, p)

    def parameter_slopes(self, ops: Any, x: Any, p: Any) -> Any:
        return self.inner.parameter_slopes(ops, x, p)


def _as(kind: type[LIF]) -> Mutate:
    def mutate(neuron: Any) -> Any:
        if type(neuron) is not LIF:
            return neuron
        return kind(**{f.name: getattr(neuron, f.name) for f in fields(neuron)})

    return mutate


def _lif(**changes: Any) -> Mutate:
    return lambda n: replace(n, **changes) if type(n) is LIF else n


def _slope(factor: float) -> Mutate:
    def mutate(neuron: Any) -> Any:
        if any(k.startswith("surrogate.") for k in _varying(neuron)):
            return neuron
        kind = neuron.surrogate
        numbers = {f.name: getattr(kind, f.name) for f in fields(kind)}
        return replace(neuron, surrogate=_fixed(kind, numbers, factor))

    return mutate


def _varying(neuron: Any) -> list[str]:
    return [k for k, v in neuron.scalars().items() if not isinstance(v, int | float)]


def _fixed(kind: Surrogate, numbers: dict[str, Any], factor: float) -> Surrogate:
    """Return the surrogate with its numbers bound, its slope scaled."""

    class Bound:
        def __init__(self) -> None:
            self.__dict__.update(numbers)

    class Inner(Surrogate):
        def value(self, ops: Any, x: Any, p: Any) -> Any:
            return kind.value(ops, x, Bound())

        def slope(self, ops: Any, x: Any, p: Any) -> Any:
            return kind.slope(ops, x, Bound())

        def parameter_slopes(self, ops: Any, x: Any, p: Any) -> Any:
            return {}

    return _Scaled(Inner(), factor)


def _neurons(mutate: Mutate) -> Callable[[Kit, Patch], None]:
    return lambda kit, patch: kit.neurons(patch, mutate)


def _tie(kit: Kit, patch: Patch) -> None:
    strict = kit.sequence.OPERATIONS["spike_gt"]
    patch.setitem(kit.sequence.OPERATIONS, "spike_ge", strict)


def _merge(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        x = inputs["x"]
        return rule({**inputs, "x": kit.swap(x).reshape(x.shape)}, attributes)

    kit.wrap(patch, "conv2d", around)


def _flatten(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        x = inputs["x"]
        image = kit.turn(x, (0, 1, 4, 2, 3)) if len(x.shape) == 5 else x
        return rule({"x": image}, attributes)

    kit.wrap(patch, "flatten", around)


def _variance(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        out, x = rule(inputs, attributes), inputs["x"]
        if attributes["mode"] != "batch":
            return out
        count = attributes.get("repeat", 1)
        for size in x.shape[:-1]:
            count *= size
        kept = (1 - attributes.get("momentum", 0.1)) * inputs["running_var"]
        return {**out, "running_var": kept + (out["running_var"] - kept) * (1 - 1 / count)}

    kit.wrap(patch, "batch_norm", around)


def _momentum(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        return rule(inputs, {**attributes, "momentum": 1 - attributes.get("momentum", 0.1)})

    kit.wrap(patch, "batch_norm", around)


def _correction(kit: Kit, patch: Patch) -> None:
    patch.setattr(kit.updates, "_correction", lambda beta, count: kit.ones(count))


def _dampening(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        rest = 1 - attributes.get("momentum", 0.0)
        return rule({**inputs, "gradient": rest * inputs["gradient"]}, attributes)

    kit.wrap(patch, "sgd_update", around)


def _half_up(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        nudge = attributes["grid"] * 2.0**-10
        return rule({**inputs, "parameter": inputs["parameter"] + nudge}, attributes)

    kit.wrap(patch, "rounded_sgd_update", around)


def _dropout(kit: Kit, patch: Patch) -> None:
    kit.wrap(patch, "dropout", lambda rule, inputs, a: rule(inputs, {**a, "rate": 0.0}))


def _rates(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        steps = attributes.get("steps", inputs["x"].shape[0])
        return rule(inputs, {**attributes, "kappa": attributes["kappa"] / steps})

    kit.wrap(patch, "rate_neuron", around)


def _mixture(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        return rule(inputs, {**attributes, "mse": 1 - attributes.get("mse", 0.05)})

    kit.wrap(patch, "tet_loss", around)


def _lengths(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        return rule({k: v for k, v in inputs.items() if k != "length"}, attributes)

    for name in ("sdt_loss", "tet_loss"):
        kit.wrap(patch, name, around)


def _feedback(kit: Kit, patch: Patch) -> None:
    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        return rule({**inputs, "feedback": inputs["feedback"].T}, attributes)

    kit.wrap(patch, "recurrent", around)


def _places(kit: Kit, patch: Patch) -> None:
    uniform, at = kit.draws.uniform, 3 if kit.name == "torch" else 4

    def drawn(*given: Any) -> Any:
        return uniform(*given[:at], kit.counting(given[at]), *given[at + 1 :])

    patch.setattr(kit.draws, "uniform", drawn)


def _none(kit: Kit, patch: Patch) -> None:
    from snnx_mlx.arrays import custom_op

    backward: Any = lambda inputs, g, y: (None, g[0])  # noqa: E731
    planted = custom_op(lambda x, bias: (x + bias,), backward)
    patch.setattr(kit.ops, "_add_bias", planted)


def _shifted(kit: Kit, patch: Patch) -> None:
    """What MLX does with a gradient too many: every later one belongs to the input before it."""
    import mlx.core as mx

    def biased(x: Any, bias: Any) -> Any:
        f = mx.custom_function(lambda x, bias: x + bias)

        @f.vjp
        def _(primals: Any, g: Any, y: Any) -> Any:
            return mx.zeros_like(g), mx.sum(g, axis=tuple(range(g.ndim - 1)))

        return (f(x, bias),)

    patch.setattr(kit.ops, "_add_bias", biased)


def _shared(kit: Kit, patch: Patch) -> None:
    if kit.name == "torch":
        import torch

        def windows(x: Any, kernel: int, stride: int) -> Any:
            parts = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
            return torch.amax(parts, dim=(-2, -1))
    else:
        import mlx.core as mx

        places = importlib.import_module("snnx_mlx.pooling")._places

        def windows(x: Any, kernel: int, stride: int) -> Any:
            _, _, h, w, _ = x.shape
            cut = [x[:, :, r, c] for r, c in places(h, w, kernel, stride)]
            return mx.max(mx.stack(cut, axis=-1), axis=-1)

    def around(rule: Any, inputs: Any, attributes: Any) -> Any:
        if attributes.get("padding", 0):
            return rule(inputs, attributes)
        kernel = attributes["kernel"]
        return {"y": windows(inputs["x"], kernel, attributes.get("stride", kernel))}

    kit.wrap(patch, "max_pool2d", around)


FAULTS = (
    Fault("fires above threshold, not at it", _tie),
    Fault("decay after the input", _neurons(_as(_Late))),
    Fault("fires by the potential of the step before", _neurons(_as(_Stale))),
    Fault("soft reset by the firing level", _neurons(_as(_Shallow))),
    Fault("reset detached where attached", _neurons(_lif(detach_reset=True))),
    Fault("reset attached where detached", _neurons(_lif(detach_reset=False))),
    Fault("gradient through the spike off by 1 %", _neurons(_slope(1.01))),
    Fault("no gradient through the spike", _neurons(_slope(0.0))),
    Fault("T and N swapped in a merge", _merge),
    Fault("flatten in the order C, H, W", _flatten),
    Fault("max pooling shares the gradient of a tie", _shared),
    Fault("running variance biased", _variance),
    Fault("momentum of the norm inverted", _momentum),
    Fault("dropout without its scale", _dropout),
    Fault("feedback transposed", _feedback),
    Fault("DSR's threshold gradient a mean over time", _rates),
    Fault("TET's two terms exchanged", _mixture),
    Fault("padded steps count in the loss", _lengths),
    Fault("draws by the place in the batch", _places),
    Fault("Adam without bias correction", _correction),
    Fault("SGD with dampening", _dampening),
    Fault("rounding moved off the halves", _half_up),
    Fault("a None gradient", _none, ("mlx",), refused=True),
    Fault("gradients of a custom function in the wrong place", _shifted, ("mlx",)),
)


def caught(fault: Fault, name: str, patch: Patch) -> dict[str, int]:
    """Plant the fault and return how many cases of the quick suite fail, by level."""
    kit, backend = Kit(name), load_backend(name)
    kit.fresh()
    try:
        with patch.context() as planted:
            fault.plant(kit, planted)
            found = {str(level): 0 for level in LEVELS}
            for case in cases([backend], quick=True):
                outcome = case.run()
                found[case.level] += outcome.status == "failed"
                if "Error: " in outcome.message and not fault.refused:
                    raise AssertionError(f"{fault.name} was planted badly: {outcome.message}")
    finally:
        kit.fresh()
    return found


def table(patch: Patch) -> Iterator[str]:
    """Yield the lines of docs/faults.md."""
    yield "# Planted faults\n"
    yield "Each fault is planted in the code path of a real backend, and the shipped suite is run"
    yield "(`snnx conform --quick`). A cell is the number of its cases that failed.\n"
    yield "`conformance/tests/test_faults.py` plants them again in every test run.\n"
    yield "| fault | backend | " + " | ".join(LEVELS) + " |"
    yield "| --- | --- |" + " --- |" * len(LEVELS)
    for fault in FAULTS:
        for name in fault.backends:
            counts = caught(fault, name, patch)
            row = " | ".join(str(counts[level]) for level in LEVELS)
            yield f"| {fault.name} | {name} | {row} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in table(pytest.MonkeyPatch()))
