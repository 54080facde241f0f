"""Values and signs of one hinge at the vertices of a cell in D dimensions.

A sign belongs to a vertex and a hinge, whatever the cell: where the float filter leaves it open, it is computed once in
exact arithmetic and remembered.
"""

import numpy as np
from numba import njit

from relukit.geometry._bits import nth
from relukit.geometry._vertex import facet_labels, polish, vertex_sign
from relukit.geometry._walk import FAST, SIGNS


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def evaluate(rows, at, wide, X, f, n, D, Z, limit):
    """A hinge's values at a cell's n vertices; how many lie above `limit` and how many below its negative."""
    constant, plus, minus = rows[nth(at + D * wide)], 0, 0
    if D == 3:
        a, b, c = rows[nth(at)], rows[nth(at + wide)], rows[nth(at + 2 * wide)]
        x, y, z = X[0], X[1], X[2]
        for i in range(n):
            s = constant + a * x[nth(f + i)] + b * y[nth(f + i)] + c * z[nth(f + i)]
            Z[i] = s
            plus += s > limit
            minus += s < -limit
        return plus, minus
    if D == 4:
        a, b = rows[nth(at)], rows[nth(at + wide)]
        c, d = rows[nth(at + 2 * wide)], rows[nth(at + 3 * wide)]
        x, y, z, t = X[0], X[1], X[2], X[3]
        for i in range(n):
            s = constant + a * x[nth(f + i)] + b * y[nth(f + i)] + c * z[nth(f + i)] + d * t[nth(f + i)]
            Z[i] = s
            plus += s > limit
            minus += s < -limit
        return plus, minus
    for i in range(n):
        Z[i] = constant
    k = 0
    while k + 2 < D:
        a, b, x, y = rows[nth(at + k * wide)], rows[nth(at + (k + 1) * wide)], X[k], X[k + 1]
        for i in range(n):
            Z[i] = Z[i] + a * x[nth(f + i)] + b * y[nth(f + i)]
        k += 2
    a, x = rows[nth(at + k * wide)], X[k]
    b, y = (rows[nth(at + (k + 1) * wide)], X[k + 1]) if k + 1 < D else (0.0, x)
    for i in range(n):
        s = Z[i] + a * x[nth(f + i)] + b * y[nth(f + i)]
        Z[i] = s
        plus += s > limit
        minus += s < -limit
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False)
def open_signs(net, w, p, g, f, n, D, W, at, wide, C, E, steep, Z, S):
    """Signs of hinge g where the cell-wide bound left some open; counts of + and -, or minus one for no room."""
    counts, vx, vd, V, X, M, labels = w.counts, p.vx, p.vd, p.v, p.x, p.mask, p.labels
    plus, minus = 0, 0
    for i in range(n):
        v, size = V[f + i], 0.0
        for k in range(D):
            size += abs(X[k, f + i])
        z, s = Z[i], 2
        limit = E + C * size + steep * X[D, f + i]
        if z > limit:
            s = 1
        elif z < -limit:
            s = -1
        elif limit == 0.0:
            s = 0
        else:
            key = v * len(w.exact_stamp) + g + 1
            q = sign_slot(p.sign_key, key)
            while p.sign_key[q] and p.sign_key[q] != key:
                q = (q + 1) & (len(p.sign_key) - 1)
            if p.sign_key[q] == key:
                s = p.sign[q]
            else:
                if 2 * counts[SIGNS] > len(p.sign_key):
                    return -1, 0
                many = facet_labels(M, W, f + i, p.slot, labels)
                if polish(net, w, D, labels, many, vx, vd, v):
                    z, size = w.rows[at + D * wide], 0.0
                    for k in range(D):
                        X[k, f + i] = vx[v, k]
                        z += w.rows[at + k * wide] * vx[v, k]
                        size += abs(vx[v, k])
                    X[D, f + i] = vd[v]
                    Z[i] = z
                    limit = E + C * size + steep * vd[v]
                    if z > limit:
                        s = 1
                    elif z < -limit:
                        s = -1
                if s == 2:
                    s = vertex_sign(net, w, D, labels, many, g)
                p.sign_key[q], p.sign[q] = key, s
                counts[SIGNS] += 1
            if s * z <= 0.0:  # a value of the right sign, so that a cut lies between its ends
                Z[i] = s * max(abs(z), 1e-300)
        S[i] = s
        plus += s > 0
        minus += s < 0
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def sign_slot(table, key):
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((h >> np.uint64(20)) & np.uint64(len(table) - 1))


@njit(cache=True, nogil=True)
def rehash_signs(old_key, old_sign, key, sign):
    """Remembered signs into a larger table."""
    for i in range(len(old_key)):
        if old_key[i]:
            s = sign_slot(key, old_key[i])
            while key[s]:
                s = (s + 1) & (len(key) - 1)
            key[s], sign[s] = old_key[i], old_sign[i]
