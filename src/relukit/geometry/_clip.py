"""One polygon and one hinge: signs at the corners, the vertices of the cut, the two parts, the box around them.

A corner is the meeting point of its two edges' lines, which are distinct. Its computed coordinates carry a bound `d`
of their error, and a hinge's sign there is certain once

    |z| > E + C (|x| + |y|) + (|a| + |b| + 2 C) d,

with the stage's E and C; otherwise it is the sign of two determinants in exact arithmetic. E and C are kept apart, so
that lines through an exact origin meet there with sign 0 at no cost. A corner on the line goes to both sides.

A corner is four words: x, y, d, and its name, which holds its vertex and the line of the edge that starts there.
"""

import numpy as np

from relukit._lanes import copy
from relukit._numba import njit
from relukit.geometry._bits import nth
from relukit.geometry._exact import exact_sign
from relukit.geometry._walk import FAST

SHARP = 2.0**-13  # sine of the angle below which float64 places a corner worse than 1e-12 of its distance
OTHER, HEAD, AFTER = range(3)  # columns of links between vertices
FAR = 1e300
_SIDES = 4  # labels of sides are -1 to -4
_LABEL = (1 << 32) - 1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def name_of(vertex, label):
    """A corner's vertex, and the line of the edge to the next corner, as one word."""
    return (vertex << 32) | (label + _SIDES)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def vertex_of(name):
    return name >> 32


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def label_of(name):
    """Hinge, or -1 - side of the domain."""
    return (name & _LABEL) - _SIDES


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def known_cut(link, a, b):
    """The vertex that cuts the edge between vertices a and b, or -1: the younger end keeps a list of such vertices."""
    old, young = (b, a) if a > b else (a, b)
    v = np.int64(link[nth(young), HEAD])
    while v >= 0 and link[nth(v), OTHER] != old:
        v = np.int64(link[nth(v), AFTER])
    return v


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def remember_cut(link, a, b, v):
    """Vertex v cuts the edge between vertices a and b."""
    old, young = (b, a) if a > b else (a, b)
    link[nth(v), OTHER], link[nth(v), AFTER], link[nth(v), HEAD] = old, link[nth(young), HEAD], -1
    link[nth(young), HEAD] = v


@njit(cache=True, nogil=True, _nrt=False, fastmath=FAST)
def tally(x, y, f, n, a, b, c, limit):
    """How many corners are certainly on either side of a line, by one bound for all."""
    plus, minus = 0, 0
    for i in range(n):
        z = a * x[nth(f + i)] + b * y[nth(f + i)] + c
        plus += z > limit
        minus += z < -limit
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, fastmath=FAST)
def signs(net, w, g, x, y, d, name, f, n, a, b, c, C, E, pattern, s, Z, S, pair):
    """A hinge's values and signs at all corners, by a bound for each corner, and by exact arithmetic where that leaves one open.

    Returns:
        How many are + and -.
    """
    steep, open_ = abs(a) + abs(b) + 2 * C, 0
    for i in range(n):
        p, q = x[f + i], y[f + i]
        z, t = a * p + b * q + c, E + C * (abs(p) + abs(q)) + steep * d[f + i]
        Z[i] = z
        if z > t:
            S[i] = 1
        elif z < -t:
            S[i] = -1
        elif t == 0.0:
            S[i] = 0
        else:
            S[i] = 2
            open_ += 1
    if open_:
        current(w, pattern, s)
    plus, minus = 0, 0
    for i in range(n):
        if S[i] == 2:
            pair[0], pair[1] = label_of(name[f + (i - 1 if i else n - 1)]), label_of(name[f + i])
            S[i] = exact_sign(net, w, pair, g, 2)
            if S[i] * Z[i] <= 0.0:  # a value of the right sign, so that a cut lies between its ends
                Z[i] = S[i] * max(abs(Z[i]), 1e-300)
        plus += S[i] > 0
        minus += S[i] < 0
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def current(w, pattern, s):
    """Tell the exact stage which pattern holds."""
    for i in range(pattern.shape[1]):
        w.pattern[i] = np.uint64(pattern[s, i])


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def line(size, stride, first, stage, row_at, rows, slope_error, shift_error, lower, upper, label):
    """a, b, c of a line, and its stage's C and E."""
    if label >= 0:
        l = stage[label]
        at, n = row_at[l] + label - first[nth(l)], stride[nth(l)]
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
    return x, y, (1.01 * (first * two + second * one) / det if det > 0 else FAR), not det >= SHARP * one * two


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def put(x, y, d, name, at, xi, yi, di, word):
    """A corner."""
    x[nth(at)], y[nth(at)], d[nth(at)], name[nth(at)] = xi, yi, di, word


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def copy_run(x, y, d, name, f, n, start, to):
    """Up to eight corners in turn, from number `start` of a polygon of at most eight on, to place `to` on; what follows there is overwritten."""
    wrapped = to + n - start
    copy(x, nth(f + start), nth(to))
    copy(y, nth(f + start), nth(to))
    copy(d, nth(f + start), nth(to))
    copy(name, nth(f + start), nth(to))
    copy(x, nth(f), nth(wrapped))
    copy(y, nth(f), nth(wrapped))
    copy(d, nth(f), nth(wrapped))
    copy(name, nth(f), nth(wrapped))


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
