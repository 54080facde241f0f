"""Conditions on outputs after a last softmax or sigmoid, as conditions on the values before it."""

from fractions import Fraction
from math import log

import numpy as np

from relukit._types import Array

_NEVER, _ALWAYS = -1.0, 0.0  # limits of an empty row that no point, and that every point satisfies


def before_head(head: str, C: Array, d: Array) -> tuple[Array, Array] | None:
    r"""Rows `C y <= d` as rows on z, where y is the head of z; None where one of them is not linear in z.

    Sigmoid: a row about one output is a limit of its logit. Softmax: :math:`a y_i \le b y_j` with a, b > 0 says
    :math:`z_i - z_j \le \log(b / a)`. Log-softmax moves all outputs alike, so that differences stay as they are. Limits are
    rounded up: no counterexample is lost.

    Arguments:
        C, d: Shapes `(r, m)`, `(r,)`.
    """
    translate = {"sigmoid": _sigmoid, "softmax": _softmax, "log_softmax": _log_softmax}[head]
    found = [translate(row, float(limit)) if np.any(row) else (row, float(limit)) for row, limit in zip(C, d)]
    if any(f is None for f in found):
        return None
    rows = [f for f in found if f is not None]
    return np.array([r for r, _ in rows]).reshape(C.shape), np.array([limit for _, limit in rows], float)


def _sigmoid(row: Array, limit: float) -> tuple[Array, float] | None:
    which = np.flatnonzero(row)
    if len(which) != 1:
        return None
    factor, out = Fraction(float(row[which[0]])), np.zeros_like(row)
    at = Fraction(limit) / factor  # y <= at, or y >= at where the factor is negative
    above = factor > 0
    if not 0 < at < 1:
        return out, _ALWAYS if (at >= 1) == above else _NEVER
    out[which[0]] = 1.0 if above else -1.0
    low, high = log(float(at)), log(float(1 - at))
    value = low - high if above else high - low
    return out, _up(value, abs(low) + abs(high))


def _softmax(row: Array, limit: float) -> tuple[Array, float] | None:
    which = np.flatnonzero(row)
    if limit != 0 or len(which) != 2 or np.prod(np.sign(row[which])) > 0:
        return None
    plus, minus = which[np.argmax(row[which])], which[np.argmin(row[which])]
    out = np.zeros_like(row)
    out[plus], out[minus] = 1.0, -1.0
    ratio = Fraction(float(-row[minus])) / Fraction(float(row[plus]))
    return out, 0.0 if ratio == 1 else _up(log(float(ratio)), 0.0)


def _log_softmax(row: Array, limit: float) -> tuple[Array, float] | None:
    return (row, limit) if sum(map(Fraction, row.tolist())) == 0 else None


def _up(value: float, size: float) -> float:
    """Above a value that a few roundings of numbers of this size led to."""
    return value + 1e-14 * (1 + size + abs(value))
