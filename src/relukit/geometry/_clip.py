"""One polygon and one hinge: signs at the corners, the vertices of the cut, the two parts, the box around them.

A corner is the meeting point of its two edges' lines, which are distinct. Its computed coordinates carry a bound `d`
of their error, and a hinge's sign there is certain once

    |z| > E + C (|x| + |y|) + (|a| + |b| + 2 C) d,

with the stage's E and C; otherwise it is the sign of two determinants in exact arithmetic. E and C are kept apart, so
that lines through an exact origin meet there with sign 0 at no cost. A corner on the line goes to both sides.
"""

import numpy as np
from numba import njit

from relukit.geometry._bits import nth
from relukit.geometry._exact import exact_sign
from relukit.geometry._walk import FAST

SHARP = 2.0**-13  # sine of the angle below which float64 places a corner worse than 1e-12 of its distance
_FAR = 1e300


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def known(head, after, other, a, b):
    """The vertex that cuts the edge between vertices a and b, or -1: the younger end keeps a list of such vertices."""
    old, young = (b, a) if a > b else (a, b)
    v = np.int64(head[nth(young)])
    while v >= 0 and other[nth(v)] != old:
        v = np.int64(after[nth(v)])
    return v


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def remember(head, after, other, a, b, v):
    """Vertex v cuts the edge between vertices a and b."""
    old, young = (b, a) if a > b else (a, b)
    other[nth(v)], after[nth(v)], head[nth(v)] = old, head[nth(young)], -1
    head[nth(young)] = v


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def tally(x, y, f, n, a, b, c, limit):
    """How many corners are certainly on either side of a line, by one bound for all."""
    plus, minus = 0, 0
    for i in range(n):
        z = a * x[nth(f + i)] + b * y[nth(f + i)] + c
        plus += z > limit
        minus += z < -limit
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def values(x, y, f, n, a, b, c, Z, S):
    """The hinge's values at all corners, and their signs."""
    for i in range(n):
        z = a * x[nth(f + i)] + b * y[nth(f + i)] + c
        Z[i] = z
        S[i] = 1 if z > 0 else -1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def doubt(x, y, d, f, n, C, E, steep, Z, S):
    """Signs by a bound for each corner, 2 where rounding leaves it open; returns how many are +, -, open."""
    plus, minus, unknown = 0, 0, 0
    for i in range(n):
        z, t = Z[i], E + C * (abs(x[nth(f + i)]) + abs(y[nth(f + i)])) + steep * d[nth(f + i)]
        if z > t:
            S[i] = 1
            plus += 1
        elif z < -t:
            S[i] = -1
            minus += 1
        elif t == 0.0:
            S[i] = 0
        else:
            S[i] = 2
            unknown += 1
    return plus, minus, unknown


@njit(cache=True, nogil=True, _nrt=False)
def exact_signs(net, w, g, label, f, n, Z, S, pair):
    """The open signs by exact arithmetic; returns how many are + and -."""
    plus, minus = 0, 0
    for i in range(n):
        if S[i] == 2:
            pair[0], pair[1] = label[f + (i - 1 if i else n - 1)], label[f + i]
            S[i] = exact_sign(net, w, pair, g, 2)
            if S[i] * Z[i] <= 0.0:  # a value of the right sign, so that a cut lies between its ends
                Z[i] = S[i] * max(abs(Z[i]), 1e-300)
        plus += S[i] > 0
        minus += S[i] < 0
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def line(size, first, stage, row_at, rows, slope_error, shift_error, lower, upper, label):
    """a, b, c of a line, and its stage's C and E."""
    if label >= 0:
        l = stage[label]
        at, n = row_at[l] + label - first[nth(l)], size[nth(l)]
        return rows[nth(at)], rows[nth(at + n)], rows[nth(at + 2 * n)], slope_error[nth(l)], shift_error[nth(l)]
    side = -1 - label
    bound = lower[nth(side >> 1)] if side % 2 == 0 else upper[nth(side >> 1)]
    return (1.0 if side < 2 else 0.0), (0.0 if side < 2 else 1.0), -bound, 0.0, 0.0


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def meeting(x, y, a, b, c, C, E, e, f, k, C2, E2):
    """Where two lines meet near (x, y), a bound of the error by Cramer's rule on their residuals, and whether the angle is tiny."""
    if c == 0.0 and k == 0.0 and E == 0.0 and E2 == 0.0:
        return 0.0, 0.0, 0.0, False
    u = 2.0**-52
    size = abs(x) + abs(y)
    first = abs(a * x + b * y + c) + E + C * size + 2 * u * ((abs(a) + abs(b)) * size + abs(c))
    second = abs(e * x + f * y + k) + E2 + C2 * size + 2 * u * ((abs(e) + abs(f)) * size + abs(k))
    one, two = abs(a) + abs(b) + 2 * C, abs(e) + abs(f) + 2 * C2
    det = abs(a * f - b * e) - (2 * u * (abs(a * f) + abs(b * e)) + 1.01 * (C * two + C2 * one))
    return x, y, (1.01 * (first * two + second * one) / det if det > 0 else _FAR), det < SHARP * one * two


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def put(x, y, d, v, label, at, xi, yi, di, vi, li):
    """A corner, and the line of the edge that starts there."""
    x[nth(at)], y[nth(at)], d[nth(at)], v[nth(at)], label[nth(at)] = xi, yi, di, vi, li


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def box(x, y, d, f, n, center, half):
    """The box around a polygon (rounded outward); returns the largest |x| + |y| and corner error."""
    x0, y0, e = x[nth(f)], y[nth(f)], d[nth(f)]
    x1, y1 = x0, y0
    for i in range(1, n):
        p, q = x[nth(f + i)], y[nth(f + i)]
        x0, x1, y0, y1, e = min(x0, p), max(x1, p), min(y0, q), max(y1, q), max(e, d[nth(f + i)])
    center[0], center[1] = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    tiny = 4 * 2.0**-52
    half[0] = 0.5 * (x1 - x0) + tiny * (abs(x0) + abs(x1))
    half[1] = 0.5 * (y1 - y0) + tiny * (abs(y0) + abs(y1))
    return max(abs(x0), abs(x1)) + max(abs(y0), abs(y1)), e


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def add_area(x, y, f, n, total):
    """Add twice the polygon's area to a sum with its compensation (Neumaier, 1974)."""
    area, x0, y0 = 0.0, x[nth(f)], y[nth(f)]
    p, q = x[nth(f + 1)] - x0, y[nth(f + 1)] - y0
    for i in range(2, n):
        r, s = x[nth(f + i)] - x0, y[nth(f + i)] - y0
        area += p * s - r * q
        p, q = r, s
    t = total[0] + area
    total[1] += (total[0] - t) + area if abs(total[0]) >= abs(area) else (area - t) + total[0]
    total[0] = t
