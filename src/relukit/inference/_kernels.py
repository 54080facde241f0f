"""Compiled loops that read fewer weights.

Sums are reordered (`reassoc`, `contract`), which is what lets them use vector registers. The error bound of a float sum,
`gamma(n) |w|.|x|`, holds for every order, so nothing below depends on which one the compiler picks. No other liberty is
taken: infinities and NaN keep their meaning.

What a loop waits for is memory: rows are read two by two, and for every line of them that is used, the same line of the two that come next is asked
for (`_bytes`, `_floats`). Asking for whole rows at once is slower than not asking (they wait for each other): measured, 6 instead of 9 GB/s.
"""

import numpy as np

from relukit._numba import njit
from relukit.inference._bytes import sum_listed, sum_rows
from relukit.inference._floats import add_two, dot_two

_SUMS = {"reassoc", "contract"}
_BLOCK = 64  # rows screened for all inputs of a batch before the next ones: they stay in the second-level cache


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _dot(w, x):
    total = np.float32(0)
    for k in range(w.shape[0]):
        total += w[k] * x[k]
    return total


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _four(q, r, s, t, x):
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for k in range(x.shape[0]):
        v = x[k]
        a += q[k] * v
        b += r[k] * v
        c += s[k] * v
        d += t[k] * v
    return a, b, c, d


@njit(cache=True, nogil=True)
def _off(center, slack, size):
    """Whether `center + slack` is certainly not positive; size covers the rounding of the center itself."""
    return center - center == 0 and center + slack + 1e-14 * size + 1e-37 <= 0


@njit(cache=True, nogil=True)
def _relu(z):
    return np.float32(0) if z <= 0 else z  # NaN stays NaN


