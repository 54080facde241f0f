"""Functions of one variable that networks compute with, beside the activations that people train: squares, exponentials, waves,
functions with a pole or half a line as their domain, and jumps.

A product of two values is a difference of squares, a softmax is exponentials, a sum and reciprocals: with these functions every
such network stays a list of affine maps and functions of one variable (`network.products`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relukit._types import Array
from relukit.piecewise import AbstractActivation, Smooth
from relukit.piecewise._abstract import check_interval, widen

_TINY = 1e-30  # slopes are taken no nearer to a pole or to the root's 0


class Curve(Smooth):
    """A `Smooth` whose values may be infinite somewhere: bounds say so instead of raising."""

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            low, high = super().intercepts(slope, lower, upper)
        return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)

    def candidate_slopes(self, lower: Array, upper: Array) -> list[Array]:
        with np.errstate(all="ignore"):
            found = super().candidate_slopes(lower, upper)
        return [np.zeros_like(found[0]), *(np.where(np.isfinite(a), a, 0.0) for a in found[:-1])]


class Pole(Curve):
    """Infinite at 0: unbounded over an interval that holds it."""

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        meets = (lower <= 0) & (upper >= 0)
        low, high = super().intercepts(slope, np.where(meets, 1.0, lower), np.where(meets, 1.0, upper))
        return np.where(meets, -np.inf, low), np.where(meets, np.inf, high)


class HalfLine(Curve):
    """Defined for x >= 0 alone: what bounds allow below 0 does not happen."""

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        return super().intercepts(slope, np.maximum(lower, 0), np.maximum(upper, 0))


class Depth(HalfLine):
    """Defined for x > 0 and rising from minus infinity."""

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        deep = lower <= 0
        low, high = super().intercepts(slope, np.where(deep, np.maximum(upper, 1.0), lower), np.maximum(upper, deep))
        u, a = np.asarray(upper, np.float64), np.asarray(slope, np.float64)
        with np.errstate(all="ignore"):
            top = np.where(a > 0, np.minimum(1 / a, u), u)  # the largest log x - a x on (0, u]
            most = self.value(top) - a * top
            most += 1e-13 * (1 + np.abs(self.value(top)) + np.abs(a * top))
        most = _narrowed(most, most, low.dtype)[1]
        return np.where(deep, -np.inf, low).astype(low.dtype), np.where(
            deep & (u > 0), most, np.where(deep, np.inf, high)
        )


def square() -> Curve:
    return Curve("square", lambda x: x * x, lambda x: 2 * x, (), np.inf, limits=(np.inf, np.inf), far_slopes=(-np.inf, np.inf))  # fmt: skip


def power(n: int) -> Curve:
    """x to a whole power from 2 on."""
    if n == 2:
        return square()
    bends, left = ((0.0,), -np.inf) if n % 2 else ((), np.inf)
    return Curve(
        "power", lambda x: x**n, lambda x: n * x ** (n - 1), bends, np.inf, {"n": n},
        limits=(left, np.inf), far_slopes=(-left, np.inf),
    )  # fmt: skip


def exponential() -> Curve:
    value = _quiet(np.exp)
    return Curve("exp", value, value, (), np.inf, limits=(0.0, np.inf), far_slopes=(0.0, np.inf))


def _quiet(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function with infinite values where it has none or they are too large, without a warning."""

    def value(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return function(x)

    return value


def erf() -> Curve:
    from scipy.special import erf as value

    narrow = lambda x: value(np.asarray(x, np.float64) if np.asarray(x).dtype.itemsize > 8 else x)
    top = 2 / np.sqrt(np.pi)
    return Curve("erf", narrow, lambda x: top * np.exp(-x * x), (0.0,), top, limits=(-1.0, 1.0), far_slopes=(0.0, 0.0))


def reciprocal() -> Pole:
    value, slope = _quiet(lambda x: 1 / x), _quiet(lambda x: -1 / (x * x))
    return Pole("reciprocal", value, slope, (0.0,), np.inf, limits=(0.0, 0.0), far_slopes=(0.0, 0.0))


def root() -> HalfLine:
    return HalfLine(
        "sqrt", lambda x: np.sqrt(np.maximum(x, 0)), lambda x: 0.5 / np.sqrt(np.maximum(x, _TINY)), (), np.inf,
        limits=(0.0, np.inf), far_slopes=(0.0, 0.0),
    )  # fmt: skip


def logarithm() -> HalfLine:
    return Depth(
        "log", _quiet(lambda x: np.log(np.maximum(x, 0))), lambda x: 1 / np.maximum(x, _TINY), (), np.inf,
        limits=(-np.inf, np.inf), far_slopes=(0.0, 0.0),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Wave(AbstractActivation):
    """The sine, or the cosine as a sine that is a quarter ahead."""

    name: str = "sin"

    def __call__(self, x: Array) -> Array:
        return np.sin(x) if self.name == "sin" else np.cos(x)

    def derivative(self, x: Array) -> Array:
        return np.cos(x) if self.name == "sin" else -np.sin(x)

    def bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        low, high = self.intercepts(np.zeros_like(np.asarray(lower, float)), lower, upper)
        return np.maximum(low, -1), np.minimum(high, 1)

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        r"""f - a x repeats itself, moved by -2 pi a a period: its extremes are at the ends, or at the first or last place where f' = a."""
        lower, upper = check_interval(lower, upper)
        dtype = np.result_type(lower, np.float32)
        l, u, a = (np.asarray(v, np.float64) for v in (lower, upper, slope))
        turn, points = 2 * np.pi, [l, u]
        with np.errstate(invalid="ignore"):
            angle = np.arccos(np.clip(a, -1, 1))
            for place in (angle, -angle):
                place = place - (0.0 if self.name == "sin" else np.pi / 2)
                for edge, rounded in ((l, np.ceil), (u, np.floor)):
                    points.append(np.clip(place + turn * rounded((edge - place) / turn), l, u))
            gaps = [self(x) - a * x for x in points]
            low, high = np.minimum.reduce(gaps), np.maximum.reduce(gaps)
        # A critical point that is off by some ulp of x moves f - a x by the square of that; 64 covers it and the sine's own error.
        low, high = widen(low, high, 1 + np.abs(a) * np.maximum(np.abs(l), np.abs(u)), ulps=64.0)
        wild = ~(np.maximum(np.abs(l), np.abs(u)) < 1e6)  # places of critical points are no longer told from each other
        reach = np.maximum(a * l, a * u), np.minimum(a * l, a * u)
        low = np.where(wild, np.nan_to_num(-1 - reach[0], nan=-np.inf) * (1 + 1e-12) - 1e-12, low)
        high = np.where(wild, np.nan_to_num(1 - reach[1], nan=np.inf) * (1 + 1e-12) + 1e-12, high)
        return _narrowed(low, high, dtype)

    def candidate_slopes(self, lower: Array, upper: Array) -> list[Array]:
        width, middle = upper - lower, 0.5 * (lower + upper)
        with np.errstate(all="ignore"):
            chord = np.where(
                width > 0, (self(upper) - self(lower)) / np.where(width > 0, width, 1), self.derivative(middle)
            )
        found = [np.zeros_like(chord), chord, self.derivative(middle), self.derivative(lower), self.derivative(upper)]
        return [np.where(np.isfinite(a), a, 0.0) for a in found]

    def lipschitz(self) -> float:
        return 1.0

    def take(self, units: np.ndarray) -> "Wave":
        return self


@dataclass(frozen=True, eq=False)
class Jump(AbstractActivation):
    """One value left of 0, one at 0 and one on the right: the sign, and comparisons with 0."""

    name: str
    left: float
    middle: float
    right: float

    def __call__(self, x: Array) -> Array:
        x = np.asarray(x)
        kind = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        return np.where(x > 0, self.right, np.where(x < 0, self.left, self.middle)).astype(kind)

    def derivative(self, x: Array) -> Array:
        return np.zeros_like(x)

    def bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        kind = np.result_type(lower, np.float32)
        zero = (lower <= 0) & (upper >= 0)
        values = [(lower < 0, self.left), (zero, self.middle), (upper > 0, self.right)]
        low = np.minimum.reduce([np.where(met, v, np.inf) for met, v in values])
        high = np.maximum.reduce([np.where(met, v, -np.inf) for met, v in values])
        return low.astype(kind), high.astype(kind)

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        dtype = np.result_type(lower, np.float32)
        l, u, a = (np.asarray(v, np.float64) for v in (lower, upper, slope))
        zero = (l <= 0) & (u >= 0)
        cases = [
            (l < 0, self.left - a * l), (l < 0, self.left - a * np.minimum(u, 0)),
            (u > 0, self.right - a * u), (u > 0, self.right - a * np.maximum(l, 0)), (zero, self.middle + 0 * a),
        ]  # fmt: skip
        low = np.minimum.reduce([np.where(met, v, np.inf) for met, v in cases])
        high = np.maximum.reduce([np.where(met, v, -np.inf) for met, v in cases])
        low, high = widen(low, high, 1 + np.abs(a) * np.maximum(np.abs(l), np.abs(u)))
        return _narrowed(low, high, dtype)

    def candidate_slopes(self, lower: Array, upper: Array) -> list[Array]:
        rise, crosses = self.right - self.left, (lower < 0) & (upper > 0)
        zero = np.zeros_like(np.asarray(lower, np.float64))
        up = np.where(crosses, rise / np.where(upper > 0, upper, 1), 0.0)
        down = np.where(crosses, rise / np.where(lower < 0, -lower, 1), 0.0)
        return [zero, *(np.where(np.isfinite(a), a, 0.0) for a in (up, down))]

    def lipschitz(self) -> float:
        return np.inf

    def take(self, units: np.ndarray) -> "Jump":
        return self


def sign() -> Jump:
    return Jump("sign", -1.0, 0.0, 1.0)


def above(strictly: bool) -> Jump:
    """1 where x > 0 (or x >= 0), else 0."""
    return Jump("step", 0.0, 0.0 if strictly else 1.0, 1.0)


def _narrowed(low: Array, high: Array, dtype: np.dtype) -> tuple[Array, Array]:
    """Bounds in the dtype asked for, rounded outward."""
    if dtype == np.float64:
        return low, high
    kind = np.dtype(dtype).type
    return np.nextafter(low.astype(kind), kind(-np.inf)), np.nextafter(high.astype(kind), kind(np.inf))
