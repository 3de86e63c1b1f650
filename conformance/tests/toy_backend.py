"""A third party's backend in one file: what it takes to run under the suite.

Its package has an entry point of the group `snnx.backends`, here `toy = "toy_backend:backend"`,
and in its CI: `pytest --pyargs snnx_conformance --snnx-backend toy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snnx.backend import Arrays
from snnx.ops import Op
from snnx_numpy import NumpyBackend


class ToyBackend(NumpyBackend):
    """Computes with NumPy in float32, and does not have the Poisson encoder."""

    name = "toy"
    dtypes = frozenset({"float32"})
    precisions = ("fp32",)

    @property
    def ops(self) -> frozenset[str]:
        """Every op but one."""
        return super().ops - {"poisson"}

    def describe(self) -> dict[str, str]:
        """Return a version of its own."""
        return {"toy": "0.1", "device": "cpu"}


class WrongBackend(ToyBackend):
    """A backend whose gradients are 1 % too large."""

    name = "wrong"

    def vjp(
        self, op: Op, inputs: Arrays, attributes: Mapping[str, Any], dtype: str, cotangents: Arrays
    ) -> Arrays:
        """Return gradients that are off."""
        found = super().vjp(op, inputs, attributes, dtype, cotangents)
        return {k: 1.01 * g for k, g in found.items()}


backend = ToyBackend()
wrong = WrongBackend()
