"""Compiled passes of the dual bound through a whole network: `LANES` rows side by side, units outermost.

Arrays of coefficients and values have shape `(units, LANES)`, so that every loop over lanes is one vector operation and any
sparsity over units can be followed: only units in `units` are touched. A convolution is walked over its kernel; nothing is unrolled.
"""

import numpy as np

from relukit._numba import njit

LANES = 64
EPS = 2.220446049250313e-16
# Products may be fused with sums. More than that is for single precision alone, which only proposes: where a double overflows, what
# follows must be the infinity or NaN that voids a bound.
_FUSED = {"contract"}


# -- maps ----------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=_FUSED)
def scatter(units, indptr, indices, data, lam, out):
    """`out += W' lam` over the rows `units` of a CSR matrix."""
    for a in range(len(units)):
        x = lam[units[a]]
        for t in range(indptr[units[a]], indptr[units[a] + 1]):
            w, o = data[t], out[indices[t]]
            for q in range(LANES):
                o[q] += w * x[q]


@njit(cache=True, nogil=True, fastmath=_FUSED)
def gather(units, indptr, indices, data, x, out):
    """`out += W x` over the rows `units` of a CSR matrix."""
    for a in range(len(units)):
        o = out[units[a]]
        for t in range(indptr[units[a]], indptr[units[a] + 1]):
            w, v = data[t], x[indices[t]]
            for q in range(LANES):
                o[q] += w * v[q]


@njit(cache=True, nogil=True)
def reach(units, indptr, indices, mark):
    """Mark the inputs that rows `units` of a CSR matrix read."""
    for a in range(len(units)):
        for t in range(indptr[units[a]], indptr[units[a] + 1]):
            mark[indices[t]] = True


@njit(cache=True, nogil=True)
def _taps(at, first, shape, places, numbers):
    """Where the kernel lands at one output position: inputs into `places`, entries of the kernel into `numbers`; how many."""
    H, W, kh, kw = shape[1], shape[2], shape[13], shape[14]
    top, left = at // shape[5] * shape[6] - shape[8], at % shape[5] * shape[7] - shape[9]
    n = 0
    for c in range(shape[12]):
        for i in range(kh):
            y = top + i * shape[10]
            if y < 0 or y >= H:
                continue
            for j in range(kw):
                x = left + j * shape[11]
                if 0 <= x < W:
                    places[n] = ((first + c) * H + y) * W + x
                    numbers[n] = (c * kh + i) * kw + j
                    n += 1
    return n


@njit(cache=True, nogil=True)
def _run(units, a, plane, per_group):
    """The end of the run of units from `a` on that share a position and a group."""
    at, group, b = units[a] % plane, units[a] // plane // per_group, a + 1
    while b < len(units) and units[b] % plane == at and units[b] // plane // per_group == group:
        b += 1
    return b, at, group


