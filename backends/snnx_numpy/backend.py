"""The protocol of a backend, spoken by NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnx.backend import Arrays, BackendError, Footprint
from snnx.objective import Objective
from snnx.ops import OPS
from snnx.ops._op import Op
from snnx.optim import Optim
from snnx.program import Program
from snnx.world import ALONE, World, launched
from snnx_numpy.net import Net
from snnx_numpy.session import NumpySession

DTYPES = {"float32": np.float32, "float64": np.float64}


def cast(inputs: Arrays, dtype: str) -> dict[str, np.ndarray]:
    """Return float arrays in the dtype, others as they are."""
    return {
        k: v.astype(DTYPES[dtype]) if v.dtype.kind == "f" else v
        for k, v in ((k, np.asarray(v)) for k, v in inputs.items())
    }


class NumpyBackend:
    """The reference: every op by its own forward and vjp, in float64 ("fp64") or float32."""

    name = "numpy"
    dtypes = frozenset({"float32", "float64"})
    precisions = ("fp32", "fp64")

    @property
    def ops(self) -> frozenset[str]:
        """Every op of the spec."""
        return frozenset(OPS)

    def describe(self) -> dict[str, str]:
        """Return the version and the device."""
        return {"numpy": np.__version__, "device": "cpu"}

    def run(self, op: Op, inputs: Arrays, attributes: Mapping[str, Any], dtype: str) -> Arrays:
        """Return the op's outputs."""
        out = op.forward(np, cast(inputs, dtype), attributes)
        return {k: np.asarray(v) for k, v in out.items()}

    def vjp(
        self,
        op: Op,
        inputs: Arrays,
        attributes: Mapping[str, Any],
        dtype: str,
        cotangents: Arrays,
    ) -> Arrays:
        """Return the gradients of the op's differentiable inputs."""
        arrays = cast(inputs, dtype)
        outputs = op.forward(np, arrays, attributes)
        found = op.vjp(np, arrays, attributes, outputs, cast(cotangents, dtype))
        return {k: np.asarray(v) for k, v in found.items()}

    def build(
        self,
        program: Program,
        parameters: Arrays,
        *,
        device: str | None = None,
        precision: str = "fp32",
        lean: bool | None = None,
        kernels: str = "auto",
    ) -> Net:
        """Return the network; "fp64" is the oracle. Neither lean nor fused kernels are here."""
        if lean:
            raise BackendError("the numpy backend keeps all that it computes; give lean=False")
        if kernels not in ("auto", "generic"):
            raise BackendError(f"the numpy backend has no kernels {kernels!r}; give 'generic'")
        if device not in (None, "cpu"):
            raise BackendError(f"the numpy backend runs on cpu, not {device!r}")
        if precision not in self.precisions:
            raise BackendError(f"the numpy backend has {self.precisions}, not {precision!r}")
        return Net(program, parameters, np.dtype("float64" if precision == "fp64" else "float32"))

    def footprint(
        self,
        program: Program,
        objective: Objective,
        optim: Optim,
        *,
        steps: int,
        samples: int,
        precision: str = "fp32",
        lean: bool | None = None,
        kernels: str = "auto",
        chunk: int | None = None,
        recompute: int | None = None,
    ) -> Footprint:
        """Refuse: the oracle keeps all that it computes, and nobody plans for it."""
        raise BackendError("the numpy backend is the oracle; plan for torch or mlx")

    def peak_bytes(self, reset: bool = False) -> int | None:
        """Return None: NumPy does not count."""
        return None

    def session(
        self,
        net: Net,
        objective: Objective,
        optim: Optim,
        *,
        steps: int = 1,
        compile: bool | None = None,
        deterministic: bool = False,
        group: Any = None,
        chunk: int | None = None,
        sync_norm: bool = True,
        recompute: int | None = None,
        graph: bool | None = None,
    ) -> NumpySession:
        """Return a training session; there is nothing to compile and nothing indeterminate."""
        if graph:
            raise BackendError('the numpy backend has no graphs; give graph = "auto"')
        if compile:
            raise BackendError("the numpy backend has nothing to compile")
        if group is not None:
            raise BackendError("the numpy backend runs in one process")
        if recompute is not None:
            raise BackendError("the numpy backend keeps every array; leave recompute out")
        return NumpySession(net, objective, optim, steps, chunk)

    def world(self, device: str | None = None) -> World:
        """Return one process alone; BackendError under a launcher."""
        launch = launched()
        if launch is not None:
            raise BackendError(
                f"the numpy backend runs in one process, and {launch.launcher} started several; "
                f"give -b {launch.backend}, or start snnx itself"
            )
        return ALONE
