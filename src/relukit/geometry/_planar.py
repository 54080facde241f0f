"""All polygons of a form with two coordinates, by clipping, with exact signs.

A corner is the meeting point of its two edges' lines, which are distinct. Its computed coordinates carry a bound `d`
of their error, and a hinge's sign there is certain once

    |z| > E + C (|x| + |y|) + (|a| + |b| + 2 C) d,

with the stage's E and C; otherwise it is the sign of two determinants in exact arithmetic. E and C are kept apart, so
that lines through an exact origin meet there with sign 0 at no cost. A corner on the line goes to both sides.

Vertices are shared: a new vertex is known by the two vertices of the edge it cuts. An edge is cut first by one hinge
only, seen alike from both of its sides since every hinge is continuous, so the pair is a unique name.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from relukit._types import Array, IntArray
from relukit.geometry._walk import (
    BUDGET,
    CELLS,
    CORNERS_FULL,
    DONE,
    FAST,
    INDICES,
    INNER,
    OUTPUT_FULL,
    STACK,
    STACK_FULL,
    STAMP,
    TESTS,
    VERTICES,
    VERTICES_FULL,
    ZERO,
    add_decided,
    add_on,
    add_skips,
    decide,
    exact_sign,
    set_on,
)

_FAR = 1e300


class Polygons(NamedTuple):
    """Waiting polygons (a stack), the shared vertices, and the finished pieces."""

    meta: IntArray  # stage, next candidate, corners
    x: Array
    y: Array
    d: Array
    v: IntArray
    label: IntArray  # of the edge from this corner to the next
    pattern: Array
    carry: Array
    vx: Array
    vy: Array
    vd: Array
    vkey: IntArray  # the cut edge: larger vertex * 2^32 + smaller one
    table: IntArray
    offsets: IntArray
    indices: IntArray
    labels: IntArray
    patterns: Array
    maps: Array
    area: Array  # twice the sum, and what rounding took from it
    number: Array  # room for one polygon, (4, corners)
    whole: IntArray  # (6, corners)
    extent: Array  # (2, 2)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def slot(table, key):
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((h >> np.uint64(20)) & np.uint64(len(table) - 1))


@njit(cache=True, nogil=True, _nrt=False)
def rehash(table, keys, count):
    """Fill an empty table with the keys of vertices that cut an edge."""
    for v in range(count):
        if keys[v] >= 0:
            s = slot(table, keys[v])
            while table[s]:
                s = (s + 1) & (len(table) - 1)
            table[s] = v + 1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _line(size, first, stage, direct_at, rows, slope_error, shift_error, lower, upper, label):
    """a, b, c of a line, and its stage's C and E."""
    if label >= 0:
        l = stage[label]
        at, n = direct_at[l] + label - first[l], size[l]
        return rows[at], rows[at + n], rows[at + 2 * n], slope_error[l], shift_error[l]
    side = -1 - label
    bound = lower[side >> 1] if side % 2 == 0 else upper[side >> 1]
    return (1.0 if side < 2 else 0.0), (0.0 if side < 2 else 1.0), -bound, 0.0, 0.0


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _vertex(x, y, a, b, c, C, E, e, f, k, C2, E2):
    """Where two lines meet near (x, y), and a bound of the error, by Cramer's rule on their residuals."""
    if c == 0.0 and k == 0.0 and E == 0.0 and E2 == 0.0:
        return 0.0, 0.0, 0.0
    u = 2.0**-52
    size = abs(x) + abs(y)
    first = abs(a * x + b * y + c) + E + C * size + 2 * u * ((abs(a) + abs(b)) * size + abs(c))
    second = abs(e * x + f * y + k) + E2 + C2 * size + 2 * u * ((abs(e) + abs(f)) * size + abs(k))
    one, two = abs(a) + abs(b) + 2 * C, abs(e) + abs(f) + 2 * C2
    det = abs(a * f - b * e) - (2 * u * (abs(a * f) + abs(b * e)) + 1.01 * (C * two + C2 * one))
    return x, y, (1.01 * (first * two + second * one) / det if det > 0 else _FAR)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _known(table, keys, a, b):
    """The vertex that cuts the edge between vertices a and b, or -1 - (its place in the table)."""
    key = (a << 32) | b if a > b else (b << 32) | a
    s = slot(table, key)
    while table[s]:
        v = table[s] - 1
        if keys[v] == key:
            return v
        s = (s + 1) & (len(table) - 1)
    return -1 - s


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _side(n, V, L, S, new, g, sign, V2, L2):
    """Corners and edge labels of the part where `sign * z >= 0`; new[i] is the vertex inside edge i."""
    m = 0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        a, b = S[i] * sign, S[j] * sign
        if a >= 0:
            V2[m], L2[m] = V[i], (g if a == 0 and b < 0 else L[i])
            m += 1
        if a * b < 0:
            V2[m], L2[m] = new[i], (g if a > 0 else L[i])
            m += 1
    return m


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def _signs(a, b, c, C, E, n, X, Y, D, Z, S):
    """Signs of one hinge at all corners, 2 where rounding leaves it open; returns how many are +, -, open."""
    steep = abs(a) + abs(b) + 2 * C
    plus, minus, unknown = 0, 0, 0
    for i in range(n):
        z = a * X[i] + b * Y[i] + c
        t = E + C * (abs(X[i]) + abs(Y[i])) + steep * D[i]
        Z[i] = z
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
def _exact_signs(net, w, g, n, L, Z, S, pair):
    """The open signs by exact arithmetic; returns how many are + and -."""
    plus, minus = 0, 0
    for i in range(n):
        if S[i] == 2:
            pair[0], pair[1] = L[i - 1 if i else n - 1], L[i]
            S[i] = exact_sign(net, w, pair, g, 2)
            if S[i] * Z[i] <= 0.0:  # a value of the right sign, so that a cut lies between its ends
                Z[i] = S[i] * max(abs(Z[i]), 1e-300)
        plus += S[i] > 0
        minus += S[i] < 0
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _box(n, X, Y, D, center, half):
    """The box around a polygon (rounded outward); returns the largest |x| + |y| and corner error."""
    x0, x1, y0, y1, d = X[0], X[0], Y[0], Y[0], D[0]
    for i in range(1, n):
        x0, x1, y0, y1, d = min(x0, X[i]), max(x1, X[i]), min(y0, Y[i]), max(y1, Y[i]), max(d, D[i])
    center[0], center[1] = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    tiny = 4 * 2.0**-52
    half[0] = 0.5 * (x1 - x0) + tiny * (abs(x0) + abs(x1))
    half[1] = 0.5 * (y1 - y0) + tiny * (abs(y0) + abs(y1))
    return max(abs(x0), abs(x1)) + max(abs(y0), abs(y1)), d


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _area(n, X, Y, total):
    """Add twice the polygon's area to a sum with its compensation (Neumaier, 1974)."""
    area = 0.0
    for i in range(1, n - 1):
        area += (X[i] - X[0]) * (Y[i + 1] - Y[0]) - (X[i + 1] - X[0]) * (Y[i] - Y[0])
    t = total[0] + area
    total[1] += (total[0] - t) + area if abs(total[0]) >= abs(area) else (area - t) + total[0]
    total[0] = t