def whole_numbers(x, step):
    """Rows as int16 times one unit each, padded with zeros to a multiple of `step`; the high and low bytes of z + 32768; units; bounds of the
    norms of the rows and of what the whole numbers leave out.

    The largest number is chosen so that a sum of products with int8 stays below 2^31.
    """
    batch, n = x.shape
    width = -(-n // step) * step
    most = max(min(32_767, (2**31 - 1) // (127 * max(n, 1))), 1)
    z = np.zeros((batch, width), np.int16)
    high, low = np.full((batch, width), 128, np.uint8), np.zeros((batch, width), np.uint8)
    units, norms, rests = np.ones(batch), np.zeros(batch), np.zeros(batch)
    _fill_whole(x, most, z, high, low, units, norms, rests)
    return z, high, low, units, norms, rests


@njit(cache=True, nogil=True)
def _fill_whole(x, most, z, high, low, units, norms, rests):
    """Arrays are made by the caller: making them here would take half of the time of compiling."""
    batch, n = x.shape
    for t in range(batch):
        largest, squares, left = 0.0, 0.0, 0.0
        for k in range(n):
            v = np.float64(x[t, k])
            largest = max(largest, abs(v))
            squares += v * v
        finite = squares - squares == 0
        unit = largest / most if finite and largest > 0 else 1.0
        for k in range(n):
            v = np.float64(x[t, k])
            w = min(max(np.rint(v / unit), -most), most) if finite else 0.0
            left += (v - unit * w) ** 2
            whole = np.int32(w)
            z[t, k] = whole
            high[t, k], low[t, k] = (whole + 32768) >> 8, (whole + 32768) & 255
        units[t] = unit
        norms[t] = np.sqrt(squares) * (1 + 1e-9) + 1e-300
        rests[t] = (1 + 1e-6) * np.sqrt(left) + 1e-15 * largest * np.sqrt(n)


@njit(cache=True, nogil=True)
def screened_rows(
    W, b, Q, total, scale, slack, reach, R, fine_total, fine_scale, fine_slack, fine_reach,
    X, Z, high, low, unit, norms, rests, H, sums, open_rows, coarse, first, last,
):  # fmt: skip
    """max(0, W x + b) for rows first..last; int8 rows prove most of them off. Returns rows read in (int8 remainder, float32).

    Z holds the inputs as whole numbers, x = unit Z up to a rest of known norm; `high` and `low` are its bytes. One sweep per precision, so that each
    reads memory in order; for batches in blocks of rows, so that all inputs share what is read.
    """
    seen, full, batch = 0, 0, X.shape[0]
    block = last - first if batch == 1 else _BLOCK
    for start in range(first, last, max(block, 1)):
        end = min(last, start + block)
        for t in range(batch):
            z, norm, rest, count = Z[t], norms[t], rests[t], start
            sum_rows(Q, total, z, high[t], low[t], sums, start, end)
            for i in range(start, end):
                value = scale[i] * (unit[t] * sums[i])
                H[t, i] = 0
                if not _off(value + b[i], slack[i] * norm + reach[i] * rest, abs(value) + abs(b[i])):
                    open_rows[count] = i
                    coarse[count] = value
                    count += 1
            seen += count - start
            kept = start
            sum_listed(R, fine_total, open_rows, z, high[t], low[t], sums, start, count)
            for k in range(start, count):
                i = open_rows[k]
                value = coarse[k] + fine_scale[i] * (unit[t] * sums[k])
                if not _off(
                    value + b[i], fine_slack[i] * norm + fine_reach[i] * rest, abs(coarse[k]) + abs(value) + abs(b[i])
                ):
                    open_rows[kept] = i
                    kept += 1
            full += kept - start
            _listed(W, b, open_rows, X[t], H[t], start, kept)
    return seen, full


@njit(cache=True, nogil=True)
def _listed(W, b, rows, x, y, first, last):
    """y = max(0, W x + b) for the listed rows, two side by side."""
    end = last - 1
    for k in range(first, last, 2):
        m = min(k + 1, end)
        i, j = rows[k], rows[m]
        p, q = dot_two(W, i, j, rows[min(k + 2, end)], rows[min(k + 3, end)], x)
        y[i], y[j] = _relu(p + b[i]), _relu(q + b[j])


@njit(cache=True, nogil=True)
def known_rows(W, b, rows, X, H, first, last):
    """max(0, W x + b) for the listed rows only."""
    for t in range(X.shape[0]):
        _listed(W, b, rows, X[t], H[t], first, last)


@njit(cache=True, nogil=True)
def dense_rows(W, b, X, Y, first, last, relu):
    """W x + b for rows first..last, with or without the ReLU."""
    i = first
    while i < last:
        four = i + 4 <= last
        for t in range(X.shape[0]):
            if four:
                p, q, r, s = _four(W[i], W[i + 1], W[i + 2], W[i + 3], X[t])
                p, q, r, s = p + b[i], q + b[i + 1], r + b[i + 2], s + b[i + 3]
                if relu:
                    p, q, r, s = _relu(p), _relu(q), _relu(r), _relu(s)
                Y[t, i], Y[t, i + 1], Y[t, i + 2], Y[t, i + 3] = p, q, r, s
            else:
                z = _dot(W[i], X[t]) + b[i]
                Y[t, i] = _relu(z) if relu else z
        i += 4 if four else 1


@njit(cache=True, nogil=True)
def _list(h, pairs, index):
    """`index` receives where h is not 0; returns how many there are. Stretches of eight zeros are passed over at once.

    Arguments:
        pairs: The same memory as whole numbers of 64 bits, as many stretches of eight as there are.
    """
    count, n = 0, h.shape[0]
    whole = pairs.shape[0] * 2
    for k in range(0, whole, 8):
        m = k // 2
        if (pairs[m] | pairs[m + 1] | pairs[m + 2] | pairs[m + 3]) != 0:
            for j in range(k, k + 8):
                index[count] = j
                count += h[j] != 0
    for j in range(whole, n):
        index[count] = j
        count += h[j] != 0
    return count


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_one(y, A, i, a, first, last):
    for m in range(first, last):
        y[m] += a * A[i, m]


@njit(cache=True, nogil=True)
def skipped_columns(A, b, H, pairs, Y, index, first, last, relu):
    """Columns first..last of `H A + b`, reading only the rows of A (columns of the weight) whose h is not 0.

    Arguments:
        pairs: As in `_list`, of the first row.
    """
    batch, units = H.shape
    for t in range(batch):
        for m in range(first, last):  # a slice would compile all of NumPy's broadcasting
            Y[t, m] = b[m]
    if batch == 1:
        h, y = H[0], Y[0]
        count = _list(h, pairs, index)
        end = count - 1
        for m in range(0, count - 1, 2):
            i, j, p, q = index[m], index[m + 1], index[min(m + 2, end)], index[min(m + 3, end)]
            add_two(y, A, i, j, p, q, h[i], h[j], first, last)
        if count % 2:
            i = index[end]
            add_two(y, A, i, i, i, i, h[i], np.float32(0), first, last)
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
