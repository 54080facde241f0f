"""A continuous piecewise-linear function of one variable, given by points."""

import bisect
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array, BoolArray


@dataclass(frozen=True, eq=False)
class Table(Shown):
    """The function through points `(x[i], y[i])`, affine between them; beyond the ends the outer pieces go on.

    Arguments:
        x: Knots, strictly increasing, shape `(n,)`, n >= 2.
        y: Values there, shape `(n,)`.

    Raises:
        ShapeMismatch: x and y are no two vectors of one length.
        InvalidInput: Fewer than two points; a number is not finite; knots are repeated or not sorted.

    Example:
        >>> Table([0, 1, 3], [0, 2, 0])(np.array([0.5, 2.0, 4.0]))
        array([ 1.,  1., -1.])
    """

    x: Array
    y: Array

    def __post_init__(self) -> None:
        try:
            x, y = np.array(self.x, np.float64), np.array(self.y, np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput("a table needs numbers for its knots and values") from error
        if x.ndim != 1 or x.shape != y.shape:
            raise ShapeMismatch(f"a table needs knots and values as two vectors of one length, got shapes {x.shape} and {y.shape}")  # fmt: skip
        if len(x) < 2:
            raise InvalidInput(f"a table needs at least two points, got {len(x)}")
        for name, values in (("knot", x), ("value", y)):
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise InvalidInput(f"{name} {bad[0]} is {values[bad[0]]}: a table needs finite numbers. Remove or fill this row.")  # fmt: skip
        step = np.diff(x)
        if np.any(step <= 0):
            i = int(np.flatnonzero(step <= 0)[0])
            if step[i] == 0:
                what = "the same row twice" if y[i] == y[i + 1] else f"values {y[i]} and {y[i + 1]}, a jump, which no continuous function has"  # fmt: skip
                raise InvalidInput(f"knot {x[i]} is repeated (rows {i} and {i + 1}): {what}. Keep one row for each knot.")  # fmt: skip
            raise InvalidInput(f"knots must increase: row {i} has {x[i]}, row {i + 1} has {x[i + 1]}. Sort the rows first (sort=True, --sort).")  # fmt: skip
        for values in (x, y):
            values.setflags(write=False)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)

    @staticmethod
    def sorted(x: Any, y: Any) -> "Table":
        """A table from points in any order; repeated points must agree."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if x.shape != y.shape or x.ndim != 1:
            return Table(x, y)
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
        same = np.flatnonzero((np.diff(x) == 0) & (np.diff(y) == 0))
        return Table(np.delete(x, same), np.delete(y, same))

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def fractions(self) -> tuple[list[Fraction], list[Fraction]]:
        return [Fraction(float(v)) for v in self.x], [Fraction(float(v)) for v in self.y]

    @cached_property
    def _floats(self) -> list[float]:
        return self.x.tolist()

    @cached_property
    def exact_slopes(self) -> list[Fraction]:
        x, y = self.fractions
        return [(d - c) / (b - a) for a, b, c, d in zip(x, x[1:], y, y[1:])]

    def exact(self, x: Fraction) -> Fraction:
        """The value at a rational number, exactly."""
        xs, ys = self.fractions
        i = min(max(bisect.bisect_right(self._floats, float(x)) - 1, 0), len(xs) - 2)
        if xs[i] > x and i:  # float(x) was rounded up to a knot
            i -= 1
        return ys[i] + self.exact_slopes[i] * (x - xs[i])

    def __call__(self, x: Any) -> Array:
        """Values in float64, for x of any shape."""
        x = np.asarray(x, np.float64)
        i = np.clip(np.searchsorted(self.x, x, side="right") - 1, 0, len(self) - 2)
        share = (x - self.x[i]) / (self.x[i + 1] - self.x[i])
        return np.where(share <= 0.5, self.y[i] + share * (self.y[i + 1] - self.y[i]), self.y[i + 1] - (1 - share) * (self.y[i + 1] - self.y[i]))  # fmt: skip

    def kinks(self) -> BoolArray:
        r"""Which points the function needs, ends included.

        A point between two others is left out if all points left out lie on the line through the kept ones beside them
        as well as floats can say: to a few units in the last place, :math:`2^{-51} (|y| + |slope\, x|)`. Knots written as
        decimals are rarely collinear to the last bit.
        """
        keep, n = np.zeros(len(self), bool), len(self)
        unit = 2.0**-51
        keep[0] = keep[-1] = True
        x, y = self.x.astype(np.longdouble), self.y.astype(np.longdouble)
        slope = np.abs(np.diff(y) / np.diff(x))
        room = unit * (np.abs(y) + np.maximum(np.r_[slope[:1], slope], np.r_[slope, slope[-1:]]) * np.abs(x))
        anchor, low, high = 0, -np.inf, np.inf  # slopes from the anchor that pass all points since
        for j in range(1, n):
            between = (y[j] - y[anchor]) / (x[j] - x[anchor])
            if not low <= between <= high:
                keep[j - 1] = True
                anchor, low, high = j - 1, -np.inf, np.inf
            low = max(low, (y[j] - room[j] - y[anchor]) / (x[j] - x[anchor]))
            high = min(high, (y[j] + room[j] - y[anchor]) / (x[j] - x[anchor]))
        return keep

    def reduced(self) -> "Table":
        """The table with the points it needs."""
        keep = self.kinks()
        return self if keep.all() else Table(self.x[keep], self.y[keep])

    def to_dict(self) -> dict[str, Any]:
        return {"x": self.x.tolist(), "y": self.y.tolist()}

    def __repr__(self) -> str:
        return f"Table({len(self)} points on [{self.x[0]:.6g}, {self.x[-1]:.6g}])"
