"""Where a hinge cuts a polygon (see `_planar`): the vertices on its edges, named once whatever side they are seen from, and the two parts."""

from relukit._numba import njit
from relukit.geometry._bits import nth
from relukit.geometry._clip import (
    FAR,
    current,
    known_cut,
    label_of,
    line,
    meeting,
    name_of,
    put,
    remember_cut,
    vertex_of,
)
from relukit.geometry._exact import place_exactly
from relukit.geometry._walk import VERTICES


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def crossing(
    net, w, x, y, d, name, place, radius, link, pattern, s, pair, i, j, zi, zj, g, a, b, c, C, E,
    size, stride, first, stage, row_at, rows, slope_error, shift_error, lower, upper, total, spot,
):  # fmt: skip
    """The vertex where a hinge cuts the edge from corner i to j (places): its number, coordinates, error; and how many there are then."""
    one, two = vertex_of(name[nth(i)]), vertex_of(name[nth(j)])
    q = known_cut(link, one, two)
    if q >= 0:
        return q, place[nth(q), 0], place[nth(q), 1], radius[nth(q)], total
    t, q, edge = zi / (zi - zj), total, label_of(name[nth(i)])
    a2, b2, c2, C2, E2 = line(size, stride, first, stage, row_at, rows, slope_error, shift_error, lower, upper, edge)
    X, Y, r, sharp = meeting(
        x[nth(i)] + t * (x[nth(j)] - x[nth(i)]), y[nth(i)] + t * (y[nth(j)] - y[nth(i)]), a, b, c, C, E, a2, b2, c2, C2, E2
    )  # fmt: skip
    if sharp or not r < FAR:
        pair[0], pair[1] = edge, g
        current(w, pattern, s)
        placed = place_exactly(net, w, pair, 2, spot)
        if placed >= 0:
            X, Y, r = spot[0], spot[1], placed
    place[nth(q), 0], place[nth(q), 1], radius[nth(q)] = X, Y, r
    remember_cut(link, one, two, q)
    return q, X, Y, r, total + 1


@njit(cache=True, nogil=True, _nrt=False)
def cut_any(
    net, w, x, y, d, name, place, radius, link, pattern, s, pair, f, n, g, a, b, c, C, E, Z, S, reach, spread_, spot
):  # fmt: skip
    """The two parts of a polygon with any signs at its corners, behind it: off, then on.

    Returns:
        Corners of the first part, corners of the second, and the two parts' bounds. The second begins n + 2 places after the first.
    """
    low, high, total = f + n, f + 2 * n + 2, w.counts[VERTICES]
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        e, k, si, sj = f + i, f + j, S[i], S[j]
        edge = label_of(name[e])
        if si <= 0:
            put(x, y, d, name, low, x[e], y[e], d[e], name_of(vertex_of(name[e]), g if si == 0 and sj > 0 else edge))
            low += 1
        if si >= 0:
            put(x, y, d, name, high, x[e], y[e], d[e], name_of(vertex_of(name[e]), g if si == 0 and sj < 0 else edge))
            high += 1
        if si * sj < 0:
            q, X, Y, r, total = crossing(
                net, w, x, y, d, name, place, radius, link, pattern, s, pair, e, k, Z[i], Z[j], g, a, b, c, C, E,
                net.size, net.stride, net.first, net.stage, w.row_at, w.rows, net.slope_error, net.shift_error, w.lower, w.upper, total, spot,
            )  # fmt: skip
            reach, spread_ = max(reach, abs(X) + abs(Y)), max(spread_, r)
            put(x, y, d, name, low, X, Y, r, name_of(q, g if si < 0 else edge))
            put(x, y, d, name, high, X, Y, r, name_of(q, g if si > 0 else edge))
            low, high = low + 1, high + 1
    w.counts[VERTICES] = total
    return low - (f + n), high - (f + 2 * n + 2), reach, spread_
