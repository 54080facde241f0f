"""Vertices in D dimensions: where they are, how far off that may be, and exact signs there.

A vertex that cuts an edge is interpolated; its error radius follows from those of the edge's ends, which are true
vertices: the true edge runs within that distance, and along it the hinge changes at a known rate. The bound grows from cut to
cut, so once it is large the vertex is placed anew from D of its facets, by one Newton step and a bound with an
approximate inverse (Verification methods: rigorous results using floating-point arithmetic, Rump, 2010, section 10).
"""

import numpy as np

from relukit._numba import njit
from relukit.geometry._bits import lowest, nth
from relukit.geometry._clip import SHARP
from relukit.geometry._exact import exact_sign, place_exactly

FAR = 1e300
_U = 2.0**-52
_PIVOT = 2.0**-30  # facets whose normals are closer to dependent than this are left to the exact stage


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def facet_labels(M, W, i, slots, labels):
    """Labels of the facets that vertex i lies on."""
    many = 0
    for q in range(W):
        m = M[q, i]
        while m:
            labels[many] = slots[64 * q + lowest(m)]
            many += 1
            m &= m - np.uint64(1)
    return many


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def value_at(grid, c, D, vx, v):
    """Value at vertex v of the hinge in column c of a grid (columns 64 entries long, see `_signs.take`)."""
    z = grid[nth(c + 64 * D)]
    for k in range(D):
        z += grid[nth(c + 64 * k)] * vx[nth(v), k]
    return z


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def place_vertex(vx, vd, i, j, D, grid, c, C, E, reach, u):
    """Coordinates of vertex u on the edge from vertex i, where a hinge (column c of a grid) is positive, to vertex j; and their error radius.

    Returns:
        Whether the edge and the hinge meet at a tiny angle, so that the vertex is better placed from its exact lines.
    """
    above, below = value_at(grid, c, D, vx, i), value_at(grid, c, D, vx, j)
    above, below = (above if above > 0 else max(-above, 1e-300)), (below if below < 0 else min(-below, -1e-300))
    t, di, dj, steep = above / (above - below), vd[nth(i)], vd[nth(j)], grid[nth(c + 64 * (D + 1))]
    z, size, step, largest = grid[nth(c + 64 * D)], 0.0, 0.0, 0.0
    constant = abs(z)
    for k in range(D):
        a, b = vx[nth(i), k], vx[nth(j), k]
        x = a + t * (b - a)
        vx[nth(u), k] = x
        z += grid[nth(c + 64 * k)] * x
        size += abs(x)
        step = max(step, abs(b - a))
        largest = max(largest, abs(a), abs(b))
    off = max(di, dj) + 6 * _U * largest
    gap = above - below - 2 * (E + C * reach + steep * max(di, dj))
    rest = abs(z) + E + C * size + steep * (off + (D + 2) * _U * size) + (D + 2) * _U * constant
    vd[nth(u)] = 1.01 * (off + (step + di + dj) * rest / gap) if gap > 0 else FAR
    return not above - below >= SHARP * step * steep


@njit(cache=True, nogil=True, _nrt=False)
def _row(net, w, label, D, row):
    """A facet's row in floats, into `row[:D + 1]`; returns its C and E."""
    if label >= 0:
        l = net.stage[label]
        at, n = w.row_at[l] + label - net.first[l], net.size[l]
        for k in range(D + 1):
            row[k] = w.rows[at + k * n]
        return net.slope_error[l], net.shift_error[l]
    side = -1 - label
    for k in range(D):
        row[k] = 0.0
    row[side >> 1] = 1.0
    row[D] = -(w.lower[side >> 1] if side % 2 == 0 else w.upper[side >> 1])
    return 0.0, 0.0


@njit(cache=True, nogil=True, _nrt=True)
def _choose(net, w, D, labels, many):
    """Move D facets with normals as independent as may be to the front of `labels` (Gram-Schmidt with pivots)."""
    normals, row = np.empty((many, D)), np.empty(D + 1)
    for i in range(many):
        _row(net, w, labels[i], D, row)
        size = 0.0
        for k in range(D):
            size += row[k] * row[k]
        size = 1.0 / np.sqrt(size) if size > 0 else 0.0
        for k in range(D):
            normals[i, k] = row[k] * size
    good = True
    for r in range(min(D, many)):
        best, top = r, -1.0
        for i in range(r, many):
            size = 0.0
            for k in range(D):
                size += normals[i, k] * normals[i, k]
            if size > top:
                best, top = i, size
        if best != r:
            labels[r], labels[best] = labels[best], labels[r]
            for k in range(D):
                normals[r, k], normals[best, k] = normals[best, k], normals[r, k]
        if top < _PIVOT:
            good = False
            continue
        for i in range(r + 1, many):
            dot = 0.0
            for k in range(D):
                dot += normals[i, k] * normals[r, k]
            for k in range(D):
                normals[i, k] -= dot / top * normals[r, k]
    return good


