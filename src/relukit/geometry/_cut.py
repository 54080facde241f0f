"""One cell in D dimensions and one hinge: values and signs at its vertices, the vertices of the cut, the finished cell.

An edge joins two vertices that share D - 1 facets (where both lie on more than D facets, also no third vertex may lie on
all shared ones). A sign belongs to a vertex and a hinge, whatever the cell: where the float filter leaves it open, it is
computed once in exact arithmetic and remembered.
"""

import numpy as np
from numba import njit

from relukit.geometry._bits import lowest, nth, ones
from relukit.geometry._clip import known, remember
from relukit.geometry._vertex import facet_labels, place_vertex, polish, vertex_sign
from relukit.geometry._walk import CELLS, CORNERS_FULL, FACETS, FAST, INDICES, SIGNS, VERTICES, VERTICES_FULL


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def evaluate(rows, at, wide, X, f, n, D, Z, limit):
    """A hinge's values at a cell's n vertices; how many lie above `limit` and how many below its negative."""
    c, k = rows[nth(at + D * wide)], 0
    for i in range(n):
        Z[i] = c
    while k + 3 <= D:
        a, b, c = rows[nth(at + k * wide)], rows[nth(at + (k + 1) * wide)], rows[nth(at + (k + 2) * wide)]
        x, y, z = X[k], X[k + 1], X[k + 2]
        for i in range(n):
            Z[i] = Z[i] + a * x[nth(f + i)] + b * y[nth(f + i)] + c * z[nth(f + i)]
        k += 3
    if k + 2 <= D:
        a, b = rows[nth(at + k * wide)], rows[nth(at + (k + 1) * wide)]
        x, y = X[k], X[k + 1]
        for i in range(n):
            Z[i] = Z[i] + a * x[nth(f + i)] + b * y[nth(f + i)]
    elif k < D:
        a, x = rows[nth(at + k * wide)], X[k]
        for i in range(n):
            Z[i] = Z[i] + a * x[nth(f + i)]
    plus, minus = 0, 0
    for i in range(n):
        plus += Z[i] > limit
        minus += Z[i] < -limit
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


