"""The neurons of plain nets in torch: a loop as a user writes it, SpikingJelly's and snnTorch's.

All of them: LIF, decay 0.5, threshold 1, hard reset to 0 with a detached gate, slope
1 / (1 + (pi x)^2). `layer` runs [T, N, *F] -> spikes; `recurrent` feeds the spikes back.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKAGES = ("spikingjelly", "snntorch")  # what a kind's name begins with


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
    """One step after another."""

    def forward(self, x: Tensor) -> Tensor:
        v, found = torch.zeros_like(x[0]), []
        for now in x.unbind(0):
            h = 0.5 * v + now
            spike = ArcTan.apply(h - 1.0)
            v = h * (1.0 - spike.detach())
            found.append(spike)
        return torch.stack(found)


class SpikingJelly(nn.Module):
    """SpikingJelly's LIF over a sequence.

    state "own": `LIFNode` as it comes, whose state has the dtype of its input, which in 16 bits
    its kernels do not take. "32": its function with a float32 state. "16": `LIFNode` prepared to
    store bfloat16.
    """

    def __init__(self, state: str = "own") -> None:
        super().__init__()
        base = "spikingjelly.activation_based"
        self.functional = importlib.import_module(f"{base}.functional")
        self.surrogate = importlib.import_module(f"{base}.surrogate").ATan(alpha=2.0)
        node = importlib.import_module(f"{base}.neuron").LIFNode
        how = {"surrogate_function": self.surrogate, "detach_reset": True}
        self.node = node(tau=2.0, decay_input=False, step_mode="m", **how)
        self.state = state
        if state == "16":
            precision = importlib.import_module(f"{base}.precision")
            stored = precision.PrecisionConfig(mode="fp32", neuron_storage="bf16")
            precision.prepare_model_for_precision(self.node, "cuda", stored)

    def reset(self) -> None:
        self.node.reset()

    def forward(self, x: Tensor) -> Tensor:
        if self.state != "32":
            return self.node(x)
        v = torch.zeros_like(x[0], dtype=torch.float32)
        run = self.functional.lif_multi_step
        return run(x, v, 2.0, False, 1.0, 0.0, self.surrogate, True)[0]


class SnnTorch(nn.Module):
    """A loop over snnTorch's Leaky, which resets at the next step and fires above the threshold."""

    def __init__(self) -> None:
        super().__init__()
        slope = importlib.import_module("snntorch.surrogate").atan(alpha=2.0)
        made = importlib.import_module("snntorch").Leaky
        self.leaky = made(beta=0.5, threshold=1.0, spike_grad=slope, reset_mechanism="zero")

    def reset(self) -> None:
        self.leaky.mem = torch.zeros(0, device=self.leaky.mem.device)

    def forward(self, x: Tensor) -> Tensor:
        v, found = torch.zeros_like(x[0]), []
        for now in x.unbind(0):
            spike, v = self.leaky(now, v)
            found.append(spike.to(x.dtype))
        return torch.stack(found)


def cell(now: Tensor, v: Tensor, spike: Tensor, feedback: Tensor) -> tuple[Tensor, Tensor]:
    """Return spikes and state of a recurrent step."""
    h = 0.5 * v + torch.addmm(now, spike, feedback.t())
    spike = ArcTan.apply(h - 1.0)
    return spike, h * (1.0 - spike.detach())


class RecurrentLoop(nn.Module):
    """The input's product for all steps at once, then one step after another."""

    def __init__(self, feedback: Tensor, step: Callable[..., Any] = cell) -> None:
        super().__init__()
        self.feedback, self.step = nn.Parameter(feedback), step

    def forward(self, x: Tensor) -> Tensor:
        v = spike = torch.zeros_like(x[0])
        found = []
        for now in x.unbind(0):
            spike, v = self.step(now, v, spike, self.feedback)
            found.append(spike)
        return torch.stack(found)


class RecurrentSpikingJelly(nn.Module):
    """SpikingJelly's node, its spikes fed back by a product that a user writes."""

    def __init__(self, feedback: Tensor) -> None:
        super().__init__()
        self.feedback, made = nn.Parameter(feedback), SpikingJelly()
        self.node = made.node
        self.node.step_mode = "s"

    def reset(self) -> None:
        self.node.reset()

    def forward(self, x: Tensor) -> Tensor:
        spike, found = torch.zeros_like(x[0]), []
        for now in x.unbind(0):
            spike = self.node(now + F.linear(spike, self.feedback))
            found.append(spike)
        return torch.stack(found)


def layer(kind: str) -> nn.Module | None:
    """Return a neuron by kind; None for "relu", which a net has as a function."""
    if kind == "relu":
        return None
    if kind.startswith("spikingjelly"):
        return SpikingJelly(kind.removeprefix("spikingjelly") or "own")
    return SnnTorch() if kind == "snntorch" else Loop()


def recurrent(kind: str, feedback: Tensor, compiled: bool) -> nn.Module:
    """Return a recurrent layer by kind; `compiled` is the loop's one step, not the loop.

    snnTorch has none of this neuron: after a spike its RLeaky drops the next input too, and where
    it does not (`reset_delay=False`), the gate of the reset has a gradient.
    """
    if kind == "spikingjelly":
        return RecurrentSpikingJelly(feedback)
    if kind != "loop":
        raise ValueError(f"no recurrent layer of kind {kind!r}")
    return RecurrentLoop(feedback, torch.compile(cell, dynamic=False) if compiled else cell)
