"""The executable op spec: equation, reference, vjp, samples and tolerances of every op.

`OPS` maps a name to its `Op`, in the order in which a reader should meet them. `SPEC_HASH` is the
identity of the table, which conformance records carry; `hash_of` is that of some ops, which
checkpoints carry of those that their model and its training use.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from snnx.ops._op import Array, Arrays, Attributes, Op, Sample, Tolerance, op_table_hash
from snnx.ops.adam_update import ADAM_UPDATE
from snnx.ops.adamw_update import ADAMW_UPDATE
from snnx.ops.add import ADD
from snnx.ops.avg_pool2d import AVG_POOL2D
from snnx.ops.batch_norm import BATCH_NORM
from snnx.ops.conv2d import CONV2D
from snnx.ops.dropout import DROPOUT
from snnx.ops.flatten import FLATTEN
from snnx.ops.global_avg_pool2d import GLOBAL_AVG_POOL2D
from snnx.ops.linear import LINEAR
from snnx.ops.max_pool2d import MAX_POOL2D
from snnx.ops.mse_loss import MSE_LOSS
from snnx.ops.neuron import NEURON
from snnx.ops.norm_neuron import NORM_NEURON
from snnx.ops.poisson import POISSON
from snnx.ops.project import PROJECT
from snnx.ops.quantize_weight import QUANTIZE_WEIGHT
from snnx.ops.rate_block import RATE_BLOCK
from snnx.ops.rate_mapping import RATE_MAPPING
from snnx.ops.rate_mse_loss import RATE_MSE_LOSS
from snnx.ops.rate_neuron import RATE_NEURON
from snnx.ops.readout import READOUT
from snnx.ops.recurrent import RECURRENT
from snnx.ops.repeat import REPEAT
from snnx.ops.rounded_sgd_update import ROUNDED_SGD_UPDATE
from snnx.ops.sdt_loss import SDT_LOSS
from snnx.ops.sgd_update import SGD_UPDATE
from snnx.ops.tet_loss import TET_LOSS

_ENCODERS = (REPEAT, POISSON)
_LAYERS = (
    CONV2D,
    LINEAR,
    BATCH_NORM,
    AVG_POOL2D,
    MAX_POOL2D,
    GLOBAL_AVG_POOL2D,
    FLATTEN,
    ADD,
    DROPOUT,
    QUANTIZE_WEIGHT,
)
_NEURONS = (NEURON, NORM_NEURON, RECURRENT, RATE_NEURON, RATE_MAPPING, RATE_BLOCK)
_LOSSES = (READOUT, SDT_LOSS, TET_LOSS, RATE_MSE_LOSS, MSE_LOSS)
_UPDATES = (SGD_UPDATE, ADAM_UPDATE, ADAMW_UPDATE, ROUNDED_SGD_UPDATE, PROJECT)

SPEC_HASH: str  # computed on first use by __getattr__, since it reads every op's source
OPS: dict[str, Op] = {op.name: op for op in (*_ENCODERS, *_LAYERS, *_NEURONS, *_LOSSES, *_UPDATES)}


@cache
def _spec_hash() -> str:
    return op_table_hash(OPS)


@cache
def _hash_of(names: frozenset[str]) -> str:
    return op_table_hash({name: OPS[name] for name in names}, cases=False)


def hash_of(names: Iterable[str]) -> str:
    """Return the identity of these ops alone. Raises: KeyError for one that the table lacks."""
    return _hash_of(frozenset(names))


def __getattr__(name: str) -> str:
    if name == "SPEC_HASH":
        return _spec_hash()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "OPS",
    "SPEC_HASH",
    "Array",
    "Arrays",
    "Attributes",
    "Op",
    "Sample",
    "Tolerance",
    "hash_of",
    "op_table_hash",
]
