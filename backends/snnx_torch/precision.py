"""Devices and precisions: what may run where, and the proof that the device does what was asked."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from snnx.backend import BackendError

PRECISIONS = ("fp32", "tf32", "bf16", "fp64")
_claimed: dict[str, str] = {}


def device_of(name: str | None) -> torch.device:
    """Return the device; None is CUDA, else MPS, else the CPU. BackendError where it is absent."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(
            f'torch: no device {name!r}; give "cpu", "cuda", "cuda:N" or "mps"'
        ) from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise BackendError(
                f"torch: device {name!r} is not here; install a CUDA build of torch and the "
                'driver, or give device="cpu"'
            )
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise BackendError(
                f"torch: device {name!r} is not here; there are {count} CUDA devices"
            )
        return torch.device(
            "cuda", torch.cuda.current_device() if device.index is None else device.index
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BackendError(
            'torch: device "mps" is not here; it needs an Apple GPU, macOS 14 and a torch built '
            'for it, or give device="cpu"'
        )
    if device.type not in ("cpu", "mps"):
        raise BackendError(f'torch: no device {name!r}; give "cpu", "cuda", "cuda:N" or "mps"')
    return device


def set_precision(precision: str, device: torch.device) -> tuple[torch.dtype, torch.dtype | None]:
    """Set float32 arithmetic, prove it, and return the dtype and that of stored activations.

    Float32 is IEEE under "fp32", "bf16" and "fp64". The setting is one for the process, so that a
    second network which asks for the other is refused.
    """
    if precision not in PRECISIONS:
        raise BackendError(f"torch: precision is one of {PRECISIONS}, not {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise BackendError(f'torch: {device.type} has no TF32; use precision="fp32"')
    if precision == "fp64" and device.type == "mps":
        raise BackendError('torch: mps has no float64; use device="cpu" or precision="fp32"')
    wanted = "tf32" if precision == "tf32" else "ieee"
    if _claimed.get(device.type, wanted) != wanted:
        raise BackendError(
            f"torch: this process runs float32 as {_claimed[device.type]} on {device.type}; "
            f"{precision!r} needs {wanted}: run it in a process of its own"
        )
    if device.type == "cuda":
        # Set by these names both can be read back; after fp32_precision = "ieee" torch's own
        # readers of cudnn.allow_tf32 (cudnn.flags, Inductor's convolution) raise.
        torch.backends.cuda.matmul.allow_tf32 = wanted == "tf32"
        torch.backends.cudnn.allow_tf32 = wanted == "tf32"
    if device.type == "cpu":
        torch.backends.mkldnn.matmul.fp32_precision = wanted  # type: ignore[attr-defined]
        torch.backends.mkldnn.conv.fp32_precision = wanted  # type: ignore[attr-defined]
    prove(wanted, device)
    _claimed[device.type] = wanted
    if precision == "fp64":
        return torch.float64, None
    return torch.float32, torch.bfloat16 if precision == "bf16" else None


def prove(wanted: str, device: torch.device) -> None:
    """Raise BackendError unless products on the device round as asked.

    1 + 2^-12 times the identity is itself in IEEE float32; TF32 keeps 10 bits of it, bfloat16 7.
    On CUDA the products are large: cuBLAS leaves small ones in IEEE whatever is allowed.
    """
    size, side = (1024, 32) if device.type == "cuda" else (64, 8)
    x = torch.full((size, size), 1.0 + 2.0**-12, device=device)
    eye = torch.eye(size, device=device)
    # a kernel of 1 x 1 is a plain product: no transform of its own rounds
    image = x.reshape(-1, side, side, size).permute(0, 3, 1, 2)
    kernel = eye.reshape(size, size, 1, 1)
    for kind, y in (
        ("matrix product", x @ eye),
        ("convolution", torch.nn.functional.conv2d(image, kernel)),
    ):
        exact = bool((y == 1.0 + 2.0**-12).all())
        if exact != (wanted == "ieee"):
            found = "IEEE float32" if exact else "fewer bits than float32"
            raise BackendError(
                f"torch: a {kind} on {device} has {found}, but {wanted} was asked for; unset "
                "NVIDIA_TF32_OVERRIDE, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE and "
                "torch.set_float32_matmul_precision, or choose another precision"
            )


def autocast_off(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which products are those of their arguments, whatever autocast asks for.

    Autocast also reaches backward passes, by what was set where they were called.
    """
    kind = device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
