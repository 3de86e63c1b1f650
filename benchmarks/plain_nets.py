"""A tree's network in plain torch, as a user writes it: the contenders of `networks.py`.

Layer by layer over the whole sequence, in channels_last memory, a static image repeated T times.
`kind` says what fires (`plain_neurons`), or is "relu": T * N images through the same convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from plain_neurons import layer, recurrent
from torch import Tensor, nn

from snnx.program import Program, Step


class PlainNet(nn.Module):
    """y [T, N, K] of images [N, C, H, W] or sequences [T, N, F]; weights are those of a snnx
    network, by path. With `watched` the spikes [T * N, *F] of every layer are returned too.
    """

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Any],
        kind: str,
        steps: int,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.program, self.steps, self.kind, self.watched = program, steps, kind, False
        self.compiled = compiled
        self.layers = nn.ModuleDict()
        for step in program.steps:
            made = self._layer(step, weights)
            if made is not None:
                self.layers[step.path.replace(".", "-")] = made
        with torch.no_grad():
            for parameter, path in self.named():
                array = torch.tensor(weights[path])
                parameter.copy_(array.permute(0, 3, 1, 2) if array.dim() == 4 else array)

    def named(self) -> list[tuple[Tensor, str]]:
        """Return every parameter with its path in the snnx network."""
        names = ("weight", "bias", "feedback")
        return [
            (getattr(self._of(step), name), step.inputs[name])
            for step in self.program.steps
            for name in names
            if name in step.inputs
        ]

    def gradients(self) -> dict[str, np.ndarray]:
        """Return the gradients by path, in the order that snnx writes weights."""
        found = {}
        for parameter, path in self.named():
            g: Any = parameter.grad
            g = torch.zeros_like(parameter) if g is None else g
            found[path] = (g.permute(0, 2, 3, 1) if g.dim() == 4 else g).float().cpu().numpy()
        return found

    def settled(self, statistics: Mapping[str, np.ndarray] | None = None) -> None:
        """Take running statistics by path; None: those of the next forward pass in training."""
        for step in self.program.steps:
            if step.op != "batch_norm":
                continue
            norm: Any = self._of(step)
            norm.momentum = 1.0
            for name, ref in step.inputs.items():
                if statistics is not None and ref in statistics:
                    norm.get_buffer(name).copy_(torch.tensor(statistics[ref]))

    def _of(self, step: Step) -> nn.Module:
        return self.layers[step.path.replace(".", "-")]

    def _layer(self, step: Step, weights: Mapping[str, Any]) -> nn.Module | None:
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
        if step.op == "recurrent":
            feedback = torch.tensor(weights[step.inputs["feedback"]])
            return recurrent(self.kind, feedback, self.compiled)
        return layer(self.kind) if step.op == "neuron" else None

    def forward(self, x: Tensor) -> Any:
        self.reset()
        if x.dim() == 4:
            x = x.repeat(self.steps, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        else:
            x = x.flatten(0, 1)
        edges: dict[str, Tensor] = {self.program.source: x}
        for step in self.program.steps:
            edges[step.output] = self._play(step, edges)
        y = edges[self.program.result]
        y = y.view(self.steps, -1, y.shape[-1])
        return (y, [edges[s.output] for s in self.spiking]) if self.watched else y

    @property
    def spiking(self) -> list[Step]:
        """The steps that fire; none of a net of ReLU."""
        fire = ("neuron", "recurrent")
        return [s for s in self.program.steps if s.op in fire and self.kind != "relu"]

    def by_path(self, spikes: list[Tensor]) -> dict[str, np.ndarray]:
        """Return what a watched net returned as spikes [T, N, *F], features last."""
        found = {}
        for step, each in zip(self.spiking, spikes, strict=True):
            each = each.detach().float()
            each = each.permute(0, 2, 3, 1) if each.dim() == 4 else each
            found[step.path] = each.unflatten(0, (self.steps, -1)).cpu().numpy()
        return found

    def _play(self, step: Step, edges: Mapping[str, Tensor]) -> Tensor:
        if step.op == "add":
            return edges[step.inputs["a"]] + edges[step.inputs["b"]]
        x = edges[step.inputs["x"]]
        if step.op == "global_avg_pool2d":
            return x.mean(dim=(2, 3))
        if step.op == "avg_pool2d":
            return F.avg_pool2d(x, step.attributes["kernel"], step.attributes["stride"])
        if step.op in ("neuron", "recurrent"):
            if self.kind == "relu":
                return F.relu(x)
            return self._of(step)(x.view(self.steps, -1, *x.shape[1:])).flatten(0, 1)
        if step.op not in ("conv2d", "linear", "batch_norm"):
            raise ValueError(f"{step.path}: a plain net has no {step.op}")
        return self._of(step)(x)

    def reset(self) -> None:
        """Put neurons that keep a state at rest; with it goes the last graph of autograd."""
        for each in self.layers.values():
            reset = getattr(each, "reset", None)
            if reset is not None:
                reset()
