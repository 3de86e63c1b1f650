"""Binary edges kept as bits: a convolution or linear map that keeps one bit of an input per value.

An edge that holds 0 or one scale only (`snnx.passes.mark_packed`) is kept for the gradient of the
weight as bits, 32 values to a word, and unpacked there: by kernels where there are any, else by
array operations. The step that makes the edge makes the bits, once. MLX keeps what a gradient reads
and nothing else, so that the input itself is freed once its layer has run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import mlx.core as mx

from snnx_mlx import bits as generic
from snnx_mlx.arrays import custom_op
from snnx_mlx.emitting import runs_kernels
from snnx_mlx.kernels import bits as kernels


@lru_cache(maxsize=256)
def packed_product(kind: str, by_kernel: bool, *how: int) -> Any:
    """Return the op (x, weight, words[, scale]) -> (y,) that keeps the words in the place of x.

    x is [T, N, H, W, C] and weight [O, kH, kW, C / groups] for "conv2d", `how` its stride, padding
    and groups; or [..., I] and [O, I] for "linear".
    """

    def product(x: mx.array, weight: mx.array) -> mx.array:
        if kind == "linear":
            return mx.matmul(x, weight.T)
        stride, padding, groups = how
        y = mx.conv2d(x.reshape(-1, *x.shape[-3:]), weight, stride, padding, groups=groups)
        return y.reshape(*x.shape[:-3], *y.shape[1:])

    def forward(x: mx.array, weight: mx.array, *kept: mx.array) -> tuple[mx.array, ...]:
        return (product(x, weight),)

    def backward(inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, weight, words, *scale = inputs
        unpack = kernels.unpack if by_kernel else generic.unpack
        again = unpack(words, x.shape, scale[0] if scale else None, x.dtype)
        _, found = mx.vjp(lambda a, b: [product(a, b)], [again, weight], [cotangents[0]])
        return found[0], found[1], *(mx.zeros_like(a) for a in inputs[2:])

    return custom_op(forward, backward)


def product_of(
    kind: str, inputs: Mapping[str, Any], attributes: Mapping[str, Any], weight: mx.array, *how: int
) -> mx.array:
    """Return the product of a step whose input has bits."""
    x, kept = inputs["x"], [inputs[n] for n in ("x_bits", "x_scale") if n in inputs]
    return packed_product(kind, runs_kernels(attributes, x), *how)(x, weight, *kept)[0]
