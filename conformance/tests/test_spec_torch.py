"""The op spec against torch in float64: its own functions, its autograd, its optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from snnx.ops import OPS, Sample

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def tensors(sample: Sample, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Return the inputs as float64 tensors, those of `wanted` with a gradient."""
    found = {n: torch.tensor(np.asarray(x)) for n, x in sample.inputs.items()}
    for name in wanted:
        if name in found:
            found[name].requires_grad_()
    return found


def images(function: Callable[[Any], Any], x: Any) -> Any:
    """Apply a function of [B C H W] to [T N H W C]."""
    y = function(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def few_bits(weight: Any, a: Any) -> Any:
    """Return the weight rounded to the attribute's bits, straight through."""
    if "bits" not in a:
        return weight
    q = 2 ** (a["bits"] - 1) - 1
    step = weight.detach().abs().max() / q
    rounded = step * torch.clamp(torch.round(weight.detach() / step), -q, q)
    return weight + (rounded - weight.detach())


def conv2d(t: dict[str, Any], a: Any) -> Any:
    weight = few_bits(t["weight"], a).permute(0, 3, 1, 2)
    places = {k: v for k, v in a.items() if k != "bits"}
    return images(lambda x: functional.conv2d(x, weight, t.get("bias"), **places), t["x"])


def linear(t: dict[str, Any], a: Any) -> Any:
    return functional.linear(t["x"], few_bits(t["weight"], a), t.get("bias"))


def avg_pool2d(t: dict[str, Any], a: Any) -> Any:
    return images(lambda x: functional.avg_pool2d(x, a["kernel"], a.get("stride")), t["x"])


def max_pool2d(t: dict[str, Any], a: Any) -> Any:
    kernel, stride, padding = a["kernel"], a.get("stride"), a.get("padding", 0)
    return images(lambda x: functional.max_pool2d(x, kernel, stride, padding), t["x"])


def global_avg_pool2d(t: dict[str, Any], a: Any) -> Any:
    return images(lambda x: functional.adaptive_avg_pool2d(x, 1), t["x"])[:, :, 0, 0, :]


def per_sample(loss: Callable[[Any, int], Any]) -> Callable[[dict[str, Any], Any], Any]:
    """Return the losses of single samples, each over its own valid steps."""

    def losses(t: dict[str, Any], a: Any) -> Any:
        logits = t["logits"]
        steps, count, _ = logits.shape
        length = t["length"].tolist() if "length" in t else [steps] * count
        return torch.stack(
            [loss(logits[: length[n], n], int(t["target"][n]), **a) for n in range(count)]
        )

    return losses


def sdt(logits: Any, target: int, decay: float = 1.0) -> Any:
    weights = torch.tensor([decay**k for k in reversed(range(len(logits)))], dtype=logits.dtype)
    mean = (weights[:, None] * logits).sum(0) / weights.sum()
    return functional.cross_entropy(mean, torch.tensor(target))


def tet(logits: Any, target: int, mse: float = 0.05, target_value: float = 1.0) -> Any:
    entropy = functional.cross_entropy(logits, torch.full((len(logits),), target))
    square = functional.mse_loss(logits, torch.full_like(logits, target_value))
    return (1 - mse) * entropy + mse * square


def rate_mse(logits: Any, target: int, high: float = 1.0, low: float = 0.0) -> Any:
    wanted = torch.full_like(logits[0], low)
    wanted[target] = high
    return functional.mse_loss(logits.mean(0), wanted)


TORCH: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "conv2d": conv2d,
    "linear": linear,
    "avg_pool2d": avg_pool2d,
    "max_pool2d": max_pool2d,
    "global_avg_pool2d": global_avg_pool2d,
    "sdt_loss": per_sample(sdt),
    "tet_loss": per_sample(tet),
    "rate_mse_loss": per_sample(rate_mse),
}


