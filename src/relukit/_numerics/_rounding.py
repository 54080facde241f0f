"""A-priori rounding errors of sums and products, and outward rounding."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._types import Array


def unit_roundoff(dtype: np.dtype | type = np.float64) -> float:
    """Half the distance from 1 to the next number of `dtype`: 2^-53 or 2^-24."""
    return float(np.finfo(dtype).eps) / 2


def gamma(terms: int, dtype: np.dtype | type = np.float64) -> float:
    r"""Relative error of a sum of `terms` products in any summation order.

    :math:`|fl(a \cdot b) - a \cdot b| \le \gamma_n |a| \cdot |b|` with :math:`\gamma_n = n u / (1 - n u)`. Two more
    terms are counted than given, for the rounding of the error term itself.

    References:
        Accuracy and Stability of Numerical Algorithms, N. J. Higham, 2002, section 3.1.
    """
    nu = (terms + 2) * unit_roundoff(dtype)
    if nu >= 0.5:
        raise OverflowError(f"{terms} terms are too many for {np.dtype(dtype).name}: the error bound is void")
    return nu / (1 - nu)


def up(x: Array | np.floating | float) -> Any:
    """Next representable number above `x`, entrywise."""
    return np.nextafter(x, np.inf, dtype=np.asarray(x).dtype)


def down(x: Array | np.floating | float) -> Any:
    """Next representable number below `x`, entrywise."""
    return np.nextafter(x, -np.inf, dtype=np.asarray(x).dtype)


@dataclass(frozen=True)
class Tolerance:
    """How close counts as equal, relative to a stated scale.

    Arguments:
        relative: Share of the scale. 1e-9 is about 4 million units in the last place of float64: far above what a
            few thousand operations lose, far below what a user would call a difference.
        scale: The size that numbers of the problem have.
    """

    relative: float = 1e-9
    scale: float = 1.0

    @property
    def absolute(self) -> float:
        return self.relative * self.scale

    def equal(self, a: Any, b: Any) -> Any:
        return np.abs(np.asarray(a) - np.asarray(b)) <= self.absolute
