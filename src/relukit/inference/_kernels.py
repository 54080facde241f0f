"""Compiled loops that read fewer weights.

Sums are reordered (`reassoc`, `contract`), which is what lets them use vector registers. The error bound of a float sum,
`gamma(n) |w|.|x|`, holds for every order, so nothing below depends on which one the compiler picks. No other liberty is
taken: infinities and NaN keep their meaning.

What a loop waits for is memory. A row of 4,096 bytes is one page, where the processor's own prefetch stops, so rows are asked for some rows
ahead (measured for 64 MiB of int8: 5.6 instead of 9.5 ms; only adding up the bytes takes 4.7).
"""

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_SUMS = {"reassoc", "contract"}
_AHEAD = 4  # rows: about 4 to 16 KiB, what a core has in flight


@intrinsic
def _ask(typingctx, matrix, row, column):
    """Ask for the cache line that holds `matrix[row, column]`; a hint without effect on results."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, signature.args[0], array, arguments[1:], wraparound=False, boundscheck=False)  # fmt: skip
        pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        hint = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        call = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], hint)
        builder.call(call, [pointer, word(0), word(2), word(1)])  # to be read, into the second level
        return context.get_dummy_value()

    return types.void(matrix, types.intp, types.intp), generate


@njit(cache=True, nogil=True)
def _ask_row(A, i, step, first, last):
    """Ask for A[i, first:last], `step` entries to a cache line."""
    for k in range(first, last, step):
        _ask(A, i, k)


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _dot(w, x):
    total = np.float32(0)
    for k in range(w.shape[0]):
        total += w[k] * x[k]
    return total


@njit(cache=True, nogil=True)
def _dot_bytes(q, x):
    """Whole numbers, exact: the caller keeps |q| |x| n below 2^31. Written so that it becomes 16-bit products summed in pairs."""
    total = np.int32(0)
    for k in range(q.shape[0]):
        total = np.int32(total + np.int32(np.int32(q[k]) * np.int32(x[k])))
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


@njit(cache=True, nogil=True)
def _sum_rows(Q, z, sums, first, last):
    for i in range(first, last):
        if i + _AHEAD < last:
            _ask_row(Q, i + _AHEAD, 64, 0, z.shape[0])
        sums[i] = _dot_bytes(Q[i], z)


@njit(cache=True, nogil=True)
def _sum_listed(Q, rows, z, sums, first, last):
    for k in range(first, last):
        if k + _AHEAD < last:
            _ask_row(Q, rows[k + _AHEAD], 64, 0, z.shape[0])
        sums[k] = _dot_bytes(Q[rows[k]], z)


@njit(cache=True, nogil=True)
def screened_rows(
    W,
    b,
    Q,
    scale,
    slack,
    reach,
    R,
    fine_scale,
    fine_slack,
    fine_reach,
    X,
    Z,
    unit,
    norms,
    rests,
    H,
    sums,
    open_rows,
    coarse,
    first,
    last,
):
    """max(0, W x + b) for rows first..last; int8 rows prove most of them off. Returns rows read in (int8 remainder, float32).

    Z holds the inputs as whole numbers, x = unit Z up to a rest of known norm. One sweep per precision, so that each reads
    memory in order.
    """
    seen, full = 0, 0
    for t in range(X.shape[0]):
        z, norm, rest, count = Z[t], norms[t], rests[t], first
        _sum_rows(Q, z, sums, first, last)
        for i in range(first, last):
            value = scale[i] * (unit[t] * sums[i])
            H[t, i] = 0
            if not _off(value + b[i], slack[i] * norm + reach[i] * rest, abs(value) + abs(b[i])):
                open_rows[count] = i
                coarse[count] = value
                count += 1
        seen += count - first
        kept = first
        _sum_listed(R, open_rows, z, sums, first, count)
        for k in range(first, count):
            i = open_rows[k]
            value = coarse[k] + fine_scale[i] * (unit[t] * sums[k])
            if not _off(
                value + b[i], fine_slack[i] * norm + fine_reach[i] * rest, abs(coarse[k]) + abs(value) + abs(b[i])
            ):
                open_rows[kept] = i
                kept += 1
        full += kept - first
        _listed(W, b, open_rows, X[t], H[t], first, kept)
    return seen, full


@njit(cache=True, nogil=True)
def _listed(W, b, rows, x, y, first, last):
    """y = max(0, W x + b) for the listed rows, four side by side."""
    k, n = first, x.shape[0]
    while k + 4 <= last:
        h, i, j, l = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        if k + 8 <= last:
            for m in range(k + 4, k + 8):
                _ask_row(W, rows[m], 16, 0, min(n, 256))  # the start; the processor follows by itself
        p, q, r, s = _four(W[h], W[i], W[j], W[l], x)
        y[h], y[i], y[j], y[l] = _relu(p + b[h]), _relu(q + b[i]), _relu(r + b[j]), _relu(s + b[l])
        k += 4
    while k < last:
        y[rows[k]] = _relu(_dot(W[rows[k]], x) + b[rows[k]])
        k += 1


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
            if m + 8 <= count:
                for p in range(m + 4, m + 8):
                    _ask_row(A, index[p], 16, first, min(last, first + 256))
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
