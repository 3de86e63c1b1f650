"""The protocol of a backend, spoken by PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snnx.backend import Arrays, BackendError, Footprint
from snnx.objective import Objective
from snnx.ops import OPS
from snnx.ops._op import Op
from snnx.ops.neuron import learned_names
from snnx.optim import Optim
from snnx.program import Program
from snnx.world import World
from snnx_torch import ranks
from snnx_torch.arrays import (
    CONVOLVE,
    DTYPES,
    KERNELS,
    canonical_view,
    conv_view,
    to_numpy,
    to_tensor,
)
from snnx_torch.compiling import hindrance
from snnx_torch.kernels.implementation import Choice
from snnx_torch.net import Net
from snnx_torch.ops import RULES
from snnx_torch.precision import PRECISIONS, device_of, set_precision
from snnx_torch.session import TorchSession


class TorchBackend:
    """PyTorch on CPU, CUDA or MPS: forward by its own rules, gradients by autograd."""

    name = "torch"
    precisions = PRECISIONS

    def __init__(self, device: str | None = None) -> None:
        """`device` is where single ops run, as in `build`: None is CUDA, else MPS, else the CPU."""
        self._device = device
        self._proven = False

    @property
    def device(self) -> torch.device:
        """Where single ops run."""
        return device_of(self._device)

    @property
    def dtypes(self) -> frozenset[str]:
        """Names of the dtypes that the device has."""
        return frozenset(DTYPES) - ({"float64"} if self.device.type == "mps" else set())

    @property
    def ops(self) -> frozenset[str]:
        """The ops that it has rules for."""
        return frozenset(RULES)

    def describe(self) -> dict[str, str]:
        """Return versions and devices."""
        found = {"torch": torch.__version__, "device": "cpu"}
        if torch.cuda.is_available():
            found["device"] = torch.cuda.get_device_name()
            found["cuda"] = str(torch.version.cuda)
            found["cudnn"] = str(torch.backends.cudnn.version())
        elif torch.backends.mps.is_available():
            found["device"] = "mps"
        return found

    def run(self, op: Op, inputs: Arrays, attributes: Mapping[str, Any], dtype: str) -> Arrays:
        """Return the op's outputs, computed in `dtype`."""
        with torch.no_grad():
            outputs = self._rule(op)(self._tensors(op, inputs, dtype), attributes)
        return {k: _wide(to_numpy(v)) for k, v in outputs.items()}

    def vjp(
        self,
        op: Op,
        inputs: Arrays,
        attributes: Mapping[str, Any],
        dtype: str,
        cotangents: Arrays,
    ) -> Arrays:
        """Return the gradients of the op's differentiable inputs, by autograd."""
        tensors = self._tensors(op, inputs, dtype)
        names = [n for n in tensors if op.has_gradient(n)]
        if "neuron" in attributes:
            learned = learned_names(attributes)
            names = [n for n in names if not n.startswith("p.") or n in learned]
        if not names:
            return {}
        for name in names:
            tensors[name].requires_grad_()
        outputs = self._rule(op)(tensors, attributes)
        given = {k: v for k, v in cotangents.items() if outputs[k].requires_grad}
        grads = torch.autograd.grad(
            [outputs[k] for k in given],
            [tensors[n] for n in names],
            [to_tensor(v, outputs[k].dtype, self.device) for k, v in given.items()],
            allow_unused=True,
        )
        found = {}
        for name, g in zip(names, grads, strict=True):
            g = torch.zeros_like(tensors[name]) if g is None else g
            kernel = op.name in CONVOLVE and name in KERNELS and g.dim() == 4
            found[name] = _wide(to_numpy(canonical_view(g) if kernel else g))
        return found

    def _rule(self, op: Op) -> Any:
        if op.name not in RULES:
            raise BackendError(f"torch: no rule for op {op.name!r}; there are {sorted(RULES)}")
        return RULES[op.name]

    def _tensors(self, op: Op, inputs: Arrays, dtype: str) -> dict[str, Tensor]:
        if dtype not in self.dtypes:
            raise BackendError(f"torch: dtype is one of {sorted(self.dtypes)}, not {dtype!r}")
        if not self._proven:
            set_precision("fp32", self.device)
            self._proven = True
        op.check_inputs(inputs)
        tensors = {k: to_tensor(v, DTYPES[dtype], self.device) for k, v in inputs.items()}
        for name in KERNELS:
            if op.name in CONVOLVE and name in tensors and tensors[name].dim() == 4:
                tensors[name] = conv_view(tensors[name])
        return tensors

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
        """Return the network as a torch.nn.Module; see `precision` for what is proven.

        lean None is True on devices other than the CPU, whose time it would cost. kernels: what
        runs the neurons, see `snnx_torch.kernels.implementation`.
        """
        missing = sorted({s.op for s in program.steps} - set(RULES) - {"array_layer"})
        if missing:
            raise BackendError(f"torch: no rule for the ops {missing}; known are {sorted(OPS)}")
        where = device_of(device)
        dtype, low = set_precision(precision, where)
        chosen = where.type != "cpu" if lean is None else lean
        net = Net(program, parameters, where, dtype, low, chosen, kernels)
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
        """Return the bytes of an eager step; lean None and kernels "auto" are those of a GPU.

        No device is needed.
        """
        from snnx_torch.footprint import footprint

        if precision not in self.precisions:
            raise BackendError(f"torch: precision is one of {self.precisions}, not {precision!r}")
        dtype = torch.float64 if precision == "fp64" else torch.float32
        low = torch.bfloat16 if precision == "bf16" else None
        form = {"dtype": dtype, "low": low, "lean": lean is not False}
        form |= {"chunk": chunk, "recompute": recompute, "kernels": kernels}
        return footprint(program, objective, optim, steps=steps, samples=samples, **form)

    def peak_bytes(self, reset: bool = False) -> int | None:
        """Return the peak of CUDA's allocator; None on other devices, which do not count."""
        if not torch.cuda.is_available():
            return None
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()

    def session(
        self,
        net: Net,
        objective: Objective,
        optim: Optim,
        *,
        steps: int = 1,
        compile: bool | str | None = None,
        deterministic: bool = False,
        group: Any = None,
        chunk: int | None = None,
        sync_norm: bool = True,
        recompute: int | None = None,
        graph: bool | None = None,
    ) -> TorchSession:
        """Return a training session.

        compile: True is torch.compile with its default, a name is one of its backends, None
        compiles on CUDA only, and not where torch cannot (`snnx_torch.compiling.hindrance`).
        group: a torch.distributed process group over which gradients are summed, and with sync_norm
        the statistics of batch norms. graph: the step is recorded as a CUDA graph and replayed
        (`snnx_torch.capture`); None where that is safe.
        """
        why = hindrance()
        if compile is None:
            compile = net.device.type == "cuda" and not why
        elif compile and why:
            raise BackendError(f"torch: compile = {compile!r}, but {why}; give compile = false")
        fixed = (net, objective, optim, steps, compile, deterministic, group, chunk, sync_norm)
        return TorchSession(*fixed, recompute, graph)

    def world(self, device: str | None = None) -> World:
        """Join the processes that torchrun started, each with a CUDA device of its own."""
        return ranks.world(device)


def _wide(array: Any) -> Any:
    return array.astype("float64") if array.dtype.kind == "f" else array
