"""Affine maps inside a network in whole numbers: no rounding anywhere, and slow.

Weights are floats, so every affine map is a matrix of integers times one power of two.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._types import Array, BoolArray
from relukit.network._network import Affine
from relukit.network.affine import AbstractLinear, Identity
from relukit.piecewise import PiecewiseLinear

Whole = Any  # an array of Python integers


@dataclass(frozen=True, eq=False)
class ExactForm:
    """Values as `matrix @ (x, 1) * 2^exponent`; the matrix holds Python integers, shape `(size, n + 1)`."""

    matrix: Whole
    exponent: int

    def at(self, exponent: int) -> Whole:
        """The matrix for another exponent, at most as large."""
        return self.matrix * (1 << (self.exponent - exponent)) if self.exponent != exponent else self.matrix


def integers(values: Array) -> tuple[Whole, int]:
    """Floats as Python integers times one power of two, exactly."""
    values = np.asarray(values, np.float64)
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2.0**53).astype(np.int64).astype(object)
    filled = values != 0
    if not filled.any():
        return whole, 0
    lowest = int(exponent[filled].min()) - 53
    shift = np.where(filled, exponent - 53 - lowest, 0)
    scaled = np.frompyfunc(lambda m, s: m << int(s), 2, 1)(whole, shift)
    return reduced(np.asarray(scaled, object), lowest)


def reduced(matrix: Whole, exponent: int) -> tuple[Whole, int]:
    """The same numbers with the largest common power of two taken out."""
    common = 0
    for v in matrix.flat:
        common |= v
    trailing = (common & -common).bit_length() - 1 if common else 0
    return (matrix >> trailing, exponent + trailing) if trailing > 0 else (matrix, exponent)


class ExactMap:
    """A linear map with integer entries; only filled entries are kept."""

    def __init__(self, m: AbstractLinear) -> None:
        self.identity = isinstance(m, Identity)
        self.exponent = 0
        if self.identity:
            return
        W = m.matrix()
        self.size = len(W)
        whole, self.exponent = integers(W)
        self.dense = whole if np.count_nonzero(W) > 0.2 * W.size else None
        if self.dense is None:
            self.columns = [[(int(i), whole[i, j]) for i in np.flatnonzero(W[:, j])] for j in range(W.shape[1])]

    def __call__(self, form: ExactForm) -> ExactForm:
        if self.identity:
            return form
        filled = [j for j in range(len(form.matrix)) if any(form.matrix[j])]
        if self.dense is not None:
            return ExactForm(self.dense[:, filled].dot(form.matrix[filled]) if filled else self._zeros(form), form.exponent + self.exponent)  # fmt: skip
        total = self._zeros(form)
        for j in filled:
            for i, w in self.columns[j]:
                total[i] = total[i] + w * form.matrix[j]
        return ExactForm(total, form.exponent + self.exponent)

    def _zeros(self, form: ExactForm) -> Whole:
        zeros = np.empty((self.size, form.matrix.shape[1]), object)
        zeros[...] = 0
        return zeros


class ExactAffine:
    """The sum of maps of values, and a bias."""

    def __init__(self, op: Affine) -> None:
        self.maps = [ExactMap(m) for m in op.maps]
        self.bias, self.exponent = integers(op.bias)

    def __call__(self, forms: list[ExactForm]) -> ExactForm:
        parts = [m(f) for m, f in zip(self.maps, forms)]
        lowest = min([self.exponent, *(p.exponent for p in parts)])
        total = sum((p.at(lowest) for p in parts[1:]), parts[0].at(lowest).copy())
        total[:, -1] = total[:, -1] + self.bias * (1 << (self.exponent - lowest))
        return ExactForm(*reduced(total, lowest))


class ExactHinges:
    """An activation as a line and hinges: slope z + offset + the sum of jump max(0, z - knot) over its knots, each number a float or a sum of two.

    Arguments:
        knot_of, unit_of: Of each hinge, knot by knot: its knot's number and its unit; knots where a unit's slope does not change have none.
    """

    def __init__(self, op: PiecewiseLinear, size: int) -> None:
        spread = lambda a, rows: np.broadcast_to(np.asarray(a, float).reshape(rows, -1), (rows, size)) if rows else np.zeros((0, size))  # fmt: skip
        slopes, knots = spread(op.slopes, len(op.slopes)), spread(op.knots, len(op.knots))
        self.knots, self.knot_exponent = integers(knots)
        whole, self.slope_exponent = integers(slopes)
        self.jumps = whole[1:] - whole[:-1]
        self.slope = whole[0]
        height, exponent = integers(spread(op.height, 1)[0])
        if len(op.knots):  # the first piece's value at 0: its height at the first knot less slope times knot
            product = self.slope * self.knots[0]
            lowest = min(exponent, self.slope_exponent + self.knot_exponent)
            height = height * (1 << (exponent - lowest)) - product * (1 << (self.slope_exponent + self.knot_exponent - lowest))  # fmt: skip
            exponent = lowest
        self.offset, self.offset_exponent = height, exponent
        self.knot_of, self.unit_of = np.nonzero(slopes[1:] != slopes[:-1])

    def __len__(self) -> int:
        return len(self.knot_of)

    def above(self, row: Whole, exponent: int, hinge: int) -> tuple[Whole, int]:
        """The row `z - knot` of a hinge, from its unit's row z."""
        knot = self.knots[self.knot_of[hinge], self.unit_of[hinge]]
        if not knot:
            return row, exponent
        lowest = min(exponent, self.knot_exponent)
        row = row * (1 << (exponent - lowest))
        row[-1] -= knot * (1 << (self.knot_exponent - lowest))
        return row, lowest

    def __call__(self, form: ExactForm, on: BoolArray) -> ExactForm:
        """The activation's values where the hinges in `on` are above their knots."""
        slope, shift = self.slope.copy(), self.offset * 0
        for h in np.flatnonzero(on):
            k, u = self.knot_of[h], self.unit_of[h]
            slope[u] += self.jumps[k, u]
            shift[u] += self.jumps[k, u] * self.knots[k, u]
        exponents = form.exponent + self.slope_exponent, self.offset_exponent, self.slope_exponent + self.knot_exponent
        lowest = min(exponents)
        up = [1 << (e - lowest) for e in exponents]
        matrix = form.matrix * (slope * up[0])[:, None]
        matrix[:, -1] = matrix[:, -1] + self.offset * up[1] - shift * up[2]
        return ExactForm(*reduced(matrix, lowest))
