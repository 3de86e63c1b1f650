"""Which implementation a step of a neuron gets, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from snnx.emit.layout import LIMIT
from snnx_torch.kernels.host import compiler
from snnx_torch.kernels.loading import available, interpreting
from snnx_torch.kernels.recurrent_ops import place_of_feedback

Choice = Literal["auto", "generic", "fused", "triton", "cpp"]
CHOICES: tuple[Choice, ...] = ("auto", "generic", "fused", "triton", "cpp")
KERNELS = ("neuron", "norm_neuron", "rate_neuron", "recurrent")  # ops that have kernels
UNITS = 1024  # of a recurrent layer that "auto" gives to its kernels
DATA = ("torch.float32", "torch.bfloat16", "torch.float16")


@dataclass(frozen=True, slots=True)
class Implementation:
    """The name of an implementation, and why it is this one."""

    name: Literal["generic", "triton", "cpp"]
    reason: str


def implementation(
    attributes: Mapping[str, Any],
    device: str,
    dtype: torch.dtype,
    neurons: int = 1,
    units: int = 0,
) -> Implementation:
    """Return what runs a neuron's step of so many neurons, N * prod(F), on a kind of device.

    `units` are those of a recurrent layer, each of which is fed back to each.

    The attribute "implementation" asks for one: "auto" (the default) takes Triton on CUDA wherever
    it can, and on "meta", which stands for CUDA in a prediction of memory; "generic" the
    interpreted lists, "triton" the kernels or an error, "cpp" the shared kernel body on the CPU,
    which g++ compiles when a step first meets it, or an error. "fused" is "cpp" on
    the CPU and "triton" elsewhere.

    Raises: ValueError for an unknown choice, and where kernels are asked for and cannot be.
    """
    asked = attributes.get("implementation", "auto")
    name, reason = _decided(asked, device, str(dtype), neurons <= LIMIT, units > UNITS)
    if name == "refused":
        raise ValueError(reason)
    if name == "triton" and units:
        reason = f"{reason}; {place_of_feedback(units)}"
    return Implementation(name, reason)  # type: ignore[arg-type]


def fused(attributes: Mapping[str, Any], x: Tensor, units: int = 0) -> str:
    """Return the language of the kernels that run a neuron on [T, N, *F], "" for the generic."""
    asked = attributes.get("implementation", "auto")
    few, many = holds(x.numel() // x.shape[0] <= LIMIT), holds(units > UNITS)
    name, reason = _decided(asked, x.device.type, str(x.dtype), few, many)
    if name == "refused":
        raise ValueError(reason)
    return "" if name == "generic" else name


def holds(condition: Any) -> bool:
    """Return a condition of sizes as a bool, which in a graph it is after a branch only."""
    if condition:  # noqa: SIM103
        return True
    return False


@torch.compiler.assume_constant_result
def _decided(asked: str, device: str, dtype: str, few: bool, many: bool) -> tuple[str, str]:
    """Return the implementation, or "refused", and the reason."""
    if asked not in CHOICES:
        return "refused", f"kernels is one of {CHOICES}, not {asked!r}"
    if asked == "generic":
        return "generic", "asked for"
    if asked == "auto" and device not in ("cuda", "meta"):
        return "generic", f"on {device}; by itself it takes kernels on CUDA only"
    if asked == "fused":
        asked = "cpp" if device == "cpu" else "triton"
    if asked == "auto" and many:
        return "generic", f"one product a step is taken above {UNITS} units"
    missing = _missing(asked, device, dtype, few)
    if not missing:
        return ("triton", f"{dtype} on {device}") if asked == "auto" else (asked, "asked for")
    if asked != "auto":
        return (
            "refused",
            f"{asked} kernels were asked for, but {missing}; 'auto' and 'generic' do without",
        )
    return "generic", missing


def _missing(asked: str, device: str, dtype: str, few: bool) -> str:
    """Return what a kernel lacks, or nothing."""
    if device == "meta":
        pass  # shapes alone, for a device that is not here
    elif asked == "cpp":
        if device != "cpu":
            return f"the tensors are on {device}"
        if compiler() is None:
            return "g++ is not on PATH"
    elif not available():
        return "the package triton is not installed"
    elif device != "cuda" and not interpreting():
        return f"Triton has no device {device} here (TRITON_INTERPRET=1 interprets)"
    if dtype not in DATA:
        return f"kernels compute in float32, and the input is {dtype}"
    if not few:
        return f"a step has more than {LIMIT} neurons"
    return ""
