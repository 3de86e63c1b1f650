"""Surrogates: the smooth step H that stands for the spike in the backward pass.

Forward, a spike is 1 where x = u - threshold reaches 0. Backward, it has the slope h = dH/dx of a
smooth step H, and where H has a learned width, the gradient dH/dwidth. Each surrogate writes H, h
and the width gradient in scalar operations; `value` is used forward in "smooth" and "mixed" mode.

    family      H(x) = F(x / w),  h(x) = f(x / w) / w,  dH/dw = -(x / w) h(x),  integral of h = 1
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from snnx.scalars import Dial, Learned, Scalar, initial, is_number

Value = Any  # a symbolic value of the traced step


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A smooth step, its slope, and its derivative by each of its numbers."""

    def value(self, ops: Any, x: Value, p: Any) -> Value:
        """Return H(x)."""
        raise NotImplementedError(f"{type(self).__name__}.value")

    def slope(self, ops: Any, x: Value, p: Any) -> Value:
        """Return h(x) = dH/dx."""
        raise NotImplementedError(f"{type(self).__name__}.slope")

    def parameter_slopes(self, ops: Any, x: Value, p: Any) -> dict[str, Value]:
        """Return dH/dq for each number q of the surrogate that may be learned."""
        raise NotImplementedError(f"{type(self).__name__}.parameter_slopes")


def _positive(surrogate: Surrogate, *names: str) -> None:
    kind = type(surrogate).__name__
    for name in names:
        value = getattr(surrogate, name)
        if not is_number(value):
            raise TypeError(f"{kind}: {name} is a number, Learned or Dial, not {value!r}")
        if not initial(value) > 0:
            raise ValueError(f"{kind}: {name} must be above 0, not {initial(value)}")
        unbounded = isinstance(value, Learned) and value.transform is None and value.low is None
        if unbounded:
            raise ValueError(
                f'{kind}: a learned {name} could cross 0; give transform="log" or a low bound'
            )


@dataclass(frozen=True, slots=True)
class _Width(Surrogate):
    width: Scalar = 1.0

    def __post_init__(self) -> None:
        _positive(self, *(f.name for f in fields(self) if f.name in ("width", "area")))

    def parameter_slopes(self, ops: Any, x: Value, p: Any) -> dict[str, Value]:
        return {"width": -(x / p.width) * self.slope(ops, x, p)}


@dataclass(frozen=True, slots=True)
class Rectangular(_Width):
    """Rectangular window of width a.

        h(x) = 1[|x| <= a/2] / a        (|x| < a/2 where `closed` is False)
        H(x) = clip(x/a + 1/2, 0, 1)

    On grid-valued potentials the edge matters: with threshold 1/2 and a = 1 every neuron at
    u = 0 sits on it. Source: Dspike Eq. 7 (a), ASGL Eq. 7-8 (alpha); their clamps are closed.
    """

    closed: bool = True

    def value(self, ops: Any, x: Value, p: Any) -> Value:
        return ops.minimum(ops.maximum(x / p.width + 0.5, 0.0), 1.0)

    def slope(self, ops: Any, x: Value, p: Any) -> Value:
        inside = p.width * 0.5 - ops.abs(x)
        within = ops.ge(inside, 0.0) if self.closed else ops.gt(inside, 0.0)
        return ops.where(within, 1.0 / p.width, x * 0.0)


@dataclass(frozen=True, slots=True)
class Triangular(_Width):
    """Triangular window of half-width w and area A (1 unless given).

        h(x) = A max(0, w - |x|) / w^2
        H(x) = A (1 + x/w)_+^2 / 2              for x < 0
             = A (1 - (1 - x/w)_+^2 / 2)        for x >= 0

    TET Eq. 5 is A = 1 (gamma = w). `Triangular.peak` gives Dspike Eq. 8 (Bellec's form).
    """

    area: float = 1.0

    @classmethod
    def peak(cls, height: float, threshold: float) -> Triangular:
        """Return h = height * max(0, 1 - |u/threshold - 1|), Dspike Eq. 8."""
        return cls(width=threshold, area=height * threshold)

    def value(self, ops: Any, x: Value, p: Any) -> Value:
        z = x / p.width
        rising = ops.maximum(1.0 + z, 0.0)
        falling = ops.maximum(1.0 - z, 0.0)
        return p.area * ops.where(
            ops.ge(x, 0.0), 1.0 - falling * falling * 0.5, rising * rising * 0.5
        )

    def slope(self, ops: Any, x: Value, p: Any) -> Value:
        return p.area * ops.maximum(p.width - ops.abs(x), 0.0) / (p.width * p.width)


