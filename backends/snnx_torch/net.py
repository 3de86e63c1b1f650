"""The native module: leaves named by their path in the tree, run by the pure core."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnx.backend import COUNTERS
from snnx.batch import check_hand_over, check_input
from snnx.building import initial_statistics
from snnx.mode import EVAL, Run, train_mode
from snnx.program import Program, Step
from snnx_torch import core
from snnx_torch.arrays import parameters_in, to_tensor
from snnx_torch.dials import pack, unpack
from snnx_torch.kernels.implementation import KERNELS, Choice, implementation
from snnx_torch.ops import project as project_rule
from snnx_torch.prepare import Prepared, prepare


class Numbers(nn.Module):
    """Holds a layer's parameters and statistics, or the layers of a branch, by name."""


def _holder(step: Step, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the native module of a layer, without memory of its own."""
    if step.op == "conv2d":
        o, i, kernel, _ = tensors["weight"].shape
        groups, stride, pad = (step.attributes[n] for n in ("groups", "stride", "padding"))
        bias = "bias" in tensors
        return nn.Conv2d(i * groups, o, kernel, stride, pad, 1, groups, bias, device="meta")
    if step.op == "linear":
        o, i = tensors["weight"].shape
        return nn.Linear(i, o, bias="bias" in tensors, device="meta")
    return Numbers()


class Net(nn.Module):
    """A network: y, state = net(x, state=None, steps=None, dials=None, index=None, hand_over=True).

    x is [N, *F] with `steps` = T, or [T, N, *F]; y [T, N, *K]. `train()` and `eval()` choose the
    mode; in training the running statistics move. `state` None is rest; what comes back is handed
    to the next chunk of time. `dials` are numbers by name, or the tensor that `dial_buffer` makes
    of them: under torch.compile give the tensor, since a Python number that changes compiles again.
    `index` are the samples' positions in the data set, for random draws. Without `hand_over` a
    sequence is run whole: no state is given, and of the state there comes back the time alone.
    """

    def __init__(
        self,
        program: Program,
        parameters: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        low: torch.dtype | None = None,
        lean: bool = False,
        kernels: Choice = "auto",
    ) -> None:
        super().__init__()
        self.program, self.dtype, self.low, self.lean = program, dtype, low, lean
        self.kernels: Choice = kernels
        self.dial_names = tuple(program.dials)
        modes = {True: train_mode(program), False: EVAL}  # by `training`
        self._forms = {
            (trains, hands): self.prepared(Run(mode, 1), hand_over=hands)
            for trains, mode in modes.items()
            for hands in (True, False)
        }
        tensors = parameters_in(program, parameters, dtype, device)
        stats = initial_statistics(program)
        buffers = {k: to_tensor(v, dtype, device) for k, v in stats.items()}
        left = dict.fromkeys([*tensors, *buffers])
        for step in program.steps:
            own = [n for n in step.inputs.values() if n in left and n.startswith(f"{step.path}.")]
            if own:
                direct = {n.removeprefix(f"{step.path}."): tensors[n] for n in own if n in tensors}
                self._hold(step.path, _holder(step, direct), own, tensors, buffers)
            for name in own:
                del left[name]
        for layer in dict.fromkeys(name.rpartition(".")[0] for name in left):
            own = [n for n in left if n.rpartition(".")[0] == layer]  # of a step that is merged
            self._hold(layer, Numbers(), own, tensors, buffers)
        start = pack({**dict.fromkeys(COUNTERS, 0), **program.dials}, self.dial_names, device)
        self.register_buffer("_dials", start, persistent=False)
        project(program, dict(self.named_parameters()))
        self.eval()

    def _hold(
        self,
        path: str,
        leaf: nn.Module,
        own: Sequence[str],
        tensors: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
    ) -> None:
        *above, last = path.split(".")
        parent: nn.Module = self
        for part in above:
            if part not in parent._modules:
                parent.add_module(part, Numbers())
            parent = parent.get_submodule(part)
        parent.add_module(last, leaf)
        for ref in own:
            *inner, short = ref.removeprefix(f"{path}.").split(".")
            place = leaf
            for part in inner:
                if part not in place._modules:
                    place.add_module(part, Numbers())
                place = place.get_submodule(part)
            if ref in buffers:
                place.register_buffer(short, buffers[ref])
            else:
                setattr(place, short, nn.Parameter(tensors[ref]))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._dials.device  # type: ignore[return-value]

    def prepared(
        self,
        how: Run,
        at: str | None = None,
        taps: Collection[str] = (),
        **more: Any,
    ) -> Prepared:
        """Return the program under `how`, in the network's dtype and form, with its kernels.

        `more` is recompute, side and hand_over of `prepare`.
        """
        own = {"low": self.low, "lean": self.lean, "kernels": self.kernels}
        return prepare(self.program, how, at=at, taps=taps, **own, **more)

    def implementations(self) -> dict[str, str]:
        """Return what runs each spiking step of a training step, and why, by its path."""
        dtype = self.low or self.dtype
        found = {}
        for play in self.prepared(Run(train_mode(self.program), 1)).plays:
            if "neuron" in play.attributes:
                size = math.prod(self.program.edges[play.output].shape)
                units = size if play.op == "recurrent" else 0
                chosen = implementation(play.attributes, self.device.type, dtype, size, units)
                kernel = play.op in KERNELS
                why = (
                    f"{chosen.name} ({chosen.reason})"
                    if kernel
                    else f"generic (no {play.op} kernel)"
                )
                found[play.path] = f"{play.op}: {why}"
        return found

    def statistics(self) -> dict[str, Tensor]:
        """Return the running statistics by path."""
        return {s.path: self.get_buffer(s.path) for s in self.program.statistics}

    def dial_buffer(self, values: Mapping[str, Any]) -> Tensor:
        """Return dials, those left out at their initial values, as one tensor for `forward`."""
        known = {**dict.fromkeys(COUNTERS, 0), **self.program.dials}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise KeyError(f"unknown dials {unknown}; there are {sorted(known)}")
        return pack({**known, **values}, self.dial_names, self.device)

    def forward(
        self,
        x: Tensor,
        state: Mapping[str, Any] | None = None,
        steps: int | None = None,
        dials: Mapping[str, Any] | Tensor | None = None,
        index: Tensor | None = None,
        hand_over: bool = True,
    ) -> tuple[Tensor, dict[str, Any]]:
        if not isinstance(x, Tensor):
            raise TypeError(f"x: is a {type(x).__name__}; give torch.as_tensor(x)")
        check_hand_over(state, hand_over)
        static, total = check_input(self.program, x.shape, steps)
        x = (x[None] if static else x).to(self.dtype)
        buffer = self._buffer(dials)
        order = torch.arange(x.shape[1], device=x.device) if index is None else index
        out = core.play(
            self._forms[self.training, hand_over],
            dict(self.named_parameters()),
            self.statistics(),
            x,
            state,
            unpack(buffer, self.dial_names, self.dtype),
            order,
            total,
        )
        if self.training:
            with torch.no_grad():
                for path, new in out.statistics.items():
                    self.get_buffer(path).copy_(new)
        return out.y, out.state

    def _buffer(self, given: Mapping[str, Any] | Tensor | None) -> Tensor:
        if given is None:
            return self._dials  # type: ignore[return-value]
        return given if isinstance(given, Tensor) else self.dial_buffer(given)


def project(program: Program, parameters: Mapping[str, Tensor]) -> None:
    """Clip every learned number into its bounds, in place."""
    with torch.no_grad():
        for p in program.parameters:
            if p.learned is not None:
                low, high = p.learned.raw_bounds
                tensor = parameters[p.path]
                clipped = project_rule({"parameter": tensor}, {"low": low, "high": high})
                tensor.copy_(clipped["parameter"])