@njit(cache=True, nogil=True, fastmath=_FUSED)
def scatter_conv(units, kernel, shape, lam, out):
    """`out += W' lam` of a convolution, over some of its output units, position by position; four channels at a time.

    `kernel` has shape `(O, taps)`. `shape`: C, H, W, output channels per group, output height, output width, strides, padding
    above and left, dilations, input channels per group, kernel height and width.
    """
    plane = shape[4] * shape[5]
    places, numbers = np.empty(kernel.shape[1], np.int64), np.empty(kernel.shape[1], np.int64)
    a = 0
    while a < len(units):
        b, at, group = _run(units, a, plane, shape[3])
        n = _taps(at, group * shape[12], shape, places, numbers)
        while a + 4 <= b:
            x0, x1, x2, x3 = lam[units[a]], lam[units[a + 1]], lam[units[a + 2]], lam[units[a + 3]]
            k0, k1 = kernel[units[a] // plane], kernel[units[a + 1] // plane]
            k2, k3 = kernel[units[a + 2] // plane], kernel[units[a + 3] // plane]
            for t in range(n):
                f, to = numbers[t], out[places[t]]
                w0, w1, w2, w3 = k0[f], k1[f], k2[f], k3[f]
                for q in range(LANES):
                    to[q] += w0 * x0[q] + w1 * x1[q] + w2 * x2[q] + w3 * x3[q]
            a += 4
        while a < b:
            x, k = lam[units[a]], kernel[units[a] // plane]
            for t in range(n):
                w, to = k[numbers[t]], out[places[t]]
                for q in range(LANES):
                    to[q] += w * x[q]
            a += 1


@njit(cache=True, nogil=True, fastmath=_FUSED)
def gather_conv(units, kernel, shape, x, out):
    """`out += W x` of a convolution, for some of its output units, position by position; four taps at a time."""
    plane = shape[4] * shape[5]
    places, numbers = np.empty(kernel.shape[1], np.int64), np.empty(kernel.shape[1], np.int64)
    a = 0
    while a < len(units):
        b, at, group = _run(units, a, plane, shape[3])
        n = _taps(at, group * shape[12], shape, places, numbers)
        while a < b:
            to, k, t = out[units[a]], kernel[units[a] // plane], 0
            while t + 4 <= n:
                w0, w1, w2, w3 = k[numbers[t]], k[numbers[t + 1]], k[numbers[t + 2]], k[numbers[t + 3]]
                v0, v1, v2, v3 = x[places[t]], x[places[t + 1]], x[places[t + 2]], x[places[t + 3]]
                for q in range(LANES):
                    to[q] += w0 * v0[q] + w1 * v1[q] + w2 * v2[q] + w3 * v3[q]
                t += 4
            while t < n:
                w, v = k[numbers[t]], x[places[t]]
                for q in range(LANES):
                    to[q] += w * v[q]
                t += 1
            a += 1


@njit(cache=True, nogil=True)
def reach_conv(units, kernel, shape, mark):
    """Mark the inputs that output units of a convolution read."""
    plane = shape[4] * shape[5]
    places, numbers = np.empty(kernel.shape[1], np.int64), np.empty(kernel.shape[1], np.int64)
    a = 0
    while a < len(units):
        b, at, group = _run(units, a, plane, shape[3])
        n = _taps(at, group * shape[12], shape, places, numbers)
        for t in range(n):
            mark[places[t]] = True
        a = b


# -- steps of the bound --------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=True)
def bias(units, b, lam, value):
    """`value += b . lam`."""
    for a in range(len(units)):
        w, x = b[units[a]], lam[units[a]]
        if w != 0:
            for q in range(LANES):
                value[q] += w * x[q]


@njit(cache=True, nogil=True)
def bias_safe(units, b, size, factor, lam, value, error, total):
    """As `bias`; `error` grows by `factor |lam| size`, what rounding of `W' lam` can move, and `total` by the magnitudes summed."""
    for a in range(len(units)):
        w, x, s = b[units[a]], lam[units[a]], factor * size[units[a]]
        for q in range(LANES):
            v = x[q]
            value[q] += w * v
            error[q] += s * abs(v)
            total[q] += abs(w * v)


@njit(cache=True, nogil=True, fastmath=True)
def backward(units, gate, A, P, S, slope, top, out, kept, value, largest):
    """Replace gates by lines below: coefficients `A` on h become coefficients on z, added to `out`; those of gates go to `kept`.

    `gate` holds the number of a gate, or -1 for a unit that is always on. `S` is 0 for a free gate, 1 and -1 for held ones.
    """
    for a in range(len(units)):
        j = units[a]
        k = gate[j]
        v, z = A[j], out[j]
        if k < 0:
            for q in range(LANES):
                z[q] += v[q]
            continue
        p, s, own, m, h = P[k], S[k], kept[k], slope[k], top[k]
        for q in range(LANES):
            plus = max(v[q], np.float32(0.0))
            minus = v[q] - plus
            free = np.float32(1.0) - s[q] * s[q]
            on = np.float32(0.5) * s[q] * (s[q] + np.float32(1.0))
            off = np.float32(0.5) * s[q] * (s[q] - np.float32(1.0))
            z[q] += free * (plus * p[q] + minus * m) + on * (v[q] - p[q]) + off * p[q]
            value[q] += free * minus * h
            own[q] = v[q]
            largest[q] = max(largest[q], abs(v[q]))


@njit(cache=True, nogil=True)
def backward_safe(units, gate, A, P, S, slope, lower, upper, reach, out, kept, value, error, total):
    """As `backward`, in double precision, for any P: `v h >= m z + t` holds exactly for the m that goes on; `t` is rounded down."""
    for a in range(len(units)):
        j = units[a]
        k = gate[j]
        for q in range(LANES):
            v = A[j, q]
            if k < 0:
                m = v
            else:
                kept[k, q] = v
                p, s = P[k, q], S[k, q]
                if s > 0:
                    m = v - p
                elif s < 0:
                    m = p
                elif v >= 0:
                    m = v * p
                else:
                    m = v * slope[k]
                    at_lower, at_upper = -m * lower[k], (v - m) * upper[k]
                    t = min(at_lower, at_upper, 0.0)
                    error[q] += 4 * EPS * (abs(at_lower) + abs(v) * upper[k])
                    total[q] -= t
                    value[q] += t
            error[q] += 2 * EPS * abs(m) * reach[j]
            out[j, q] += m


@njit(cache=True, nogil=True, fastmath=True)
def corner(units, X, low, high, D, value):
    """Add to `value` the least of every row over a box, and put its minimizer into `D`."""
    for a in range(len(units)):
        j = units[a]
        v, d, l, h = X[j], D[j], low[j], high[j]
        for q in range(LANES):
            at = l if v[q] >= 0 else h
            d[q] = at
            value[q] += v[q] * at


@njit(cache=True, nogil=True)
def corner_safe(units, X, low, high, D, value, total):
    """As `corner`, with the magnitudes summed added to `total`."""
    for a in range(len(units)):
        j = units[a]
        for q in range(LANES):
            v = X[j, q]
            at = low[j] if v >= 0 else high[j]
            D[j, q] = at
            value[q] += v * at
            total[q] += abs(v * at)


# Multipliers of an empty leaf grow beyond single precision: a division by what is then no number is no error.
@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def forward(units, gate, Z, H, A, P, S, slope, top, M1, M2, rate, rate_fixed, largest, fix1, fix2):
    """h from z along the lines that the rows took, and one Adam step of the parameters along the exact gradient."""
    one, none = np.float32(1.0), np.float32(0.0)
    for a in range(len(units)):
        j = units[a]
        k = gate[j]
        z, h = Z[j], H[j]
        if k < 0:
            for q in range(LANES):
                h[q] = z[q]
            continue
        v, p, s, m1, m2, m, t = A[k], P[k], S[k], M1[k], M2[k], slope[k], top[k]
        for q in range(LANES):
            up = one if v[q] >= 0 else none
            free = one - s[q] * s[q]
            on = np.float32(0.5) * s[q] * (s[q] + one)
            h[q] = free * (up * p[q] * z[q] + (one - up) * (m * z[q] + t)) + on * z[q]
            g = free * up * v[q] * z[q] - s[q] * z[q]
            m1[q] = np.float32(0.9) * m1[q] + np.float32(0.1) * g
            m2[q] = np.float32(0.999) * m2[q] + np.float32(0.001) * g * g
            move = m1[q] * fix1 / (np.sqrt(m2[q] * fix2) + np.float32(1e-12))
            step = max(p[q] + (free * rate + (one - free) * rate_fixed * largest[q]) * move, none)
            p[q] = free * min(step, one) + (one - free) * step


@njit(cache=True, nogil=True)
def keep(value, best, P, best_P):
    """Remember each lane's best parameters."""
    better = value > best
    for k in range(P.shape[0]):
        for q in range(LANES):
            if better[q]:
                best_P[k, q] = P[k, q]
    for q in range(LANES):
        if better[q]:
            best[q] = value[q]


@njit(cache=True, nogil=True)
def clear(units, out):
    """Zero some units."""
    for a in range(len(units)):
        out[units[a]] = 0


# -- rows of numbers and lanes ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def to_lanes(values, which, out):
    """Rows `which` of `(B, K)` into the first lanes of `(K, LANES)`, zeros into the others; in tiles that stay in the cache."""
    count = len(which)
    for first in range(0, out.shape[0], 16):
        last = min(first + 16, out.shape[0])
        for q in range(count):
            row = values[which[q]]
            for k in range(first, last):
                out[k, q] = row[k]
        for k in range(first, last):
            for q in range(count, LANES):
                out[k, q] = 0


@njit(cache=True, nogil=True)
def from_lanes(lanes, which, out):
    """The first lanes of `(K, LANES)` into rows `which` of `(B, K)`."""
    for first in range(0, lanes.shape[0], 16):
        last = min(first + 16, lanes.shape[0])
        for q in range(len(which)):
            row = out[which[q]]
            for k in range(first, last):
                row[k] = lanes[k, q]


@njit(cache=True, nogil=True)
def units_from_lanes(lanes, units, which, out):
    """As `from_lanes`, for some units alone."""
    for first in range(0, len(units), 16):
        last = min(first + 16, len(units))
        for q in range(len(which)):
            row = out[which[q]]
            for a in range(first, last):
                row[units[a]] = lanes[units[a], q]


@njit(cache=True, nogil=True)
def scores(coefficients, S, top, out):
    """`-min(coefficients, 0) * top` of free gates, 0 of held ones."""
    for b in range(out.shape[0]):
        for k in range(out.shape[1]):
            v = coefficients[b, k]
            out[b, k] = -v * top[k] if v < 0 and S[b, k] == 0 else 0