@pytest.mark.parametrize(
    ("name", "sample"),
    [pytest.param(n, s, id=f"{n}-{s.name}") for n in TORCH for s in OPS[n].samples()],
)
def test_op_and_vjp_equal_torch_and_its_autograd(name: str, sample: Sample) -> None:
    op = OPS[name]
    outputs = op.forward(np, sample.inputs, sample.attributes)
    (output,) = outputs.values()
    (key,) = outputs
    g = np.random.default_rng(3).standard_normal(output.shape)
    gradients = op.vjp(np, sample.inputs, sample.attributes, outputs, {key: g})
    t = tensors(sample, op.differentiable)
    y = TORCH[name](t, sample.attributes)
    y.backward(torch.tensor(g))
    np.testing.assert_allclose(output, y.detach().numpy(), rtol=1e-12, atol=1e-12)
    for wanted, gradient in gradients.items():
        np.testing.assert_allclose(gradient, t[wanted].grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sample", list(OPS["batch_norm"].samples()), ids=lambda s: s.name)
def test_batch_norm_and_its_running_statistics_equal_torch(sample: Sample) -> None:
    op, a, inputs = OPS["batch_norm"], sample.attributes, sample.inputs
    assert sample.cotangents is not None
    g = sample.cotangents["y"]
    outputs = op.forward(np, inputs, a)
    gradients = op.vjp(np, inputs, a, outputs, {"y": g})
    t = tensors(sample, op.differentiable)
    mean, var = t["running_mean"].clone(), t["running_var"].clone()
    kept = a["mode"] == "batch" and a.get("copies", 1) == 1
    parts = []
    for copy in t["x"].chunk(a.get("copies", 1), dim=1):
        x = torch.cat([copy] * a.get("repeat", 1))  # a static input as its equal steps
        y = functional.batch_norm(
            x.reshape(-1, x.shape[-1]),
            mean if kept or a["mode"] == "running" else None,
            var if kept or a["mode"] == "running" else None,
            a.get("scale", 1.0) * t["weight"],
            t["bias"],
            training=a["mode"] != "running",
            momentum=a.get("momentum", 0.1),
            eps=a.get("eps", 1e-5),
        )
        parts.append(y.reshape(x.shape)[: copy.shape[0]])
    y = torch.cat(parts, dim=1)
    np.testing.assert_allclose(outputs["y"], y.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(outputs["running_mean"], mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(outputs["running_var"], var.numpy(), rtol=1e-12)
    if a.get("repeat", 1) == 1:  # the repeated case is covered by the sums it shares with one step
        y.backward(torch.tensor(g))
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, t[name].grad.numpy(), rtol=1e-10, atol=1e-11)


def test_gradient_of_a_static_input_is_that_of_its_equal_steps() -> None:
    op = OPS["batch_norm"]
    (sample,) = (s for s in op.samples() if s.name == "static")
    steps = sample.attributes["repeat"]
    g = np.random.default_rng(5).standard_normal((steps, *sample.inputs["x"].shape[1:]))
    repeated = {**sample.inputs, "x": np.repeat(sample.inputs["x"], steps, axis=0)}
    whole = op.vjp(np, repeated, {"mode": "batch"}, {}, {"y": g})
    one = op.vjp(np, sample.inputs, sample.attributes, {}, {"y": g.sum(0, keepdims=True)})
    np.testing.assert_allclose(one["weight"], whole["weight"], atol=1e-12)
    np.testing.assert_allclose(one["bias"], whole["bias"], atol=1e-12)
    # Each of the equal steps receives g - mean(g) - ...; summed over them the means count `steps`
    # times, as they do for one step that receives the summed g.
    np.testing.assert_allclose(one["x"][0], whole["x"].sum(0), atol=1e-12)


OPTIMISERS: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]] = {
    "sgd": ("sgd_update", torch.optim.SGD, {}, {}),
    "momentum": ("sgd_update", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.05}, {}),
    "nesterov": (
        "sgd_update",
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
        {},
    ),
    "adam": ("adam_update", torch.optim.Adam, {"weight_decay": 0.1}, {"foreach": False}),
    "adam-betas": ("adam_update", torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3}, {}),
    "adamw": ("adamw_update", torch.optim.AdamW, {"weight_decay": 0.1}, {}),
    "adamw-default": ("adamw_update", torch.optim.AdamW, {}, {}),
}


@pytest.mark.parametrize("case", OPTIMISERS)
def test_five_updates_equal_the_optimiser_of_torch(case: str) -> None:
    name, kind, attributes, extra = OPTIMISERS[case]
    op, rng = OPS[name], np.random.default_rng(9)
    parameter = rng.standard_normal((3, 5))
    native = torch.nn.Parameter(torch.tensor(parameter))
    optimiser = kind([native], lr=0.05, **attributes, **extra)
    moments = {n: np.zeros_like(parameter) for n in op.outputs if n != "parameter"}
    for count in range(1, 6):
        gradient = rng.standard_normal(parameter.shape)
        inputs = {"parameter": parameter, "gradient": gradient, "lr": np.array(0.05), **moments}
        if "count" in op.inputs:
            inputs["count"] = np.array(float(count))
        outputs = op.forward(np, inputs, attributes)
        parameter = outputs["parameter"]
        moments = {n: outputs[n] for n in moments}
        native.grad = torch.tensor(gradient)
        optimiser.step()
        np.testing.assert_allclose(parameter, native.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPS)
def test_reference_runs_on_torch_arrays(name: str) -> None:
    from array_api_compat import torch as xp

    op = OPS[name]
    for sample in op.samples():
        outputs = op.forward(np, sample.inputs, sample.attributes)
        t = tensors(sample, ())
        found = op.forward(xp, t, sample.attributes)
        g = {n: np.ones_like(y) for n, y in outputs.items()}
        gradients = op.vjp(np, sample.inputs, sample.attributes, outputs, g)
        g_torch = {n: torch.ones_like(y) for n, y in found.items()}
        g_found = op.vjp(xp, t, sample.attributes, found, g_torch)
        for wanted, got in ((outputs, found), (gradients, g_found)):
            for key, array in wanted.items():
                np.testing.assert_allclose(got[key].numpy(), array, rtol=1e-11, atol=1e-12)