@dataclass(frozen=True, slots=True)
class Sigmoid(_Width):
    """Logistic step of width w: H(x) = 1 / (1 + exp(-x/w)), h = H (1 - H) / w. Source: ASGL."""

    def value(self, ops: Any, x: Value, p: Any) -> Value:
        return 0.5 + 0.5 * ops.tanh(x / p.width * 0.5)  # tanh: no overflow on either side

    def slope(self, ops: Any, x: Value, p: Any) -> Value:
        t = ops.tanh(x / p.width * 0.5)
        return (1.0 - t * t) * 0.25 / p.width


@dataclass(frozen=True, slots=True)
class Tanh(_Width):
    """Hyperbolic step of width w: H(x) = (1 + tanh(x/w)) / 2, h = 1 / (2 w cosh^2(x/w)).

    Source: ASGL (Tiny-ImageNet, autoencoder).
    """

    def value(self, ops: Any, x: Value, p: Any) -> Value:
        return 0.5 + 0.5 * ops.tanh(x / p.width)

    def slope(self, ops: Any, x: Value, p: Any) -> Value:
        t = ops.tanh(x / p.width)
        return (1.0 - t * t) * 0.5 / p.width


@dataclass(frozen=True, slots=True)
class ArcTan(_Width):
    """Inverse-tangent step of width w.

        H(x) = 1/2 + atan(pi x / w) / pi,    h(x) = 1 / (w (1 + (pi x / w)^2))

    SpikingJelly's ATan(alpha) is w = 2 / alpha. Source: Fang et al., ICCV 2021.
    """

    def value(self, ops: Any, x: Value, p: Any) -> Value:
        return 0.5 + ops.atan(x / p.width * math.pi) * (1.0 / math.pi)

    def slope(self, ops: Any, x: Value, p: Any) -> Value:
        z = x / p.width * math.pi
        return 1.0 / (p.width * (1.0 + z * z))


@dataclass(frozen=True, slots=True)
class Dspike(Surrogate):
    """Dspike with temperature b and half-width r (the paper: r = threshold = 1/2).

        H(x) = 1/2 + tanh(b x) / (2 tanh(b r))            for |x| <= r, else 0 or 1
        h(x) = b / (2 tanh(b r) cosh^2(b x))              for |x| <= r, else 0
        b r < 1e-3:  the limit, h = 1 / (2 r)

    The integral of h is 1 for every b; b -> 0 is the rectangle of width 2r. Source: Dspike
    Eq. 11-12.
    """

    temperature: Scalar = Dial("temperature", 1.0)
    radius: float = 0.5

    def __post_init__(self) -> None:
        _positive(self, "temperature", "radius")
        if not isinstance(self.radius, int | float):
            raise TypeError("Dspike: radius is a constant; learn or dial the temperature instead")

    def value(self, ops: Any, x: Value, p: Any) -> Value:
        b, r = p.temperature, p.radius
        small = ops.gt(1e-3, b * r)
        c = ops.minimum(ops.maximum(x, -r), r)
        limit = c / (2.0 * r)
        return 0.5 + ops.where(small, limit, ops.tanh(b * c) / (2.0 * ops.tanh(b * r)))

    def slope(self, ops: Any, x: Value, p: Any) -> Value:
        b, r = p.temperature, p.radius
        small = ops.gt(1e-3, b * r)
        t = ops.tanh(b * x)
        inner = b * (1.0 - t * t) / (2.0 * ops.tanh(b * r))
        h = ops.where(small, x * 0.0 + 1.0 / (2.0 * r), inner)
        return ops.where(ops.ge(r - ops.abs(x), 0.0), h, x * 0.0)

    def parameter_slopes(self, ops: Any, x: Value, p: Any) -> dict[str, Value]:
        b, r = p.temperature, p.radius
        small = ops.gt(1e-3, b * r)
        tx, tr = ops.tanh(b * x), ops.tanh(b * r)
        exact = (x * tr * (1.0 - tx * tx) - r * tx * (1.0 - tr * tr)) / (2.0 * tr * tr)
        limit = b * x * (r * r - x * x) / (3.0 * r)
        inside = ops.where(small, limit, exact)
        return {"temperature": ops.where(ops.ge(r - ops.abs(x), 0.0), inside, x * 0.0)}
