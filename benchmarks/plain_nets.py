"""A tree's network in plain torch, as a user writes it: the contenders of `networks.py`.

Layer by layer over the whole sequence, in channels_last memory, the image repeated T times.
`neuron` says what fires: "loop" over time by autograd, "spikingjelly", or "relu" (T * N images
through the same convolutions).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnx.program import Program, Step


class ArcTan(torch.autograd.Function):
    """A step whose derivative is 1 / (1 + (pi x)^2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / (1.0 + (torch.pi * x) ** 2)


class Loop(nn.Module):
    """LIF, decay 0.5, threshold 1, hard reset detached, one step after another."""

    def forward(self, x: Tensor) -> Tensor:
        v, found = torch.zeros_like(x[0]), []
        for now in x:
            h = 0.5 * v + now
            spike = ArcTan.apply(h - 1.0)
            v = h * (1.0 - spike.detach())
            found.append(spike)
        return torch.stack(found)


def spikingjelly() -> nn.Module:
    """Return SpikingJelly's neuron of the same convention."""
    activation = importlib.import_module("spikingjelly.activation_based.neuron")
    surrogate = importlib.import_module("spikingjelly.activation_based.surrogate")
    how = {"surrogate_function": surrogate.ATan(alpha=2.0), "detach_reset": True}
    return activation.LIFNode(tau=2.0, decay_input=False, step_mode="m", **how)


class PlainNet(nn.Module):
    """y [T, N, K] of images [N, C, H, W]; weights are those of a snnx network, by path."""

    def __init__(
        self, program: Program, weights: Mapping[str, Any], neuron: str, steps: int
    ) -> None:
        super().__init__()
        self.program, self.steps = program, steps
        self.layers = nn.ModuleDict()
        for step in program.steps:
            layer = self._layer(step, neuron)
            if layer is not None:
                self.layers[step.path.replace(".", "-")] = layer
        with torch.no_grad():
            for step in program.steps:
                for name in ("weight", "bias"):
                    if name in step.inputs:
                        array = torch.tensor(weights[step.inputs[name]])
                        array = array.permute(0, 3, 1, 2) if array.dim() == 4 else array
                        getattr(self._of(step), name).copy_(array)

    def _of(self, step: Step) -> nn.Module:
        return self.layers[step.path.replace(".", "-")]

    def _layer(self, step: Step, neuron: str) -> nn.Module | None:
        shapes = {p.path: p.shape for p in self.program.parameters}
        bias = "bias" in step.inputs
        if step.op == "conv2d":
            o, kernel, _, i = shapes[step.inputs["weight"]]
            how = (step.attributes["stride"], step.attributes["padding"])
            return nn.Conv2d(i, o, kernel, *how, bias=bias)
        if step.op == "linear":
            o, i = shapes[step.inputs["weight"]]
            return nn.Linear(i, o, bias=bias)
        if step.op == "batch_norm":
            return nn.BatchNorm2d(step.shape[-1])
        if step.op == "neuron" and neuron != "relu":
            return spikingjelly() if neuron == "spikingjelly" else Loop()
        return None

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        x = x.repeat(self.steps, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        edges: dict[str, Tensor] = {self.program.source: x}
        for step in self.program.steps:
            edges[step.output] = self._play(step, edges)
        y = edges[self.program.result]
        return y.view(self.steps, -1, y.shape[-1])

    def _play(self, step: Step, edges: Mapping[str, Tensor]) -> Tensor:
        if step.op == "add":
            return edges[step.inputs["a"]] + edges[step.inputs["b"]]
        x = edges[step.inputs["x"]]
        if step.op == "global_avg_pool2d":
            return x.mean(dim=(2, 3))
        if step.op == "avg_pool2d":
            return F.avg_pool2d(x, step.attributes["kernel"], step.attributes["stride"])
        if step.op == "neuron":
            if step.path.replace(".", "-") not in self.layers:
                return F.relu(x)
            return self._of(step)(x.view(self.steps, -1, *x.shape[1:])).flatten(0, 1)
        if step.op not in ("conv2d", "linear", "batch_norm"):
            raise ValueError(f"{step.path}: a plain net has no {step.op}")
        return self._of(step)(x)

    def reset(self) -> None:
        """Put SpikingJelly's neurons at rest."""
        for layer in self.layers.values():
            reset = getattr(layer, "reset", None)
            if reset is not None:
                reset()
