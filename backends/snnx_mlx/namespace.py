"""The array API standard over `mlx.core`, for a user's own layers.

MLX has most names of the standard; this proxy adds what is missing and takes the standard's
keywords. What MLX lacks altogether (boolean-mask reads, nonzero, unique_*) it lacks here too.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx


class Namespace:
    """`mlx.core` as an array API namespace."""

    bool = mx.bool_
    pi, e, inf, nan, newaxis = mx.pi, mx.e, mx.inf, mx.nan, None

    def __getattr__(self, name: str) -> Any:
        return getattr(mx, name)

    def __repr__(self) -> str:
        return "<array API namespace of mlx.core>"

    def asarray(
        self, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None
    ) -> Any:
        """Return the object as an array."""
        return mx.array(obj) if dtype is None else mx.array(obj, dtype)

    def astype(self, x: mx.array, dtype: Any, /, *, copy: bool = True) -> mx.array:
        """Return the array in another dtype."""
        return x.astype(dtype)

    def zeros(self, shape: Any, *, dtype: Any = mx.float32, device: Any = None) -> mx.array:
        """Return zeros."""
        return mx.zeros(shape, dtype)

    def ones(self, shape: Any, *, dtype: Any = mx.float32, device: Any = None) -> mx.array:
        """Return ones."""
        return mx.ones(shape, dtype)

    def full(self, shape: Any, value: Any, *, dtype: Any = None, device: Any = None) -> mx.array:
        """Return an array of one value."""
        return mx.full(shape, value, dtype)

    def zeros_like(self, x: mx.array, /, *, dtype: Any = None, device: Any = None) -> mx.array:
        """Return zeros of the shape of x."""
        return mx.zeros(x.shape, dtype or x.dtype)

    def ones_like(self, x: mx.array, /, *, dtype: Any = None, device: Any = None) -> mx.array:
        """Return ones of the shape of x."""
        return mx.ones(x.shape, dtype or x.dtype)

    def full_like(
        self, x: mx.array, /, fill_value: Any, *, dtype: Any = None, device: Any = None
    ) -> mx.array:
        """Return one value in the shape of x."""
        return mx.full(x.shape, fill_value, dtype or x.dtype)

    def arange(self, *args: Any, dtype: Any = None, device: Any = None) -> mx.array:
        """Return evenly spaced numbers."""
        return mx.arange(*args, dtype=dtype)

    def sum(
        self, x: mx.array, /, *, axis: Any = None, dtype: Any = None, keepdims: Any = False
    ) -> Any:
        """Return the sum, in `dtype` where given."""
        return mx.sum(x if dtype is None else x.astype(dtype), axis=axis, keepdims=keepdims)

    def clip(self, x: mx.array, /, min: Any = None, max: Any = None) -> mx.array:
        """Return x within [min, max]; either side may be open."""
        return x if min is None and max is None else mx.clip(x, min, max)


xp = Namespace()
