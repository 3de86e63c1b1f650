"""Arrays across the border of MLX, custom gradients that are checked, and sums that keep digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
Function = Callable[..., tuple[mx.array, ...]]


def to_mlx(array: Any, dtype: mx.Dtype = mx.float32) -> mx.array:
    """Return a NumPy array as an MLX array: floats in `dtype`, booleans as they are, others int32.

    A NumPy float64 goes through float32, since Metal and CUDA have no float64.
    Raises: OverflowError for a whole number outside int32.
    """
    values = np.asarray(array)
    if values.dtype.kind == "f":
        return mx.array(values.astype(np.float32)).astype(dtype)
    if values.dtype.kind == "b":
        return mx.array(values)
    limits = np.iinfo(np.int32)
    if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise OverflowError(f"MLX: a whole number outside int32, up to {int(values.max())}")
    return mx.array(values.astype(np.int32))


def to_words(array: Any) -> mx.array:
    """Return non-negative whole numbers as uint32, modulo 2^32."""
    return mx.array((np.asarray(array, np.int64) % 2**32).astype(np.uint32))


def to_numpy(array: mx.array) -> np.ndarray:
    """Return an MLX array as a NumPy array; 16-bit floats become float32."""
    if array.dtype in (mx.bfloat16, mx.float16):  # NumPy has no bfloat16
        array = array.astype(mx.float32)
    return np.array(array)


def floats(arrays: Mapping[str, Any] | None) -> dict[str, mx.array]:
    """Return NumPy arrays by name as float32; None has none."""
    return {k: to_mlx(v).astype(mx.float32) for k, v in (arrays or {}).items()}


def host(arrays: Mapping[str, mx.array]) -> dict[str, np.ndarray]:
    """Return MLX arrays by name as NumPy arrays."""
    return {k: to_numpy(v) for k, v in arrays.items()}


def state_in(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a state of NumPy arrays as float32, "t" as it is; None stays None."""
    if state is None:
        return None
    return {
        k: v if k == "t" else tuple(to_mlx(a).astype(mx.float32) for a in v)
        for k, v in state.items()
    }


def state_out(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state of MLX arrays as NumPy arrays, "t" as a Python number."""
    return {
        k: int(to_numpy(v)) if k == "t" else tuple(to_numpy(a) for a in v) for k, v in state.items()
    }


def first_of(y: mx.array, kept: Sequence[mx.array]) -> mx.array:
    """Return y, which is there only when what is kept for backward is.

    MLX computes an array when something asks for it. What only the backward asks for would hold its
    own inputs, all steps of them, until then.
    """
    return mx.depends([y], list(kept))[0]


def custom_op(forward: Function, backward: Callable[..., Sequence[mx.array]]) -> Function:
    """Return `forward` with the gradients of `backward(inputs, cotangents, outputs)`.

    Every input is a positional array and every result a tuple. MLX takes over a missing, shifted or
    misshapen gradient without a word, so that a wrong count or shape, or None, is an error here.
    Captured arrays have no gradient: whatever is learned must be an input.

    Raises: TypeError, ValueError as said, when the gradient is traced.
    """
    name = getattr(forward, "__qualname__", "custom op")

    def checked(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        inputs = primals if isinstance(primals, tuple | list) else (primals,)
        g = cotangents if isinstance(cotangents, tuple | list) else (cotangents,)
        y = outputs if isinstance(outputs, tuple | list) else (outputs,)
        found = backward(inputs, g, y)
        if not isinstance(found, tuple | list) or len(found) != len(inputs):
            raise ValueError(f"{name}: {len(inputs)} inputs need a tuple of as many gradients")
        for i, (a, b) in enumerate(zip(inputs, found, strict=True)):
            if not isinstance(b, mx.array):
                raise TypeError(f"{name}: the gradient of input {i} is {b!r}, not an array")
            if b.shape != a.shape:
                raise ValueError(f"{name}: gradient {b.shape} of input {i}, which is {a.shape}")
        return tuple(b.astype(a.dtype) for a, b in zip(inputs, found, strict=True))

    def call(*inputs: mx.array) -> Any:
        for i, a in enumerate(inputs):
            if not isinstance(a, mx.array):
                raise TypeError(f"{name}: input {i} is {type(a).__name__}, not an MLX array")
        function = mx.custom_function(forward)
        stream = mx.default_stream(mx.default_device())

        @function.vjp
        def _(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
            with mx.stream(stream):  # the network's device, wherever the gradient is asked for
                return checked(primals, cotangents, outputs)

        return function(*inputs)

    return call


def nested_sum(x: mx.array, axes: int) -> mx.array:
    """Sum the first `axes` axes, one after another, the last of them first.

    MLX on CPU adds in one accumulator, which over 16384 values loses 6 bits; nested sums lose 3.
    """
    for axis in reversed(range(axes)):
        x = mx.sum(x, axis=axis)
    return x


def sum_to(g: mx.array, shape: tuple[int, ...]) -> mx.array:
    """Sum the leading axes of `g` away until it has `shape`."""
    return nested_sum(g, g.ndim - len(shape))
