"""Compiled loops that read fewer weights.

Sums are reordered (`reassoc`, `contract`), which is what lets them use vector registers. The error bound of a float sum,
`gamma(n) |w|.|x|`, holds for every order, so nothing below depends on which one the compiler picks. No other liberty is
taken: infinities and NaN keep their meaning.
"""

import numpy as np
from numba import njit

_SUMS = {"reassoc", "contract"}


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _dot(w, x):
    total = np.float32(0)
    for k in range(w.shape[0]):
        total += w[k] * x[k]
    return total


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _dot_bytes(q, x):
    total = np.float32(0)
    for k in range(q.shape[0]):
        total += np.float32(q[k]) * x[k]
    return total


@njit(cache=True, nogil=True)
def _off(center, slack, size):
    """Whether `center + slack` is certainly not positive; size covers the rounding of the center itself."""
    return center - center == 0 and center + slack + 1e-14 * size + 1e-37 <= 0


@njit(cache=True, nogil=True)
def screened_rows(W, b, Q, scale, slack, R, fine_scale, fine_slack, X, norms, H, open_rows, coarse, first, last):
    """max(0, W x + b) for rows first..last; int8 rows prove most of them off. Returns rows read in (int8 remainder, float32).

    One sweep per precision, so that each reads memory in order.
    """
    seen, full = 0, 0
    for t in range(X.shape[0]):
        x, norm, count = X[t], norms[t], first
        for i in range(first, last):
            value = np.float64(scale[i]) * _dot_bytes(Q[i], x)
            H[t, i] = 0
            if not _off(value + b[i], slack[i] * norm, abs(value) + abs(b[i])):
                open_rows[count] = i
                coarse[count] = value
                count += 1
        seen += count - first
        kept = first
        for k in range(first, count):
            i = open_rows[k]
            value = coarse[k] + np.float64(fine_scale[i]) * _dot_bytes(R[i], x)
            if not _off(value + b[i], fine_slack[i] * norm, abs(coarse[k]) + abs(value) + abs(b[i])):
                open_rows[kept] = i
                kept += 1
        full += kept - first
        for k in range(first, kept):
            i = open_rows[k]
            z = _dot(W[i], x) + b[i]
            H[t, i] = np.float32(0) if z <= 0 else z  # NaN stays NaN
    return seen, full


@njit(cache=True, nogil=True)
def known_rows(W, b, rows, X, H, first, last):
    """max(0, W x + b) for the listed rows only."""
    for k in range(first, last):
        i = rows[k]
        for t in range(X.shape[0]):
            z = _dot(W[i], X[t]) + b[i]
            H[t, i] = np.float32(0) if z <= 0 else z


@njit(cache=True, nogil=True)
def dense_rows(W, b, X, Y, first, last, relu):
    """W x + b for rows first..last, with or without the ReLU."""
    for i in range(first, last):
        for t in range(X.shape[0]):
            z = _dot(W[i], X[t]) + b[i]
            Y[t, i] = np.float32(0) if relu and z <= 0 else z


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_four(y, A, i, j, k, l, a, b, c, d, first, last):
    for m in range(first, last):
        y[m] += (a * A[i, m] + b * A[j, m]) + (c * A[k, m] + d * A[l, m])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_one(y, A, i, a, first, last):
    for m in range(first, last):
        y[m] += a * A[i, m]


@njit(cache=True, nogil=True)
def skipped_columns(A, b, H, Y, index, first, last, relu):
    """Columns first..last of `H A + b`, reading only the rows of A (columns of the weight) whose h is not 0."""
    batch, units = H.shape
    for t in range(batch):
        Y[t, first:last] = b[first:last]
    if batch == 1:
        h, y = H[0], Y[0]
        count = 0
        for j in range(units):
            if h[j] != 0:
                index[count] = j
                count += 1
        m = 0
        while m + 4 <= count:
            i, j, k, l = index[m], index[m + 1], index[m + 2], index[m + 3]
            _add_four(y, A, i, j, k, l, h[i], h[j], h[k], h[l], first, last)
            m += 4
        while m < count:
            _add_one(y, A, index[m], h[index[m]], first, last)
            m += 1
    else:
        for j in range(units):
            for t in range(batch):
                if H[t, j] != 0:
                    _add_one(Y[t], A, j, H[t, j], first, last)
    if relu:
        for t in range(batch):
            for m in range(first, last):
                if Y[t, m] <= 0:
                    Y[t, m] = 0
