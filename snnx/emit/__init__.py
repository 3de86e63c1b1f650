"""Kernels as text: a neuron's traced lists in straight lines, around hand-written loops.

The arithmetic of a kernel has one source, the lists of `snnx.lower`; the movement of data has one,
`frame` with the two kernels of a neuron over time, `rate` (DSR's layer) and `recurrent`. These are
printed by two writers: Triton (`triton_text`) and the body that Metal, CUDA and C++ share
(`c_text`). No compiler forms a fused multiply-add: Triton runs with enable_fp_fusion=False, CUDA
multiplies by __fmul_rn, Metal and C++ switch contraction off. So forward, recomputation and every
target agree.

This package needs no framework: it returns text, and the names and kinds of its arguments.
"""

from snnx.emit.backward_kernel import backward
from snnx.emit.bits import packing, unpacking
from snnx.emit.forward_kernel import forward
from snnx.emit.frame import Drive
from snnx.emit.kept import Bits
from snnx.emit.pair import pair
from snnx.emit.rate import Rule, rate_backward, rate_forward
from snnx.emit.recurrent import Loop, chunk_of_loop
from snnx.emit.recurrent_backward import recurrent_backward
from snnx.emit.recurrent_forward import recurrent_forward
from snnx.emit.unit import Number, Unit, unit
from snnx.emit.variant import Argument, Source, Variant, chunk_of

__all__ = [
    "Argument",
    "Bits",
    "Drive",
    "Loop",
    "Number",
    "Rule",
    "Source",
    "Unit",
    "Variant",
    "backward",
    "chunk_of",
    "chunk_of_loop",
    "forward",
    "packing",
    "pair",
    "rate_backward",
    "rate_forward",
    "recurrent_backward",
    "recurrent_forward",
    "unit",
    "unpacking",
]