@njit(cache=True, nogil=True, _nrt=True)
def polish(net, w, D, labels, many, vx, vd, v):
    """Place vertex v anew from D of its facets; returns whether its error radius became at most half."""
    largest = 0.0
    for k in range(D):
        largest = max(largest, abs(vx[v, k]))
    if many < D or vd[v] <= 64 * _U * largest or not _choose(net, w, D, labels, many):
        return False
    A, B = np.empty((D, D + 1)), np.eye(D)
    C, E = np.empty(D), np.empty(D)
    for i in range(D):
        C[i], E[i] = _row(net, w, labels[i], D, A[i])
    T = A[:, :D].copy()
    for r in range(D):  # Gauss-Jordan with row pivots
        best = r
        for i in range(r + 1, D):
            if abs(T[i, r]) > abs(T[best, r]):
                best = i
        if T[best, r] == 0.0:
            return False
        for k in range(D):
            T[r, k], T[best, k] = T[best, k], T[r, k]
            B[r, k], B[best, k] = B[best, k], B[r, k]
        scale = 1.0 / T[r, r]
        for k in range(D):
            T[r, k] *= scale
            B[r, k] *= scale
        for i in range(D):
            if i != r and T[i, r] != 0.0:
                factor = T[i, r]
                for k in range(D):
                    T[i, k] -= factor * T[r, k]
                    B[i, k] -= factor * B[r, k]
    x, r = np.empty(D), np.empty(D)
    for k in range(D):
        x[k] = vx[v, k]
    for turn in range(2):
        for i in range(D):
            z, size, terms = A[i, D], 0.0, abs(A[i, D])
            for k in range(D):
                z += A[i, k] * x[k]
                size += abs(x[k])
                terms += abs(A[i, k] * x[k])
            r[i] = z if turn == 0 else abs(z) + E[i] + C[i] * size + (D + 2) * _U * terms
        if turn == 0:
            for k in range(D):
                for i in range(D):
                    x[k] -= B[k, i] * r[i]
    gamma, radius = 0.0, 0.0
    for k in range(D):
        norm, reach = 0.0, 0.0
        for i in range(D):
            reach += abs(B[k, i]) * r[i]
            s, t = (1.0 if i == k else 0.0), 0.0
            for j in range(D):
                s -= B[k, j] * A[j, i]
                t += abs(B[k, j]) * ((D + 3) * _U * abs(A[j, i]) + C[j])
            norm += abs(s) + t
        gamma, radius = max(gamma, norm), max(radius, reach)
    if not gamma < 0.5:
        return False
    radius = 1.01 * radius / (1.0 - gamma)
    if radius > 0.5 * vd[v]:
        return False
    for k in range(D):
        vx[v, k] = x[k]
    vd[v] = radius
    return True


@njit(cache=True, nogil=True, _nrt=True)
def place_anew(net, w, D, labels, many, vx, vd, v):
    """Place vertex v from D of its facets in exact arithmetic, where they meet in one point."""
    if many < D:
        return
    _choose(net, w, D, labels, many)
    x = np.empty(D)
    radius = place_exactly(net, w, labels, D, x)
    if radius >= 0:
        for k in range(D):
            vx[v, k] = x[k]
        vd[v] = radius


@njit(cache=True, nogil=True, _nrt=True)
def vertex_sign(net, w, D, labels, many, g):
    """Exact sign of hinge g at the vertex on these facets (of the current cell)."""
    _choose(net, w, D, labels, many)
    base = (1 << D) - 1
    sign = exact_sign(net, w, labels, g, D)
    if w.minor_lengths[base] or many <= D or w.flag[0]:
        return sign
    pick, chosen = np.arange(D), np.empty(D, np.int64)
    while True:  # the chosen normals are dependent: every other choice in turn
        for k in range(D):
            chosen[k] = labels[pick[k]]
        sign = exact_sign(net, w, chosen, g, D)
        if w.minor_lengths[base] or w.flag[0]:
            return sign
        k = D - 1
        while k >= 0 and pick[k] == many - D + k:
            k -= 1
        if k < 0:
            return 0
        pick[k] += 1
        for i in range(k + 1, D):
            pick[i] = pick[i - 1] + 1
