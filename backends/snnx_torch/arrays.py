"""The border to NumPy: dtypes, devices, and the one conversion of convolution weights.

Canonical convolution weights are [O, kH, kW, I / groups]. Torch sees the same bytes as a tensor of
shape [O, I / groups, kH, kW] in channels_last memory format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnx.program import Program

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def to_tensor(array: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """Return a tensor of its own memory; `dtype` is for floats, integers are int64."""
    array = np.asarray(array)
    if array.dtype.kind == "b":
        return torch.tensor(array, device=device)
    if array.dtype.kind in "iu":
        return torch.tensor(array.astype(np.int64), device=device)
    # Cast on the host: MPS cannot hold the float64 that NumPy brings.
    host = torch.tensor(array)
    return host.to(dtype or host.dtype).to(device)


def sent(array: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Start the copy of an array to the device, without waiting: floats in `dtype`, else int64."""
    return waiting(array, dtype, device).to(device, non_blocking=True)


def waiting(array: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the array on the host, in memory from which it is copied to the device."""
    array = np.asarray(array)
    whole = array.dtype.kind in "iub"
    array = array.astype(np.int64) if whole else array
    host = torch.from_numpy(np.require(array, requirements=("C", "W")))
    host = host if whole else host.to(dtype)
    return host.pin_memory() if device.type == "cuda" else host


def batch_in(
    batch: Mapping[str, Any], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Return a batch's arrays on the host, to be copied: a whole-numbered x, too, as floats."""
    x = batch["x"]
    arrays = {"x": x.astype(np.float64) if x.dtype.kind in "iub" else x}
    arrays |= {k: batch[k] for k in ("index", "y", "length") if k in batch}
    return {k: waiting(v, dtype, device) for k, v in arrays.items()}


def state_in(
    state: Mapping[str, Any] | None, dtype: torch.dtype, device: torch.device
) -> dict[str, Any] | None:
    """Return a state of NumPy arrays as tensors, "t" as a 0-d one; None stays None."""
    if state is None:
        return None
    found: dict[str, Any] = {
        k: tuple(sent(a, dtype, device) for a in v) for k, v in state.items() if k != "t"
    }
    return {**found, "t": torch.tensor(int(state.get("t", 0)), device=device)}


def state_out(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state of tensors as NumPy arrays, "t" as a Python number."""
    arrays = {k: tuple(map(to_numpy, v)) for k, v in state.items() if k != "t"}
    return {**arrays, "t": int(state["t"])}


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Return a NumPy array with memory of its own; 16-bit floats become float32."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.to(torch.float32)
    return np.array(tensor.cpu().numpy(), order="C")


def host(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return tensors by name as NumPy arrays."""
    return {k: to_numpy(v) for k, v in tensors.items()}


def conv_view(weight: Tensor) -> Tensor:
    """Return canonical [O, kH, kW, I] as a channels_last [O, I, kH, kW], the same bytes."""
    return weight.permute(0, 3, 1, 2)


def canonical_view(weight: Tensor) -> Tensor:
    """Return [O, I, kH, kW] as canonical [O, kH, kW, I]: a view, contiguous if channels_last."""
    return weight.permute(0, 2, 3, 1)


CONVOLVE = ("conv2d", "rate_block")  # ops with a weight of 4 axes, where it has so many
KERNELS = ("weight", "skip_weight")


def conv_paths(program: Program) -> frozenset[str]:
    """Return the paths of the convolution weights."""
    steps = [s for s in program.steps if s.op in CONVOLVE]
    weights = {s.inputs[n] for s in steps for n in KERNELS if n in s.inputs}
    return frozenset(p.path for p in program.parameters if p.path in weights and len(p.shape) == 4)


def parameters_in(
    program: Program, arrays: Mapping[str, Any], dtype: torch.dtype, device: Any
) -> dict[str, Tensor]:
    """Return canonical arrays by path as tensors in torch's shapes."""
    conv = conv_paths(program)
    tensors = {k: to_tensor(v, dtype, device) for k, v in arrays.items()}
    return {k: conv_view(v) if k in conv else v for k, v in tensors.items()}


def parameters_out(program: Program, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return tensors in torch's shapes as canonical arrays by path."""
    conv = conv_paths(program)
    return {k: to_numpy(canonical_view(v) if k in conv else v) for k, v in tensors.items()}
