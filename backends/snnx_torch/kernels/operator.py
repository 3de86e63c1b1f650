"""A function of tensors as an operator of torch, snnx::NAME: opaque to the compiler.

torch.library.custom_op does the same with a layer of Python for autograd and one for its checks
around each call, longer than a kernel of a small layer. Here the dispatcher calls the function
itself; that no operator changes or hands back what it is given is held by opcheck in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("snnx", "FRAGMENT")
Function = Callable[..., Any]


def operator(name: str) -> Callable[[Function], torch._ops.OpOverload]:
    """Return the decorator that makes a function the operator snnx::NAME."""

    def made(function: Function) -> torch._ops.OpOverload:
        schema = torch.library.infer_schema(function, mutates_args=())
        LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        return getattr(torch.ops.snnx, name).default

    return made


def fake(op: torch._ops.OpOverload) -> Callable[[Function], Any]:
    """Return the decorator that gives an operator's outputs their shapes and dtypes, no values."""
    return lambda function: torch.library.register_fake(op, function, lib=LIBRARY)
