"""Continuous piecewise-linear functions of one variable, as data."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.piecewise._abstract import AbstractActivation, check_interval, widen


class Hinges(NamedTuple):
    r"""A split into ReLUs: :math:`f(x) = slope \cdot x + offset + \sum_j weights_j \max(0, x - knots_j)`."""

    slope: Array
    offset: Array
    weights: Array
    knots: Array


@dataclass(frozen=True, eq=False)
class PiecewiseLinear(AbstractActivation):
    r"""A continuous piecewise-linear function: knots, slopes, and one height.

    With knots :math:`t_1 < \dots < t_k` and slopes :math:`s_0, \dots, s_k`, slope :math:`s_j` holds between
    :math:`t_j` and :math:`t_{j+1}`, and `height` is the value at :math:`t_1` (at 0 where there is no knot).
    Bounds, relaxations, Lipschitz constant, gain and the split into ReLUs all follow from these numbers.

    Arguments:
        knots: Shape `(k,)`, or `(k, n)` for units of their own.
        slopes: Shape `(k + 1,)` or `(k + 1, n)`.
        height: Shape `()` or `(n,)`.
        name: What the activation is called in listings.
        parameters: What the name alone does not tell (`negative_slope=0.1`), for writers.

    Raises:
        InvalidInput: Knots are not strictly increasing, or a number is not finite.

    Example:
        >>> relu = PiecewiseLinear([0.0], [0.0, 1.0])
        >>> relu(np.array([-3.0, -0.7, 0.0, 1.2, 5.0]))
        array([0. , 0. , 0. , 1.2, 5. ])
    """

    knots: Array
    slopes: Array
    height: Array | float = 0.0
    name: str = "piecewise linear"
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("knots", "slopes", "height"):
            value = np.array(getattr(self, key), dtype=np.float64)
            value.setflags(write=False)
            if not np.all(np.isfinite(value)):
                raise InvalidInput(f"{self.name}: {key} must be finite, got {value}")
            object.__setattr__(self, key, value)
        if len(self.slopes) != len(self.knots) + 1:
            raise InvalidInput(
                f"{self.name}: {len(self.knots)} knots need {len(self.knots) + 1} slopes, got {len(self.slopes)}"
            )
        if np.any(np.diff(self.knots, axis=0) <= 0):
            raise InvalidInput(f"{self.name}: knots must increase strictly, got {self.knots.tolist()}")

    @property
    def is_relu(self) -> bool:
        """Exactly max(0, x)."""
        return (
            self.knots.shape == (1,)
            and self.slopes.shape == (2,)
            and float(self.knots[0]) == 0
            and tuple(self.slopes) == (0.0, 1.0)
            and float(self.height) == 0
        )

    @property
    def is_identity(self) -> bool:
        return bool(
            np.all(self.slopes == 1) and np.all(self._heights() == self.knots) and (len(self.knots) or self.height == 0)
        )

    def _heights(self) -> Array:
        """Values at the knots, shape `(k, ...)`."""
        if not len(self.knots):
            return np.zeros((0,) + np.shape(self.height))
        shape = np.broadcast_shapes(self.knots.shape[1:], self.slopes.shape[1:], np.shape(self.height))
        heights = np.empty((len(self.knots),) + shape)
        heights[0] = self.height
        for j in range(1, len(self.knots)):
            heights[j] = heights[j - 1] + self.slopes[j] * (self.knots[j] - self.knots[j - 1])
        return heights

    def __call__(self, x: Array) -> Array:
        x = np.asarray(x)
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        x = x.astype(dtype, copy=False)
        if self.is_relu:
            return np.maximum(x, 0)
        slopes = self.slopes.astype(dtype)
        if not len(self.knots):
            return slopes[0] * x + np.asarray(self.height, dtype)
        exact = self._heights()
        knots, heights = self.knots.astype(dtype), exact.astype(dtype)

        def line(j: int, k: int) -> Array:
            """Piece j by knot k, an end of it: flat ones stay flat at infinity, those through 0 keep all digits near it."""
            rise = np.where(slopes[j] == 0, dtype.type(0), slopes[j] * (x - knots[k]))
            through = exact[k] == self.slopes[j] * self.knots[k]
            return np.where(through & (slopes[j] != 0), slopes[j] * x, heights[k] + rise)

        with np.errstate(invalid="ignore"):
            value = line(0, 0)
            for j in range(len(knots)):
                value = np.where(x > knots[j], line(j + 1, j), value)
        return value

    def derivative(self, x: Array) -> Array:
        x = np.asarray(x)
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        value = np.broadcast_to(self.slopes[0], x.shape).astype(dtype)
        for j in range(len(self.knots)):
            value = np.where(x > self.knots[j], self.slopes[j + 1].astype(dtype), value)
        return value

    def piece(self, x: Array) -> Any:
        """Index of the piece each `x` lies in; a knot belongs to the piece on its left."""
        return (
            np.sum([np.asarray(x) > t for t in self.knots], axis=0, dtype=np.int64)
            if len(self.knots)
            else np.zeros(np.shape(x), np.int64)
        )

    def _points(self, lower: Array, upper: Array) -> list[Array]:
        """The ends and every knot, clipped into the interval: where extrema of f - a x lie."""
        return [lower, upper] + [
            np.clip(np.broadcast_to(t, lower.shape), lower, upper) for t in self.knots.astype(lower.dtype)
        ]

    def bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        if self.is_relu:
            return np.maximum(lower, 0), np.maximum(upper, 0)
        values = [self(x) for x in self._points(lower, upper)]
        low, high = np.minimum.reduce(values), np.maximum.reduce(values)
        return widen(low, high, self._scale(lower, upper))

    def _scale(self, lower: Array, upper: Array) -> Array:
        """A size that no intermediate number of an evaluation on `[lower, upper]` exceeds."""
        reach = np.maximum(np.abs(lower), np.abs(upper))
        knot = np.abs(self.knots).max(axis=0) if len(self.knots) else 0.0
        height = np.abs(self._heights()).max(axis=0) if len(self.knots) else np.abs(self.height)
        return (height + np.abs(self.slopes).max(axis=0) * (reach + knot)).astype(lower.dtype)

    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        lower, upper = check_interval(lower, upper)
        gaps = [self(x) - slope * x for x in self._points(lower, upper)]
        low, high = np.minimum.reduce(gaps), np.maximum.reduce(gaps)
        scale = self._scale(lower, upper) + np.abs(slope) * np.maximum(np.abs(lower), np.abs(upper))
        if self.is_relu:  # exact at the knot; only the two ends round
            scale = np.where((slope == 0) | (slope == 1), 0, scale)
        return widen(low, high, scale)

    def candidate_slopes(self, lower: Array, upper: Array) -> list[Array]:
        width = upper - lower
        chord = (self(upper) - self(lower)) / np.where(width > 0, width, 1)
        inside = self.derivative(0.5 * (lower + upper))
        chord = np.where(width > 0, chord, inside)
        pieces = []
        for j, slope in enumerate(self.slopes.astype(lower.dtype)):
            touches = np.ones(lower.shape, bool)
            if j > 0:
                touches &= upper > self.knots[j - 1]
            if j < len(self.knots):
                touches &= lower < self.knots[j]
            pieces.append(np.where(touches, slope, inside))
        return [chord, *pieces]

    def lipschitz(self) -> float:
        return float(np.abs(self.slopes).max())

    def gain(self) -> float:
        r"""He gain :math:`1 / \sqrt{E[f(z)^2]}` for a standard normal :math:`z`, by integrating each piece exactly.

        References:
            Delving Deep into Rectifiers, He et al., 2015.
        """
        from math import erf, exp, inf, pi, sqrt

        def moments(a: float, b: float) -> tuple[float, float, float]:
            density = lambda t: exp(-0.5 * t * t) / sqrt(2 * pi) if abs(t) < inf else 0.0
            edge = lambda t: t * density(t) if abs(t) < inf else 0.0
            mass = 0.5 * (erf(b / sqrt(2)) - erf(a / sqrt(2)))
            return mass, density(a) - density(b), mass + edge(a) - edge(b)

        mean = lambda a: np.asarray(a).reshape(len(a), -1).mean(axis=1) if len(a) else np.zeros(0)
        knots, slopes = mean(self.knots), mean(self.slopes)
        anchors = [*knots[:1], *knots] if len(knots) else [0.0]
        heights = mean(self._heights()) if len(knots) else mean([self.height])
        values = [*heights[:1], *heights] if len(knots) else heights
        ends, total = [-inf, *knots, inf], 0.0
        for j, s in enumerate(slopes):
            m0, m1, m2 = moments(ends[j], ends[j + 1])
            c = values[j] - s * anchors[j]
            total += s * s * m2 + 2 * s * c * m1 + c * c * m0
        return 1 / sqrt(total) if total > 0 else inf

    @property
    def limits(self) -> tuple[float, float]:
        """Values at minus and plus infinity (of the first unit)."""
        first, last = (float(np.ravel(self.slopes[k])[0]) for k in (0, -1))
        left = float(np.ravel(self.height)[0])
        right = float(np.ravel(self._heights()[-1])[0]) if len(self.knots) else left
        far = lambda slope, value: value if slope == 0 else float(np.copysign(np.inf, slope))
        return far(-first, left), far(last, right)

    def slope_range(self) -> tuple[float, float]:
        """Smallest and largest slope."""
        return float(self.slopes.min()), float(self.slopes.max())

    def hinges(self) -> Hinges:
        """The split into a line and one ReLU per knot."""
        heights = self._heights()
        offset = heights[0] - self.slopes[0] * self.knots[0] if len(self.knots) else np.asarray(self.height)
        return Hinges(self.slopes[0], offset, np.diff(self.slopes, axis=0), self.knots)

    def take(self, units: np.ndarray) -> "PiecewiseLinear":
        pick = lambda a, lead: a[..., units] if a.ndim > lead else a
        if self.knots.ndim == 1 and self.slopes.ndim == 1 and np.ndim(self.height) == 0:
            return self
        return PiecewiseLinear(
            pick(self.knots, 1), pick(self.slopes, 1), pick(np.asarray(self.height), 0), self.name, self.parameters
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PiecewiseLinear) and all(
            np.array_equal(getattr(self, k), getattr(other, k)) for k in ("knots", "slopes", "height")
        )

    def __hash__(self) -> int:
        return hash((self.knots.tobytes(), self.slopes.tobytes(), np.asarray(self.height).tobytes()))

    def __repr__(self) -> str:
        return self.name + (f"({', '.join(f'{k}={v}' for k, v in self.parameters.items())})" if self.parameters else "")
