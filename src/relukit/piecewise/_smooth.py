"""Smooth activations: value, derivative, and where the curvature changes sign."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.piecewise._abstract import AbstractActivation, check_interval, widen

_STEPS = 60  # halvings of an interval: enough to reach neighboring float64 numbers from any width below 1e6


@dataclass(frozen=True, eq=False)
class Smooth(AbstractActivation):
    r"""A differentiable activation whose derivative is monotone between known inflection points.

    On each stretch between inflection points :math:`f(x) - a x` has at most one critical point, found by halving the
    stretch on the sign of :math:`f'(x) - a`; interval bounds and lines follow, with a margin for the rounding of
    `value` (assumed within 8 ulp) and for the last bracket.

    Arguments:
        name: As in the catalogue.
        value: Entrywise, NumPy in and out.
        slope: Its derivative.
        inflections: Sorted points where the curvature changes sign.
        constant: Lipschitz constant.
        parameters: What the name alone does not tell.
        limits: Values at minus and plus infinity (`inf` where unbounded).
        far_slopes: Derivatives there.
        kinks: Points where the derivative jumps.
        loose: How far, as a share of its value (and of 1e-3), a network's own way of writing the function may lie from this one.
    """

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    inflections: tuple[float, ...]
    constant: float
    parameters: dict[str, Any] = field(default_factory=dict)
    limits: tuple[float, float] = (-np.inf, np.inf)
    far_slopes: tuple[float, float] = (0.0, 1.0)
    kinks: tuple[float, ...] = ()
    loose: float = 0.0

    def __call__(self, x: Array) -> Array:
        """Value within 2 ulp: computed in the next wider type and rounded once."""
        return self._wide(self.value, self.limits, x)

    def derivative(self, x: Array) -> Array:
        return self._wide(self.slope, self.far_slopes, x)

    def fast(self, x: Array) -> Array:
        return self.value(x if x.dtype.kind == "f" else x.astype(np.float64))

    def fast_derivative(self, x: Array) -> Array:
        return self.slope(x if x.dtype.kind == "f" else x.astype(np.float64))

    def _wide(self, function: Callable[[Array], Array], limits: tuple[float, float], x: Array) -> Array:
        x = np.asarray(x)
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        wide = np.float64 if dtype.itemsize < 8 else np.longdouble
        with np.errstate(under="ignore", invalid="ignore", over="ignore"):
            value = function(x.astype(wide)).astype(dtype)
        infinite = np.isinf(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
        if infinite.any():
            value = np.where(infinite, np.where(x > 0, limits[1], limits[0]).astype(dtype), value)
        return value

    def slope_range(self) -> tuple[float, float]:
        """Infimum and supremum of the derivative: it is monotone between inflections, so they lie there or far out."""
        inner = np.array([*self.inflections, *(np.nextafter(t, np.inf) for t in self.inflections)], np.float64)
        found = [*self.far_slopes, *self.derivative(inner)]
        return float(min(found)), float(max(found))

    def _critical(self, a: Array, lower: Array, upper: Array) -> list[Array]:
        """Ends and the critical points of f - a x, at most one per stretch."""
        points = [lower, upper]
        ends = [-np.inf, *self.inflections, np.inf]
        for left, right in zip(ends[:-1], ends[1:]):
            low, high = np.clip(left, lower, upper), np.clip(right, lower, upper)
            rising = self.slope(high) >= self.slope(low)
            for _ in range(_STEPS):
                middle = 0.5 * (low + high)
                goes_right = (self.slope(middle) < a) == rising
                low, high = np.where(goes_right, middle, low), np.where(goes_right, high, middle)
            points.append(low)
            points.append(high)
        return points

    def bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        return self.intercepts(np.zeros_like(np.asarray(lower, dtype=np.result_type(lower, np.float32))), lower, upper)

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        # Critical points in float64: in float32 the last bracket would be too wide for the margin below.
        l, u, a = (np.asarray(v, np.float64) for v in (lower, upper, slope))
        points = self._critical(a, l, u)
        gaps = [self.value(x) - a * x for x in points]
        # Steepest slope on [l, u]: the derivative is monotone between the stretch ends, which are among the points.
        ends = [
            l,
            u,
            *(np.clip(t, l, u) for t in self.inflections),
            *(np.clip(np.nextafter(t, np.inf), l, u) for t in self.inflections),
        ]
        constant = np.maximum.reduce([np.abs(self.slope(x)) for x in ends])
        low, high = np.minimum.reduce(gaps), np.maximum.reduce(gaps)
        # The last bracket is at most (u - l) 2^-60 or one ulp of x wide, and there |f' - a| <= constant + |a|.
        reach = np.maximum(np.abs(l), np.abs(u))
        scale = np.maximum(np.abs(low), np.abs(high)) + (constant + np.abs(a)) * reach + np.finfo(np.float64).tiny
        low, high = widen(low, high, scale, ulps=32.0)
        if self.loose:
            # The derivative is monotone between the points, so |f| is largest at one of them or where it meets 0, at most one slope away.
            size = np.maximum.reduce([np.abs(self.value(x)) for x in points]) + constant * (u - l)
            low, high = low - self.loose * (size + 1e-3), high + self.loose * (size + 1e-3)
        if lower.dtype == np.float64:
            return low, high
        return np.nextafter(low.astype(lower.dtype), -np.inf, dtype=lower.dtype), np.nextafter(
            high.astype(lower.dtype), np.inf, dtype=lower.dtype
        )

    def candidate_slopes(self, lower: Array, upper: Array) -> list[Array]:
        width = upper - lower
        middle = 0.5 * (lower + upper)
        tangent = self.slope(middle)
        chord = np.where(width > 0, (self.value(upper) - self.value(lower)) / np.where(width > 0, width, 1), tangent)
        return [chord, tangent, self.slope(lower), self.slope(upper), np.zeros_like(tangent)]

    def lipschitz(self) -> float:
        return self.constant

    def gain(self) -> float:
        """He gain for a standard normal input, by Gauss-Hermite quadrature with 200 nodes."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(200)
        return float(1 / np.sqrt(np.sum(weights * self.value(np.asarray(nodes)) ** 2) / weights.sum()))

    def take(self, units: np.ndarray) -> "Smooth":
        return self

    def __repr__(self) -> str:
        return self.name
