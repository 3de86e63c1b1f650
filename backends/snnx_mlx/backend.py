"""The protocol of a backend, spoken by MLX."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from snnx.backend import Arrays, BackendError, Footprint
from snnx.objective import Objective
from snnx.ops._op import Op
from snnx.ops.neuron import learned_names
from snnx.optim import Optim
from snnx.program import Program
from snnx.world import World
from snnx_mlx import ranks
from snnx_mlx.arrays import DTYPES, to_mlx, to_numpy
from snnx_mlx.kernels.implementation import Choice
from snnx_mlx.net import Net
from snnx_mlx.ops import RULES
from snnx_mlx.session import MlxSession

TF32 = "MLX_ENABLE_TF32"


def find_device(name: str | None) -> mx.Device:
    """Return the device of that name; None is the GPU where there is one.

    Raises: BackendError for a device that is not there, with what to do.
    """
    metal, cuda = mx.metal.is_available(), mx.cuda.is_available()
    found = {"cpu": True, "gpu": metal or cuda, "metal": metal, "cuda": cuda}
    if name is None:
        name = "gpu" if found["gpu"] else "cpu"
    if name not in found:
        raise BackendError(f"mlx: device is one of {', '.join(found)}, not {name!r}")
    if not found[name]:
        how = {
            "metal": "Metal needs macOS on Apple silicon",
            "cuda": 'CUDA needs Linux with an NVIDIA GPU and pip install "snnx[mlx-cuda]"',
        }
        advice = how.get(name, "; ".join(how.values()))
        raise BackendError(f'mlx: no device {name!r} here; {advice}, or give device="cpu"')
    return mx.Device(mx.cpu if name == "cpu" else mx.gpu)  # type: ignore[arg-type]


def multiplies_in_float32(device: mx.Device) -> bool:
    """Tell whether a product on the device keeps all 24 bits: 1 + 2^-12 is 1 in TF32."""
    return _exact_products(str(device.type).rsplit(".", 1)[-1])


@cache
def _exact_products(kind: str) -> bool:
    with mx.stream(mx.Device(getattr(mx, kind))):
        fine = mx.full((64, 64), 1.0 + 2.0**-12)
        product = mx.matmul(fine, mx.eye(64))
        image = mx.conv2d(fine.reshape(1, 8, 8, 64), mx.eye(64).reshape(64, 1, 1, 64))
        exact = mx.logical_and(mx.all(product == fine), mx.all(image.reshape(64, 64) == fine))
        return bool(exact.item())


def require_precision(precision: str, device: mx.Device) -> None:
    """Prove the precision of products on the device; BackendError names the variable to set.

    MLX reads the variable once, at its first product, and for the whole process.
    """
    wanted = "1" if precision == "tf32" else "0"
    os.environ.setdefault(TF32, wanted)
    exact = multiplies_in_float32(device)
    if exact == (precision == "tf32"):
        found = "IEEE float32" if exact else "TF32"
        raise BackendError(
            f"mlx: precision {precision!r} was asked for, but products on {device} are {found}; "
            + (
                "TF32 exists on CUDA and on Apple GPUs from M5 on; there "
                if exact
                else "two precisions do not fit into one process; "
            )
            + f"set {TF32}={wanted} before the process starts"
        )


class MlxBackend:
    """Networks as mlx.nn modules; ops by the rules of `snnx_mlx.ops`, gradients by MLX."""

    name = "mlx"
    dtypes = frozenset(DTYPES)
    precisions = ("fp32", "tf32", "bf16")

    @property
    def ops(self) -> frozenset[str]:
        """Names of the ops that have a rule."""
        return frozenset(RULES)

    def describe(self) -> dict[str, str]:
        """Return the version, the device, and what LD_PRELOAD puts in the place of MLX's own BLAS.

        Another BLAS sums in another order, so that a run resumed on it says so.
        """
        kind = "metal" if mx.metal.is_available() else "cuda" if mx.cuda.is_available() else "cpu"
        info = mx.device_info()
        name = info.get("device_name", info.get("architecture", ""))
        found = {"mlx": version("mlx"), "device": kind, "device_name": str(name)}
        if preloaded := os.environ.get("LD_PRELOAD"):
            found["preloaded"] = " ".join(Path(v).name for v in re.split("[: ]+", preloaded) if v)
        return found

    def run(self, op: Op, inputs: Arrays, attributes: Mapping[str, Any], dtype: str) -> Arrays:
        """Return the op's outputs, floats as float64."""
        require_precision("fp32", find_device(None))
        arrays = {k: to_mlx(v, DTYPES[dtype]) for k, v in inputs.items()}
        return {k: _wide(v) for k, v in RULES[op.name](arrays, attributes).items()}

    def vjp(
        self,
        op: Op,
        inputs: Arrays,
        attributes: Mapping[str, Any],
        dtype: str,
        cotangents: Arrays,
    ) -> Arrays:
        """Return the gradients of the op's differentiable inputs, as float64."""
        require_precision("fp32", find_device(None))
        arrays = {k: to_mlx(v, DTYPES[dtype]) for k, v in inputs.items()}
        dialled = {k for k in arrays if k.startswith("p.")}
        dialled -= set(learned_names(attributes)) if dialled else set()
        names = [k for k in arrays if op.has_gradient(k) and k not in dialled]
        if not names:
            return {}
        found: list[str] = []

        def outputs(*values: mx.array) -> list[mx.array]:
            out = RULES[op.name]({**arrays, **dict(zip(names, values, strict=True))}, attributes)
            found[:] = list(out)
            return list(out.values())

        shapes = [(y.shape, y.dtype) for y in outputs(*(arrays[k] for k in names))]
        g = [
            to_mlx(cotangents[k], DTYPES[dtype]).astype(d) if k in cotangents else mx.zeros(s, d)
            for k, (s, d) in zip(found, shapes, strict=True)
        ]
        _, grads = mx.vjp(outputs, [arrays[k] for k in names], g)
        return {k: _wide(v) for k, v in zip(names, grads, strict=True)}

    def build(
        self,
        program: Program,
        parameters: Arrays,
        *,
        device: str | None = None,
        precision: str = "fp32",
        lean: bool | None = None,
        kernels: Choice = "auto",
    ) -> Net:
        """Return the network as an mlx.nn.Module, its precision proved on the device.

        lean None is True on devices other than the CPU, whose time it would cost. kernels: what
        runs the neurons, see `snnx_mlx.kernels.implementation`.
        """
        if precision not in self.precisions:
            raise BackendError(f"mlx: precision is one of {self.precisions}, not {precision!r}")
        place = find_device(device)
        require_precision(precision, place)
        chosen = place.type != mx.cpu if lean is None else lean
        net = Net(program, parameters, place, precision, chosen, kernels)
        if kernels not in ("auto", "generic"):
            net.implementations()  # raises here, and not deep in a step, where there are none
        return net

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
        kernels: Choice = "auto",
        chunk: int | None = None,
        recompute: int | None = None,
    ) -> Footprint:
        """Return the bytes of a step that is run here, on MLX's default device."""
        from snnx_mlx.footprint import footprint

        net = self.build(program, _ones(program), precision=precision, lean=lean, kernels=kernels)
        form = {"steps": steps, "chunk": chunk, "recompute": recompute}
        session = self.session(net, objective, optim, **form)
        return footprint(session, samples)

    def peak_bytes(self, reset: bool = False) -> int | None:
        """Return the peak of MLX's allocator."""
        if reset:
            mx.reset_peak_memory()
        return mx.get_peak_memory()

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
    ) -> MlxSession:
        """Return a training session; every op used here is deterministic without being told.

        group: an mx.distributed.Group over which gradients are summed, and with sync_norm the
        statistics of batch norms.
        """
        if graph:
            raise BackendError(
                'mlx: CUDA graphs are made by MLX itself; give graph = "auto", and compile=True '
                "for a step in one piece"
            )
        fixed = (net, objective, optim, steps, compile, chunk, group, sync_norm)
        return MlxSession(*fixed, recompute)

    def world(self, device: str | None = None) -> World:
        """Join the processes that mlx.launch started."""
        return ranks.world(find_device(device))


def _ones(program: Program) -> dict[str, np.ndarray]:
    return {p.path: np.ones(p.shape, np.float32) for p in program.parameters}


def _wide(array: mx.array) -> np.ndarray:
    values = to_numpy(array)
    return values.astype(np.float64) if values.dtype.kind == "f" else values
