"""The network as an mlx.nn.Module: a tree of arrays by path, and the program that they run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from snnx.backend import COUNTERS
from snnx.batch import check_hand_over, check_input
from snnx.building import initial_statistics
from snnx.mode import EVAL, Run, train_mode
from snnx.passes import lean_form
from snnx.program import Program
from snnx_mlx import core
from snnx_mlx.arrays import to_mlx, to_words
from snnx_mlx.kernels.implementation import KERNELS, Choice, implementation
from snnx_mlx.updates import project as project_rule


def project(program: Program, parameters: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Return the parameters, every learned number within its bounds."""
    found = dict(parameters)
    for p in program.parameters:
        low, high = (None, None) if p.learned is None else p.learned.raw_bounds
        if low is not None or high is not None:
            bounds = {"low": low, "high": high}
            found[p.path] = project_rule({"parameter": found[p.path]}, bounds)["parameter"]
    return found


def _by_name(tree: Any) -> Any:
    """Return a tree of parameters with dicts where MLX made lists of keys that are numbers."""
    if isinstance(tree, list):
        tree = {str(i): value for i, value in enumerate(tree)}
    if isinstance(tree, dict):
        return {k: _by_name(v) for k, v in tree.items() if not (isinstance(v, dict) and not v)}
    return tree


class Net(nn.Module):
    """A network whose parameters flatten to the program's paths ("1.weight", "2.running_mean").

    y, state = net(x, state=None, steps=None): x [N, *F] with steps = T, or [T, N, *F].
    `train()` and `eval()` choose between `train_mode` and `EVAL`; a call in training moves the
    running statistics. Dials are numbers or 0-d arrays; inside mx.compile give arrays, since every
    new Python number is traced again.
    """

    def __init__(
        self,
        program: Program,
        parameters: Mapping[str, np.ndarray],
        device: mx.Device,
        precision: str,
        lean: bool = False,
        kernels: Choice = "auto",
    ) -> None:
        super().__init__()
        self.kernels: Choice = kernels
        self.program, self.device, self.precision, self.lean = program, device, precision, lean
        with mx.stream(device):
            values = {k: to_mlx(v) for k, v in parameters.items()}
            start = {k: to_mlx(v) for k, v in initial_statistics(program).items()}
            self.assign(project(program, values), start)
            mx.eval(self.parameters())
        self.unfreeze()

    def implementations(self) -> dict[str, str]:
        """Return what runs each spiking step of a training step, and why, by its path."""
        how = Run(train_mode(self.program), 1)
        program = lean_form(self.program, how) if self.lean else self.program
        data, found = mx.bfloat16 if self.precision == "bf16" else mx.float32, {}
        for step in program.spiking:
            asked = {**step.attributes, "implementation": self.kernels}
            size = math.prod(step.shape)
            chosen = implementation(asked, data, size, size if step.op == "recurrent" else 0)
            why = f"generic (no {step.op} kernel)"
            if step.op in KERNELS:
                why = f"{chosen.name} ({chosen.reason})"
            found[step.path] = f"{step.op}: {why}"
        return found

    def unfreeze(self, *args: Any, **kwargs: Any) -> Net:
        """Unfreeze parameters, but never running statistics, which have no gradient."""
        super().unfreeze(*args, **kwargs)
        for statistic in self.program.statistics:
            module, key = self._leaf(statistic.path)
            module.freeze(keys=key, recurse=False)
        return self

    def update(self, parameters: Any, strict: bool = True) -> Net:
        """Replace arrays by path, learned numbers kept in their bounds.

        MLX's optimisers and `load_weights` come through here, the latter with lists in the place of
        keys that are numbers.
        """
        super().update(_by_name(parameters), strict)
        self.assign(project(self.program, self.arrays()[0]), {})
        return self

    def _leaf(self, path: str) -> tuple[nn.Module, str]:
        """Return the module that holds an array, made where it is missing, and its key."""
        *places, key = path.split(".")
        module: Any = self
        for place in places:
            if place not in module:
                module[place] = nn.Module()
            module = module[place]
        return module, key

    def assign(
        self, parameters: Mapping[str, mx.array], statistics: Mapping[str, mx.array]
    ) -> None:
        """Put arrays in their places."""
        for path, array in (*parameters.items(), *statistics.items()):
            module, key = self._leaf(path)
            module[key] = array

    def arrays(self) -> tuple[dict[str, mx.array], dict[str, mx.array]]:
        """Return the parameters and the running statistics by path, in the program's order.

        The order is the same in every process, which sum them up one after another.
        """
        found = dict(self._flat())
        kept = [s.path for s in self.program.statistics]
        parameters = [p.path for p in self.program.parameters]
        return {k: found[k] for k in parameters}, {k: found[k] for k in kept}

    def _flat(self) -> Iterator[tuple[str, mx.array]]:
        yield from tree_flatten(self.parameters())  # type: ignore[misc]

    def __call__(
        self,
        x: mx.array,
        state: Mapping[str, Any] | None = None,
        steps: int | None = None,
        dials: Mapping[str, Any] | None = None,
        index: mx.array | np.ndarray | None = None,
        hand_over: bool = True,
    ) -> tuple[mx.array, dict[str, Any]]:
        """Return y [T, N, *K] and the state for the next chunk of time."""
        program = self.program
        if not isinstance(x, mx.array):
            raise TypeError(f"x: is a {type(x).__name__}; give mx.array(x)")
        check_hand_over(state, hand_over)
        static, total = check_input(program, x.shape, steps)
        with mx.stream(self.device):
            x = (x[None] if static else x).astype(mx.float32)
            mode = train_mode(program) if self.training else EVAL
            order = np.arange(x.shape[1]) if index is None else index
            order = order.astype(mx.uint32) if isinstance(order, mx.array) else to_words(order)
            parameters, statistics = self.arrays()
            out = core.run(
                program,
                parameters,
                statistics,
                x,
                state,
                self._dials(dials or {}),
                order,
                Run(mode, total),
                precision=self.precision,
                lean=self.lean,
                kernels=self.kernels,
                trains=self.training,
                hand_over=hand_over,
            )
            if self.training:
                self.assign({}, out.statistics)
        return out.y, out.state

    def _dials(self, given: Mapping[str, Any]) -> dict[str, mx.array]:
        known = {**self.program.dials, **dict.fromkeys(COUNTERS, 0)}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise KeyError(f"unknown dials {unknown}; there are {sorted(known)}")
        found = {**known, **given}
        return {
            k: v.astype(_kind(k)) if isinstance(v, mx.array) else mx.array(v, _kind(k))
            for k, v in found.items()
        }


def _kind(name: str) -> mx.Dtype:
    return mx.uint32 if name in COUNTERS else mx.float32
