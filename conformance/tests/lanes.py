"""The lanes of the checklist, a backend and a dtype each, and the laws by which a row is compared.

In float64, on NumPy and on torch's CPU, a row holds as printed; in float32, and so on MLX, at the
op table's tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from by_hand import (
    Derived,
)

import snnx
from snnx import LIF
from snnx.backend import load_backend
from snnx.ops import OPS, Op
from snnx.ops._cases import dyadic, generator
from snnx.program import Program, flatten

PRINTED = 1e-12


@dataclass(frozen=True)
class Lane:
    """A backend and the dtype in which it computes."""

    name: str
    dtype: str

    @property
    def double(self) -> bool:
        """Whether rows hold as printed."""
        return self.dtype == "float64"

    @property
    def backend(self) -> Any:
        """The backend, on the CPU where it lets one choose."""
        if self.name != "numpy":
            pytest.importorskip(self.name if self.name != "mlx" else "mlx.core")
        if self.name == "torch":
            from snnx_torch.backend import TorchBackend

            return TorchBackend("cpu")
        return load_backend(self.name)

    def run(self, op: Op | str, inputs: Any, attributes: Any = None) -> Any:
        """Return the outputs of an op."""
        op = OPS[op] if isinstance(op, str) else op
        return self.backend.run(op, inputs, attributes or {}, self.dtype)

    def vjp(self, op: Op | str, inputs: Any, attributes: Any, g: Any) -> Any:
        """Return the gradients of an op, those of outputs that `g` leaves out being zero."""
        op = OPS[op] if isinstance(op, str) else op
        outputs = self.run(op, inputs, attributes)
        given = {k: np.asarray(g.get(k, np.zeros(np.shape(v)))) for k, v in outputs.items()}
        return self.backend.vjp(op, inputs, attributes, self.dtype, given)

    def session(self, model: Any, parameters: Any = None, steps: int = 4) -> Any:
        """Return a session of a model in the lane's dtype."""
        program = model if isinstance(model, Program) else flatten(model)
        precision = "fp64" if self.double else "fp32"
        net = snnx.build(program, self.name, seed=3, device="cpu", precision=precision)
        session = load_backend(self.name).session(net, snnx.SDT(), snnx.Optim(), steps=steps)
        if parameters is not None:
            session.load(snnx.backend.Snapshot(parameters, session.export().statistics))
        return session


LANES = [
    Lane("numpy", "float64"),
    Lane("torch", "float64"),
    Lane("numpy", "float32"),
    Lane("torch", "float32"),
    Lane("mlx", "float32"),
]
every_lane = pytest.mark.parametrize("lane", LANES, ids=lambda v: f"{v.name}-{v.dtype}")


def near(
    found: Any,
    wanted: Any,
    lane: Lane,
    op: str,
    kind: str = "forward",
    printed: float = PRINTED,
    scale: float = 0.0,
) -> None:
    """Compare: absolute and as printed in float64, relative to the largest number in float32.

    `scale` is the size of the terms of a sum that may cancel.
    """
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    assert found.size
    error = np.max(np.abs(found - wanted))
    if not lane.double:
        printed = getattr(OPS[op].tolerance["float32"], kind)
        printed = printed * max(float(np.max(np.abs(wanted))), scale)
    assert error <= printed, f"{error} > {printed}"


def equal(found: Any, wanted: Any) -> None:
    """Compare bit for bit."""
    np.testing.assert_array_equal(found, wanted)


def derivatives(lane: Lane, case: Derived) -> None:
    """Compare the gradients of an op with those worked by hand or by autograd."""
    found = lane.vjp(case.op, case.inputs, case.attributes, case.cotangents)
    largest = max(float(np.max(np.abs(g))) for g in case.gradients.values())
    for name, wanted in case.gradients.items():
        sums = name.startswith("p.") or name == "synapse_decay"
        near(found[name], wanted, lane, case.op.name, "gradient", scale=largest * sums)


DYADIC = snnx.Chain(
    *(snnx.Input(8), snnx.Linear(12, bias=False), LIF(threshold=0.5)),
    *(snnx.Linear(8, bias=False), LIF(threshold=0.5), snnx.Linear(4, bias=False)),
)


def dyadic_session(lane: Lane) -> Any:
    rng = generator(38)
    weights = {p.path: dyadic(rng, p.shape, 0.25, 1.0) for p in flatten(DYADIC).parameters}
    return lane.session(DYADIC, weights, steps=6)
