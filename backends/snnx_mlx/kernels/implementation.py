"""Which implementation a step of a neuron gets, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx

from snnx.emit.group_rows import GroupRows
from snnx.emit.layout import LIMIT
from snnx_mlx.kernels import launch

Name = Literal["generic", "metal", "cuda"]
Choice = Literal["auto", "generic", "fused"]
CHOICES: tuple[Choice, ...] = ("auto", "generic", "fused")
KERNELS = ("neuron", "norm_neuron", "rate_neuron", "recurrent")  # ops that have kernels
UNITS = 1024  # of a recurrent layer that "auto" gives to its kernels
MOST = GroupRows.capacity  # units that a thread group has memory for
DATA = (mx.float32, mx.bfloat16, mx.float16)


@dataclass(frozen=True, slots=True)
class Implementation:
    """The name of an implementation, "metal", "cuda" or "generic", and why it is this one."""

    name: Name
    reason: str


def implementation(
    attributes: Mapping[str, Any], dtype: mx.Dtype, neurons: int = 1, units: int = 0
) -> Implementation:
    """Return what runs a neuron's step of so many neurons, N * prod(F), on the default device.

    `units` are those of a recurrent layer, each of which is fed back to each.

    The attribute "implementation" asks for one: "auto" (the default) takes a kernel wherever it
    can, "generic" the interpreted lists, "fused" a kernel or an error.

    Raises: ValueError for an unknown choice, and where a kernel is asked for and cannot be.
    """
    asked = attributes.get("implementation", "auto")
    if asked not in CHOICES:
        raise ValueError(f"kernels is one of {CHOICES}, not {asked!r}")
    if asked == "generic":
        return Implementation("generic", "asked for")
    target = launch.target()
    missing = ""
    if target is None:
        missing = "MLX has no kernels on the CPU"
    elif dtype not in DATA:
        missing = f"kernels compute in float32, and the input is {dtype}"
    elif neurons > LIMIT:
        missing = f"a step has more than {LIMIT} neurons"
    elif units > MOST:
        missing = f"a thread group has memory for {MOST} recurrent units, not {units}"
    elif units > UNITS and asked == "auto":
        missing = f"one product a step is taken above {UNITS} units"
    if target is not None and not missing:
        return Implementation(target, "asked for" if asked == "fused" else f"{dtype} on {target}")
    if asked == "fused":
        raise ValueError(
            f"{asked} kernels were asked for, but {missing}; 'auto' and 'generic' do without"
        )
    return Implementation("generic", missing)
