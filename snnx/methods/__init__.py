"""Methods: what each paper adds to a training run, as a small frozen dataclass with hooks."""

from __future__ import annotations

from snnx.methods.asgl import ASGLMethod as ASGLMethod
from snnx.methods.dspike import DspikeMethod as DspikeMethod
from snnx.methods.dsr import DSRMethod as DSRMethod
from snnx.methods.method import Method as Method
from snnx.methods.rewrite import replace_layers as replace_layers
from snnx.methods.rewrite import with_tdbn as with_tdbn
from snnx.methods.rewrite import with_weight_bits as with_weight_bits
from snnx.methods.tet import TETMethod as TETMethod

METHODS: dict[str, type[Method]] = {
    "plain": Method,
    "tet": TETMethod,
    "dspike": DspikeMethod,
    "dsr": DSRMethod,
    "asgl": ASGLMethod,
}