@njit(cache=True, nogil=True, _nrt=False)
def walk_polygons(net, w, p, stop):
    """Finish waiting polygons until none waits, `stop` pieces are found, or room runs out; returns why."""
    room = p.x.shape[1]
    X, Y, D, Z = p.number[0], p.number[1], p.number[2], p.number[3]
    V, L, V2, L2, S, new = p.whole[0], p.whole[1], p.whole[2], p.whole[3], p.whole[4], p.whole[5]
    center, half = p.extent[0], p.extent[1]
    size, first, direct, direct_at = net.size, net.first, net.direct, net.direct_at
    weight, weight_at, keep = net.weight, net.weight_at, net.keep
    slope_error, shift_error, skips = net.slope_error, net.shift_error, len(net.skip)
    rows, found, found_count, stamp = w.rows, w.found, w.found_count, w.stamp
    value, margin, on, carry, pattern, counts = w.value, w.margin, w.on, w.carry, w.pattern, w.counts
    meta, px, py, pd, pv, pl, ppattern, pcarry = p.meta, p.x, p.y, p.d, p.v, p.label, p.pattern, p.carry
    vx, vy, vd, vkey, table = p.vx, p.vy, p.vd, p.vkey, p.table
    offsets, indices, labels, patterns, maps, area = p.offsets, p.indices, p.labels, p.patterns, p.maps, p.area
    last, words = len(size) - 1, len(pattern)
    while counts[STACK]:
        if counts[CELLS] >= stop:
            return BUDGET
        if counts[CELLS] == len(patterns) or counts[INDICES] + room > len(indices):  # one piece is finished per turn
            return OUTPUT_FULL
        s = counts[STACK] - 1
        counts[STACK] = s
        l, at, n = meta[s, 0], meta[s, 1], meta[s, 2]
        for i in range(n):
            X[i], Y[i], D[i], V[i], L[i] = px[s, i], py[s, i], pd[s, i], pv[s, i], pl[s, i]
        for i in range(words):
            pattern[i] = ppattern[s, i]
        waiting = pcarry[s]
        for i in range(3 * size[l + 1]):
            carry[i] = waiting[i]
        alive = True
        while alive:
            if l >= 0:
                wide, base, m = size[l], direct_at[l], size[l + 1]
                C, E, gain = slope_error[l], shift_error[l], weight_at[l + 1]
                full = 0
                while at < found_count[l]:
                    u = found[first[l] + at]
                    g = first[l] + u
                    a, b, c = rows[base + u], rows[base + wide + u], rows[base + 2 * wide + u]
                    plus, minus, unknown = _signs(a, b, c, C, E, n, X, Y, D, Z, S)
                    counts[TESTS] += n
                    counts[ZERO] += n - plus - minus - unknown
                    if unknown:
                        plus, minus = _exact_signs(net, w, g, n, L, Z, S, V2)
                    kept = keep[g]
                    if plus and minus:
                        if n + 2 > room:
                            full = CORNERS_FULL
                        elif counts[STACK] + 2 > len(px):
                            full = STACK_FULL
                        elif counts[VERTICES] + 2 > len(vx):
                            full = VERTICES_FULL
                        if full:  # wait as it stands
                            break
                        for i in range(n):
                            j = i + 1 if i + 1 < n else 0
                            if S[i] * S[j] < 0:
                                v = _known(table, vkey, V[i], V[j])
                                if v < 0:
                                    t = Z[i] / (Z[i] - Z[j])
                                    q = counts[VERTICES]
                                    x, y = X[i] + t * (X[j] - X[i]), Y[i] + t * (Y[j] - Y[i])
                                    e, f, k, C2, E2 = _line(
                                        size,
                                        first,
                                        net.stage,
                                        direct_at,
                                        rows,
                                        slope_error,
                                        shift_error,
                                        w.lower,
                                        w.upper,
                                        L[i],
                                    )
                                    vx[q], vy[q], vd[q] = _vertex(x, y, a, b, c, C, E, e, f, k, C2, E2)
                                    vkey[q] = (max(V[i], V[j]) << 32) | min(V[i], V[j])
                                    table[-1 - v] = q + 1
                                    counts[VERTICES] = q + 1
                                    v = q
                                new[i] = v
                        at += 1
                        if not kept:
                            s = counts[STACK]
                            counts[STACK] = s + 1
                            k = _side(n, V, L, S, new, g, -1, V2, L2)
                            meta[s, 0], meta[s, 1], meta[s, 2] = l, at, k
                            for i in range(k):
                                v = V2[i]
                                px[s, i], py[s, i], pd[s, i], pv[s, i], pl[s, i] = vx[v], vy[v], vd[v], v, L2[i]
                            for i in range(words):
                                ppattern[s, i] = pattern[i]
                            waiting = pcarry[s]
                            for i in range(3 * m):
                                waiting[i] = carry[i]
                            set_on(pattern, g)
                            add_on(rows, base, wide, weight, gain, m, u, 2, carry)
                        n = _side(n, V, L, S, new, g, -1 if kept else 1, V2, L2)
                        for i in range(n):
                            v = V2[i]
                            X[i], Y[i], D[i], V[i], L[i] = vx[v], vy[v], vd[v], v, L2[i]
                    else:
                        at += 1
                        if plus:
                            if kept:
                                alive = False
                                break
                            set_on(pattern, g)
                            add_on(rows, base, wide, weight, gain, m, u, 2, carry)
                if full:
                    s = counts[STACK]
                    counts[STACK] = s + 1
                    meta[s, 0], meta[s, 1], meta[s, 2] = l, at, n
                    for i in range(n):
                        px[s, i], py[s, i], pd[s, i], pv[s, i], pl[s, i] = X[i], Y[i], D[i], V[i], L[i]
                    for i in range(words):
                        ppattern[s, i] = pattern[i]
                    for i in range(3 * m):
                        pcarry[s, i] = carry[i]
                    return full
                if not alive:
                    break
            l += 1
            wide, base = size[l], direct_at[l]
            for i in range(3 * wide):
                rows[base + i] = carry[i]
            if skips:
                add_skips(net, w, l, 2)
            if l == last:
                k, q = counts[CELLS], counts[INDICES]
                for i in range(n):
                    indices[q + i], labels[q + i] = V[i], L[i]
                    counts[INNER] += L[i] >= 0
                counts[INDICES] = q + n
                counts[CELLS] = k + 1
                offsets[k + 1] = q + n
                for i in range(words):
                    patterns[k, i] = pattern[i]
                for i in range(3 * wide):
                    maps[k, i] = rows[base + i]
                _area(n, X, Y, area)
                break
            reach, spread = _box(n, X, Y, D, center, half)
            counts[STAMP] += 1
            stamp[l] = counts[STAMP]
            slack = shift_error[l] + slope_error[l] * (reach + 4 * spread)
            some, found_count[l] = decide(
                rows,
                base,
                wide,
                2,
                slope_error[l],
                slack,
                center,
                half,
                spread,
                value,
                margin,
                pattern,
                first[l],
                on,
                found,
            )
            if some and keep[first[l]]:  # a half-space of the domain leaves it out
                break
            m, q = size[l + 1], direct_at[l + 1]
            for i in range(3 * m):
                carry[i] = direct[q + i]
            add_decided(rows, base, wide, weight, weight_at[l + 1], m, on, some, 2, carry)
            at = 0
    return DONE
