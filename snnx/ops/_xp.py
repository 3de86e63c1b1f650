"""Array helpers that several ops of the spec share, in array-API code."""

from __future__ import annotations

from typing import Any

from snnx.ops._op import Array


def zeros(xp: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Return zeros of `shape` with the dtype and, where arrays have one, the device of `like`."""
    device = getattr(like, "device", None)
    if device is None:
        return xp.zeros(shape, dtype=like.dtype)
    return xp.zeros(shape, dtype=like.dtype, device=device)


def counting(xp: Any, stop: int, like: Array) -> Array:
    """Return the integers 0, 1, ..., stop - 1 on the device, where arrays have one, of `like`.

    Integers, since bfloat16 counts to 256 only.
    """
    device = getattr(like, "device", None)
    return xp.arange(stop) if device is None else xp.arange(stop, device=device)


def sum_to_shape(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """Return `x` summed over the axes along which an array of `shape` was broadcast to it."""
    extra = x.ndim - len(shape)
    if extra:
        x = xp.sum(x, axis=tuple(range(extra)))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 and x.shape[i] != 1)
    return xp.sum(x, axis=axes, keepdims=True) if axes else x


def one_hot(xp: Any, labels: Array, classes: int, like: Array) -> Array:
    """Return [N, classes] of `like`'s dtype, 1 at each integer label and 0 elsewhere."""
    columns = counting(xp, classes, labels)
    return xp.astype(xp.astype(labels, columns.dtype)[:, None] == columns[None, :], like.dtype)


def log_softmax(xp: Any, x: Array) -> Array:
    """Return x - logsumexp(x) over the last axis, the maximum subtracted first."""
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def step_weights(xp: Any, x: Array, length: Array | None, decay: float) -> Array:
    """Return the weights of a mean of `x` [T N ...] over the valid steps; they sum to 1 over T.

        w[t] = decay^(length - 1 - t) / sum     for t = 0 .. length - 1;  0 for t >= length

    Without `length` every step is valid. The shape is [T, N or 1, 1, ...], ready to multiply `x`.
    """
    steps = x.shape[0]
    t = counting(xp, steps, x)[:, None]
    last = steps - 1 if length is None else xp.astype(length, t.dtype)[None, :] - 1
    age = last - t
    valid = age >= 0
    weight = decay ** xp.astype(xp.where(valid, age, xp.zeros_like(age)), x.dtype)
    weight = xp.where(valid, weight, xp.zeros_like(weight))
    weight = weight / xp.sum(weight, axis=0, keepdims=True)
    return xp.reshape(weight, tuple(weight.shape) + (1,) * (x.ndim - 2))
