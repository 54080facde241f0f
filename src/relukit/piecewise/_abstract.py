"""What every activation offers, whatever its form."""

import abc
from typing import NamedTuple

import numpy as np

from relukit._errors import EmptyInterval
from relukit._numerics import unit_roundoff
from relukit._types import Array


class Lines(NamedTuple):
    r"""Two lines with :math:`a x + c \le f(x) \le A x + C` on an interval, one pair per unit."""

    lower_slope: Array
    lower_intercept: Array
    upper_slope: Array
    upper_intercept: Array


class AbstractActivation(abc.ABC):
    """A function of one real variable, applied entrywise; parameters may differ from unit to unit."""

    name: str

    @abc.abstractmethod
    def __call__(self, x: Array) -> Array:
        """Value at `x`, entrywise (last axis: units), in the dtype of `x`."""

    @abc.abstractmethod
    def derivative(self, x: Array) -> Array:
        """Derivative at `x`; at a kink the one of the piece on the left, as torch does for ReLU at 0."""

    def fast(self, x: Array) -> Array:
        """Value within a few ulp, as networks evaluate it: computed in the dtype of `x` throughout."""
        return self(x)

    def fast_derivative(self, x: Array) -> Array:
        """Derivative within a few ulp of 1."""
        return self.derivative(x)

    @abc.abstractmethod
    def bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Smallest and largest value on `[lower, upper]`, rounded outward.

        Raises:
            EmptyInterval: Some entry has `lower > upper`.
        """

    @abc.abstractmethod
    def intercepts(self, slope: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        r"""Tightest parallel lines around the activation on an interval.

        Returns :math:`c, d` with :math:`a x + c \le f(x) \le a x + d` for all :math:`x \in [l, u]`, rounded outward.

        Arguments:
            slope: Slopes :math:`a`, one per unit.
            lower: Lower ends :math:`l`; `upper` holds :math:`u`, entrywise at least `lower`.

        Raises:
            EmptyInterval: Some entry has `lower > upper`.
        """

    @abc.abstractmethod
    def candidate_slopes(self, lower: Array, upper: Array) -> list[Array]:
        """Slopes worth trying for a line below or above the graph on `[lower, upper]`."""

    @abc.abstractmethod
    def lipschitz(self) -> float:
        """Largest absolute slope over all units."""

    @abc.abstractmethod
    def take(self, units: np.ndarray) -> "AbstractActivation":
        """The same activation for a selection of units (the identity where all units share one set of parameters)."""

    def lines(self, lower: Array, upper: Array) -> Lines:
        """Lower and upper line with the least area on `[lower, upper]`, one pair per unit.

        Among the candidate slopes, the lower line is the one that is highest at the middle and the upper line the
        one that is lowest there: for lines on one interval that is least area. For ReLU this is the adaptive
        choice of CROWN.

        References:
            Efficient Neural Network Robustness Certification with General Activation Functions, Zhang et al., 2018.
        """
        middle = 0.5 * (lower + upper)
        best: list[Array] | None = None
        for slope in self.candidate_slopes(lower, upper):
            low, high = self.intercepts(slope, lower, upper)
            below, above = slope * middle + low, slope * middle + high
            if best is None:
                best = [slope, low, below, slope, high, above]
                continue
            higher, less = below > best[2], above < best[5]
            best[0], best[1], best[2] = (np.where(higher, a, b) for a, b in zip((slope, low, below), best[:3]))
            best[3], best[4], best[5] = (np.where(less, a, b) for a, b in zip((slope, high, above), best[3:]))
        if best is None:
            raise AssertionError(f"{self.name} offers no candidate slope")
        return Lines(best[0], best[1], best[3], best[4])


def check_interval(lower: Array, upper: Array) -> tuple[Array, Array]:
    """`lower` and `upper` as arrays, or `EmptyInterval`."""
    lower, upper = np.asarray(lower), np.asarray(upper)
    if np.any(lower > upper):
        where = np.argwhere(np.atleast_1d(lower > upper))[0]
        raise EmptyInterval(f"lower > upper at entry {tuple(int(i) for i in where)}")
    return lower, upper


def widen(low: Array, high: Array, scale: Array, ulps: float = 4.0) -> tuple[Array, Array]:
    """Move `low` down and `high` up by a few rounding errors of numbers as large as `scale`."""
    pad = ulps * unit_roundoff(low.dtype) * scale
    return low - pad, high + pad
