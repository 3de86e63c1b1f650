"""The faults."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from tests.planted.kit import Fault, Kit, Mutate, Patch
from tests.planted.neurons import Late, Shallow, Stale, changed, sloped, turned_into


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
    Fault("decay after the input", _neurons(turned_into(Late))),
    Fault("fires by the potential of the step before", _neurons(turned_into(Stale))),
    Fault("soft reset by the firing level", _neurons(turned_into(Shallow))),
    Fault("reset detached where attached", _neurons(changed(detach_reset=True))),
    Fault("reset attached where detached", _neurons(changed(detach_reset=False))),
    Fault("gradient through the spike off by 1 %", _neurons(sloped(1.01))),
    Fault("no gradient through the spike", _neurons(sloped(0.0))),
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