@njit(cache=True, nogil=True, _nrt=False)
def is_edge(M, f, n, W, i, j, D):
    """Whether vertices i and j, which share at least D - 1 facets, are the ends of an edge."""
    a, b = 0, 0
    for q in range(W):
        a += ones(M[q, f + i])
        b += ones(M[q, f + j])
    if a <= D or b <= D:
        return True
    for k in range(n):
        if k != i and k != j:
            inside = True
            for q in range(W):
                both = M[q, f + i] & M[q, f + j]
                inside = inside and (M[q, f + k] & both) == both
            if inside:
                return False
    return True


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def sort_by_sign(M, f, n, W, S, lists, sides):
    """Vertices with sign +, -, 0 into the lists, the facets they lie on into `sides`; returns how many of each."""
    plus, minus, zero = 0, 0, 0
    above, below, on = lists[0], lists[1], lists[2]
    for i in range(n):
        s = S[i]
        above[nth(plus)], below[nth(minus)], on[nth(zero)] = i, i, i
        plus += s > 0
        minus += s < 0
        zero += s == 0
    for q in range(W):
        mask = M[q]
        a, b, c = np.uint64(0), np.uint64(0), np.uint64(0)
        for i in range(plus):
            a |= mask[nth(f + above[i])]
        for i in range(minus):
            b |= mask[nth(f + below[i])]
        for i in range(zero):
            c |= mask[nth(f + on[i])]
        sides[0, q], sides[1, q], sides[2, q] = a, b, c
    return plus, minus, zero


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def free_slot(sides, W):
    """A facet number that the cell does not use, or -1."""
    for q in range(W):
        free = ~(sides[0, q] | sides[1, q] | sides[2, q])
        if free:
            return 64 * q + lowest(free)
    return -1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def cut(
    net, w, p, g, f, n, to, room, D, W, limit, blurred, at, wide, C, E, steep, Z, lists, plus, minus, mask
):  # fmt: skip
    """The vertices where hinge g cuts edges of a cell, written from place `to` on; how many, or -1 - (why there is no room)."""
    counts, vx, vd, V, X, M = w.counts, p.vx, p.vd, p.v, p.x, p.mask
    outer, inner, some, many = lists[0], lists[1], plus, minus
    if plus > minus:
        outer, inner, some, many = lists[1], lists[0], minus, plus
    M0 = M[0]
    for b in range(many):
        mask[b] = M0[nth(f + inner[b])]
    total, need = 0, D - 1
    for a in range(some):
        i = outer[a]
        first, start = M0[nth(f + i)], 0
        while start < many:
            stop = min(start + 64, many)
            part, hits = mask[start:stop], np.uint64(0)
            if W == 1:
                for b in range(stop - start):
                    hits |= np.uint64(ones(first & part[b]) >= need) << np.uint64(b)
            else:
                for b in range(stop - start):
                    shared = ones(first & part[b])
                    for q in range(1, W):
                        shared += ones(M[q, f + i] & M[q, f + inner[start + b]])
                    hits |= np.uint64(shared >= need) << np.uint64(b)
            while hits:
                j = inner[nth(start + lowest(hits))]
                hits &= hits - np.uint64(1)
                if not is_edge(M, f, n, W, i, j, D):
                    continue
                if total == room:
                    return -1 - CORNERS_FULL
                one, two = V[nth(f + i)], V[nth(f + j)]
                v = known(p.head, p.after, p.other, one, two)
                if v < 0:
                    v = counts[VERTICES]
                    if v == len(vd):
                        return -1 - VERTICES_FULL
                    place_vertex(X, f, Z, i, j, D, w.rows, at, wide, C, E, steep, limit, vx, vd, v)
                    remember(p.head, p.after, p.other, one, two, v)
                    counts[VERTICES] = v + 1
                t = to + total
                for q in range(W):
                    M[q, nth(t)] = M[q, nth(f + i)] & M[q, nth(f + j)]
                if vd[nth(v)] > blurred:
                    shared = facet_labels(M, W, t, p.slot, p.labels)
                    p.labels[shared] = g
                    polish(net, w, D, p.labels, shared + 1, vx, vd, v)
                V[nth(t)] = v
                for k in range(D):
                    X[k, nth(t)] = vx[nth(v), k]
                X[D, nth(t)] = vd[nth(v)]
                total += 1
            start = stop
    return total


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def write_part(V, X, M, f, to, lists, side, strict, zero, fresh, fresh_at, sides, new_slot, D, W):
    """One part of a cut cell, from place `to` on: new vertices, then those on its side, then those on the cut."""
    own, on = lists[side], lists[2]
    total = fresh + strict + zero
    source, target = V[f:], V[to : to + total]
    if to != fresh_at:
        for i in range(fresh):
            target[i] = V[nth(fresh_at + i)]
    tail, end = target[fresh : fresh + strict], target[fresh + strict :]
    for i in range(strict):
        tail[i] = source[own[i]]
    for i in range(zero):
        end[i] = source[on[i]]
    for k in range(D + 1):
        row = X[k]
        if to != fresh_at:
            for i in range(fresh):
                row[nth(to + i)] = row[nth(fresh_at + i)]
        for i in range(strict):
            row[nth(to + fresh + i)] = row[nth(f + own[i])]
        for i in range(zero):
            row[nth(to + fresh + strict + i)] = row[nth(f + on[i])]
    for q in range(W):
        row, keep = M[q], sides[side, q]
        bit = np.uint64(0)
        if q == new_slot >> 6:
            bit = np.uint64(1) << np.uint64(new_slot & 63)
        for i in range(fresh):
            row[nth(to + i)] = (row[nth(fresh_at + i)] & keep) | bit
        for i in range(strict):
            row[nth(to + fresh + i)] = row[nth(f + own[i])]
        for i in range(zero):
            row[nth(to + fresh + strict + i)] = (row[nth(f + on[i])] & keep) | bit


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def finish(w, p, f, n, W, sums, values):
    """Write a finished cell; its facets are numbered anew, without gaps."""
    counts, M = w.counts, p.mask
    k, q, total = counts[CELLS], counts[INDICES], 0
    facets = p.facets[counts[FACETS] :]
    for word in range(W):
        out = p.masks[word, q : q + n]
        for i in range(n):
            out[i] = 0
    for word in range(W):
        row = M[word, f : f + n]
        union = np.uint64(0)
        for i in range(n):
            union |= row[i]
        if total & 63 == 0:  # the facets before the first gap keep their places
            prefix = lowest(~union)
            keep = ~np.uint64(0) if prefix == 64 else (np.uint64(1) << np.uint64(prefix)) - np.uint64(1)
            out = p.masks[total >> 6, q : q + n]
            for i in range(n):
                out[i] = row[i] & keep
            for b in range(prefix):
                facets[nth(total + b)] = p.slot[nth(64 * word + b)]
            total += prefix
            union &= ~keep
        while union:
            b = lowest(union)
            facets[nth(total)] = p.slot[nth(64 * word + b)]
            out, down, up = p.masks[total >> 6, q : q + n], np.uint64(b), np.uint64(total & 63)
            for i in range(n):
                out[i] |= ((row[i] >> down) & np.uint64(1)) << up
            total += 1
            union &= union - np.uint64(1)
    indices = p.indices[q : q + n]
    for i in range(n):
        indices[i] = p.v[nth(f + i)]
    counts[INDICES], counts[FACETS], counts[CELLS] = q + n, counts[FACETS] + total, k + 1
    p.offsets[nth(k + 1)], p.facet_offsets[nth(k + 1)] = q + n, counts[FACETS]
    for i in range(len(w.pattern)):
        p.patterns[nth(k), i] = w.pattern[i]
    for i in range(values):
        p.maps[nth(k), i] = w.rows[nth(sums + i)]
