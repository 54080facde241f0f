"""Whether float64 sums and products lose nothing: all terms are multiples of one power of two, and none of the sums is longer than 53 bits.

So it is for quantized and integer weights through leaky units, residual connections and pooling: multiplying their maps out keeps them exact.
"""

from typing import Any

import numpy as np

from relukit._types import Array
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse

_LARGE = 4000  # exponent of a unit where there is no number


def unit(values: Array) -> int:
    """The largest e for which all numbers are multiples of 2^e."""
    values = np.asarray(values, float)
    values = values[values != 0]
    if not values.size:
        return _LARGE
    if not np.all(np.isfinite(values)):
        return -_LARGE
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2.0**53).astype(np.int64)
    low = np.frexp((whole & -whole).astype(float))[1] - 1  # zeros at the end
    return int((exponent - 53 + low).min())


def sums_are_exact(maps: tuple[AbstractLinear, ...], inputs: list[Array], bias: Array) -> bool:
    """Whether the sum of maps of columns and a bias is exact, in any order and with fused multiply-adds.

    Arguments:
        inputs: For each map its input, shape `(size, columns)`.
    """
    units, most = [unit(bias)], np.abs(bias)[:, None].astype(float)
    for m, form in zip(maps, inputs):
        numbers = numbers_of(m)
        if numbers is None:
            return False
        units.append(unit(numbers) + unit(form))
        most = most + m.absolute().apply(np.ascontiguousarray(np.abs(form).T)).T
    return _fits(float(most.max(initial=0.0)), min(units))


def scaled_is_exact(scale: Array, form: Array, offset: Array) -> bool:
    """Whether `scale[:, None] * form + offset` is."""
    most = np.abs(scale) * np.abs(form).max(axis=1, initial=0.0) + np.abs(offset)
    return _fits(float(most.max(initial=0.0)), min(unit(scale) + unit(form), unit(offset)))


def steps_are_exact(slopes: Array, jumps: Array) -> bool:
    """Whether the first slope and the jumps add up to the slopes."""
    return _fits(2 * float(np.abs(slopes).max(initial=0.0)), unit(np.concatenate([np.ravel(slopes), np.ravel(jumps)])))


def offset_is_exact(height: Any, slopes: Array, knots: Array) -> bool:
    """Whether the first piece's value at 0, its height at the first knot less slope times knot, is."""
    size = lambda v: float(np.abs(v).max(initial=0.0))
    return _fits(size(height) + size(slopes) * size(knots), min(unit(height), unit(slopes) + unit(knots)))


def _fits(most: float, lowest: int) -> bool:
    return most == 0.0 or (lowest > -1000 and np.isfinite(most) and np.frexp(most * (1 + 1e-9))[1] - lowest <= 53)


def smallest(values: Array) -> float:
    """The smallest number by size that is not 0; infinite where there is none."""
    size = np.abs(np.asarray(values, float))
    return float(size[size > 0].min(initial=np.inf))


def numbers_of(m: AbstractLinear) -> Any:
    """The weights of a map; None where a map is of another kind."""
    if isinstance(m, Identity | Gather):
        return np.ones(1)
    if isinstance(m, Dense):
        return m.W
    if isinstance(m, Sparse):
        return m.W.data
    if isinstance(m, Scale):
        return m.diagonal
    return m.kernel if isinstance(m, Conv) else None
